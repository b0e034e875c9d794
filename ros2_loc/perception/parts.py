"""Exported networks of several parts: one file in which they lie side by side, each a graph of its own with as many inputs as it wants.

A detector of two stages is no single graph: how many boxes its second stage looks at, each at which level, the first one tells. Its dense
parts are exported and what lies between them stays. In the file the names of a part's inputs and outputs begin with the part's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError, DataError, MissingDependencyError
from ros2_loc.io.files import require_file
from ros2_loc.perception.backends import BackendConfig, Maps, Runner, open_runner, openvino_metadata, openvino_network, require_export
from ros2_loc.registry import install_command

if TYPE_CHECKING:
    from torch import nn

SEPARATOR = "/"


@dataclass(frozen=True, slots=True, eq=False)
class ExportPart:
    """One part before it is exported.

    Attributes:
        name: in the file.
        module: from tensors to a tensor or several.
        inputs, outputs: their names, without the part's.
        free: of each input the dimensions that are another each time, as `torch.export` wants them.
        whole_images: whether it sees images; the others see boxes.
        exact: whether fewer bits would spoil it.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    free: tuple[dict[int, Any], ...]
    whole_images: bool = False
    exact: bool = False


class Part:
    """One part, ready to run. Its inputs share their first dimension, images or boxes, of which there may be none."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __call__(self, *arrays: NDArray[np.float32]) -> Maps:
        """The inputs in their order -> the outputs in theirs."""
        if len(arrays[0]):
            return self._runner.run(*arrays)
        filled = [np.zeros((1, *one.shape[1:]), dtype=one.dtype) for one in arrays]
        return [one[:0] for one in self._runner.run(*filled)]


def open_parts(config: BackendConfig, network: str, sha256: str, device: str) -> dict[str, Part]:
    """The parts of `config.model` by name.

    Args:
        config: of a backend other than torch. TensorRT runs the parts that see whole images; the others, whose number of boxes is another
            one each time, run by CUDA.
        network: name that the export wrote.
        sha256: of the weight file that the pipeline is configured with.
        device: cpu or cuda.

    Raises:
        ConfigError, DataError, MissingDependencyError: as `backends.open_exported`.
    """
    if not config.model:
        raise ConfigError(f"backend {config.backend} needs model: FILE, which `ros2-loc export {network} --out FILE` writes")
    path = require_file(Path(config.model).expanduser(), "exported network")
    metadata, parts = opened_parts(config, path, device)
    require_export(metadata, config.model, network, sha256)
    return parts


def opened_parts(config: BackendConfig, path: Path, device: str) -> tuple[dict[str, str], dict[str, Part]]:
    """What the export wrote into a file, and its parts; none where it was not written by the export of one."""
    metadata, split = _read_openvino(path) if config.backend == "openvino" else _read_onnx(path)
    parts = {}
    for name in metadata.get("parts", "").split():
        backend = "onnxruntime" if config.backend == "tensorrt" and name not in metadata["whole_images"].split() else config.backend
        chosen = BackendConfig(backend=backend, threads=config.threads)
        parts[name] = Part(open_runner(chosen, split(name), device, path.with_name(f"{path.name}.engines")))
    return metadata, parts


def merged(models: Mapping[str, Any]) -> Any:
    """ONNX models side by side in one, the names of each behind its own and `SEPARATOR`."""
    from onnx import compose, helper

    named = [compose.add_prefix(model, f"{name}{SEPARATOR}") for name, model in models.items()]
    graph = helper.make_graph(
        [node for one in named for node in one.graph.node],
        "parts",
        [value for one in named for value in one.graph.input],
        [value for one in named for value in one.graph.output],
        [tensor for one in named for tensor in one.graph.initializer],
    )
    opsets = {one.domain: one for model in named for one in model.opset_import}
    functions = [function for one in named for function in one.functions]
    return helper.make_model(graph, opset_imports=list(opsets.values()), functions=functions, ir_version=named[0].ir_version)


def _read_onnx(path: Path) -> tuple[dict[str, str], Callable[[str], bytes]]:
    """What the export wrote into a file, and the file of one of its parts."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"networks of several parts need the package onnx: {install_command('onnx')}") from error
    try:
        whole = onnx.load(path)
    except Exception as error:  # of protobuf, whose classes differ from version to version
        raise DataError(f"{path}: can't be read as ONNX: export it again") from error

    def split(name: str) -> bytes:
        held = [_of(name, (value.name for value in values)) for values in (whole.graph.input, whole.graph.output)]
        return onnx.utils.Extractor(whole).extract_model(*held).SerializeToString()  # type: ignore[no-any-return]

    return {one.key: one.value for one in whole.metadata_props}, split


def _read_openvino(path: Path) -> tuple[dict[str, str], Callable[[str], Any]]:
    """As `_read_onnx`; of an ONNX file too."""
    whole = openvino_network(path)
    import openvino

    def split(name: str) -> Any:
        inputs = [one for one in whole.inputs if _of(name, one.names)]
        outputs = [one for one in whole.outputs if _of(name, one.names)]
        return openvino.Model([one.node for one in outputs], [one.node for one in inputs])

    return openvino_metadata(whole), split


def _of(part: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{part}{SEPARATOR}")]
