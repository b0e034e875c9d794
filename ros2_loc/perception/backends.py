"""What runs a dense network that `ros2-loc export` wrote: ONNX Runtime, OpenVINO, or TensorRT through ONNX Runtime.

Arrays in, arrays out; PyTorch is not needed. `perception.dense_network` puts these in the place of a network of `models`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError, DataError, MissingDependencyError
from ros2_loc.io.files import require_file
from ros2_loc.perception.signal_stack import own_signal_stack
from ros2_loc.registry import install_command

FORMAT = "ros2_loc exported network 1"
Maps = list[NDArray[np.float32]]


@dataclass(frozen=True)
class BackendConfig:
    """What runs the dense part of an extractor, or of a detector.

    Attributes:
        backend: torch; or onnxruntime, openvino, tensorrt (through ONNX Runtime) for an exported network.
        model: file that `ros2-loc export` wrote, not for torch.
        threads: of ONNX Runtime or OpenVINO; 0 for their own choice.
    """

    backend: Literal["torch", "onnxruntime", "openvino", "tensorrt"] = "torch"
    model: str = ""
    threads: int = 0

    def __post_init__(self) -> None:
        if self.threads < 0 or (self.backend == "torch" and self.model):
            raise ConfigError(f"threads must not be negative, and backend torch has no model: got {self.threads}, {self.model!r}")
        if self.backend != "torch" and getattr(self, "half", False):
            raise ConfigError(f"half: true is of backend torch; for {self.backend} export with --precision fp16")


class Runner(Protocol):
    """A network that is ready to run.

    Attributes:
        metadata: what the export wrote into the file; empty for files of others.
        size: (width, height) px that its images must have, or None where any multiple of `multiple` will do.
        multiple: 1 for files of others.
    """

    metadata: dict[str, str]
    size: tuple[int, int] | None
    multiple: int

    def run(self, *arrays: NDArray[np.float32]) -> Maps:
        """The inputs in their order, images (B, 3, H, W) where there is but one -> the outputs in theirs, maps (B, C, h, w) or (B, D)."""
        ...


class OnnxRunner:
    """ONNX Runtime: on the CPU, by CUDA, or by TensorRT."""

    def __init__(
        self, model: Path | bytes, device: str = "cpu", threads: int = 0, tensorrt: bool = False, engines: Path | None = None
    ) -> None:
        self._session = onnx_session(model, device, threads, tensorrt, engines)
        inputs = self._session.get_inputs()
        self._names = [one.name for one in inputs]
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.size = _fixed_size(inputs[0].shape)
        self.multiple = int(self.metadata.get("multiple", 1))

    def run(self, *arrays: NDArray[np.float32]) -> Maps:
        """See `Runner`."""
        named = zip(self._names, map(np.ascontiguousarray, arrays), strict=True)
        return self._session.run(None, dict(named))  # type: ignore[no-any-return]


class OpenVinoRunner:
    """OpenVINO on the CPU, in full precision unless the file is quantized."""

    def __init__(self, model: Path | bytes | Any, threads: int = 0) -> None:
        """`model`: a file, the content of one, or an `openvino.Model`."""
        openvino = _openvino()
        network = openvino_network(model)
        shape = network.inputs[0].partial_shape
        self.size = _fixed_size([side.get_length() if side.is_static else "" for side in shape])
        self.metadata = openvino_metadata(network)
        self.multiple = int(self.metadata.get("multiple", 1))
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        with own_signal_stack():
            self._compiled = openvino.compile_model(network, "CPU", options | ({"INFERENCE_NUM_THREADS": threads} if threads else {}))

    def run(self, *arrays: NDArray[np.float32]) -> Maps:
        """See `Runner`."""
        results = self._compiled([np.ascontiguousarray(one) for one in arrays])
        return [results[output] for output in self._compiled.outputs]


def open_runner(config: BackendConfig, model: Path | bytes | Any, device: str, engines: Path | None = None) -> Runner:
    """The runner of a backend other than torch.

    Args:
        config: backend and threads; the `model` in it is not looked at.
        model: a file, the content of one, or an `openvino.Model`.
        device: cpu or cuda.
        engines: folder where TensorRT keeps its engines, for a `model` that is no file.

    Raises:
        ConfigError: a backend that does not go with the device, or that this machine lacks.
        DataError: no such file, or one that can't be read.
        MissingDependencyError: the package of the backend is not installed.
    """
    if isinstance(model, Path):
        require_file(model, "exported network")
    if config.backend == "openvino":
        if device != "cpu":
            raise ConfigError(f"backend openvino runs on device cpu, not {device!r}: use onnxruntime or tensorrt there")
        if isinstance(model, Path) and model.suffix not in (".xml", ".onnx"):
            raise DataError(f"{model}: OpenVINO reads .xml and .onnx files: give what `ros2-loc export` wrote")
        return OpenVinoRunner(model, config.threads)
    return OnnxRunner(model, device, config.threads, config.backend == "tensorrt", engines)


def open_exported(config: BackendConfig, network: str, sha256: str, device: str) -> Runner:
    """The runner of `config.model`, which must be an export of this very network.

    Args:
        config: of a backend other than torch.
        network: name that the export wrote.
        sha256: of the weight file that the extractor is configured with.
        device: cpu or cuda.

    Raises:
        ConfigError, DataError, MissingDependencyError: as `open_runner`; a file of another network or of other weights.
    """
    if not config.model:
        raise ConfigError(f"backend {config.backend} needs model: FILE, which `ros2-loc export {network} --out FILE` writes")
    runner = open_runner(config, Path(config.model).expanduser(), device)
    require_export(runner.metadata, config.model, network, sha256)
    return runner


def require_export(held: Mapping[str, str], model: str, network: str, sha256: str) -> None:
    """Raise DataError when a file with this metadata is no export of a network, or of other weights; see `open_exported`."""
    if held.get("format") != FORMAT or held.get("network") != network:
        found = held.get("network") or "of someone else"
        raise DataError(f"{model}: is no export of {network} but {found}: write it by `ros2-loc export {network}`")
    if held.get("weights_sha256") != sha256:
        found = held.get("weights_sha256", "")[:12]
        raise DataError(f"{model}: was exported from weights {found}..., the pipeline has {sha256[:12]}...: export it again")


def run_at(runner: Runner, images: NDArray[np.float32]) -> Maps:
    """Run images of any size: filled up at the right and bottom by repeating the edge, and maps among the outputs cut back.

    Raises:
        DataError: images larger than the size that the network was exported for.
    """
    height, width = images.shape[2:]
    full_x, full_y = runner.size or (width + -width % runner.multiple, height + -height % runner.multiple)
    if width > full_x or height > full_y:
        raise DataError(
            f"the network was exported for {full_x}x{full_y} px and the image has {width}x{height}: set max_edge_px, or export for any size"
        )
    if (width, height) != (full_x, full_y):
        images = np.pad(images, ((0, 0), (0, 0), (0, full_y - height), (0, full_x - width)), mode="edge")
    if runner.size and len(images) > 1:
        whole = [np.concatenate(parts) for parts in zip(*(runner.run(one[None]) for one in images), strict=True)]
    else:
        whole = runner.run(images)
    return [_cut(each, (width / full_x, height / full_y)) if each.ndim == 4 else each for each in whole]


def require_tensorrt() -> None:
    """Raise ConfigError when this ONNX Runtime can't run TensorRT; MissingDependencyError without one."""
    _providers(_onnxruntime().get_available_providers(), None, "cuda", tensorrt=True)


def onnx_session(
    model: Path | bytes, device: str = "cpu", threads: int = 0, tensorrt: bool = False, engines: Path | None = None
) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        model: file, or the content of one.
        device: cpu or cuda.
        threads: 0 for ONNX Runtime's own choice.
        tensorrt: engines are kept beside the file, in a folder named after it.
        engines: that folder, for a model that is no file.

    Raises:
        ConfigError: this ONNX Runtime has no provider for the device.
        DataError: not an ONNX file, or with operations that this ONNX Runtime does not know.
        MissingDependencyError: onnxruntime is not installed.
    """
    runtime = _onnxruntime()
    kept = engines or (Path(f"{model}.engines") if isinstance(model, Path) else None)
    providers = _providers(runtime.get_available_providers(), kept, device, tensorrt)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=providers)
    except Exception as error:  # its exceptions have no common class
        raise DataError(f"{_name(model)}: ONNX Runtime {runtime.__version__} can't open it: {_one_line(error)}") from error


def _providers(available: list[str], engines: Path | None, device: str, tensorrt: bool) -> list[Any]:
    wanted = "TensorrtExecutionProvider" if tensorrt else "CUDAExecutionProvider" if device != "cpu" else "CPUExecutionProvider"
    if tensorrt and device == "cpu":
        raise ConfigError("backend tensorrt needs device cuda: on a CPU use backend onnxruntime or openvino")
    if wanted not in available:
        remedy = "pip install onnxruntime-gpu (JetPack has its own)" if device != "cpu" else "install onnxruntime again"
        raise ConfigError(f"this ONNX Runtime has no {wanted}, only {', '.join(available)}: {remedy}")
    if tensorrt and engines:
        kept = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(engines)}
        return [(wanted, kept), "CUDAExecutionProvider", "CPUExecutionProvider"]
    return list(dict.fromkeys((wanted, "CPUExecutionProvider")))


def _fixed_size(shape: list[Any]) -> tuple[int, int] | None:
    if len(shape) != 4:
        return None
    height, width = shape[2:]
    return (int(width), int(height)) if isinstance(width, int) and isinstance(height, int) else None


def _cut(maps: NDArray[np.float32], share: tuple[float, float]) -> NDArray[np.float32]:
    height, width = maps.shape[2:]
    return maps[:, :, : math.ceil(height * share[1] - 1e-6), : math.ceil(width * share[0] - 1e-6)]


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"ONNX models need the package onnxruntime: {install_command('onnxruntime')}") from error
    return onnxruntime


def _openvino() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"backend openvino needs the package openvino: {install_command('openvino')}") from error
    return openvino


def openvino_network(model: Path | bytes | Any) -> Any:
    """An `openvino.Model`, of a file or of the content of one.

    Raises:
        DataError: not a network.
        MissingDependencyError: openvino is not installed.
    """
    openvino = _openvino()
    if not isinstance(model, (Path, bytes)):
        return model
    try:
        return openvino.Core().read_model(model)
    except RuntimeError as error:
        raise DataError(f"{_name(model)}: can't be read as a network by OpenVINO: export it again") from error


def openvino_metadata(network: Any) -> dict[str, str]:
    """What our export wrote; a network read from ONNX keeps the metadata of that file elsewhere."""
    for path in (["ros2_loc"], ["framework"]):
        if network.has_rt_info(path):
            held = network.get_rt_info(path)
            return {str(key): str(getattr(held[key], "value", held[key])) for key in getattr(held, "value", held)}
    return {}


def _name(model: Path | bytes) -> str:
    return "network" if isinstance(model, bytes) else str(model)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
