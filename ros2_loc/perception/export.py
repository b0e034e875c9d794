"""Networks of extractors, encoders and detectors as ONNX or OpenVINO files, held against PyTorch before they get their name.

What follows the dense network of an extractor (maxima, sub-pixel positions, descriptors at keypoints) stays with the extractor; both run
the file by `backend` and `model` in their sections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ros2_loc.errors import ConfigError, DataError, MissingDependencyError
from ros2_loc.io.files import atomic_path
from ros2_loc.models.weight_files import locate, sha256
from ros2_loc.perception.backends import FORMAT, BackendConfig, open_runner, require_tensorrt, run_at
from ros2_loc.perception.export_parts import export_parts
from ros2_loc.perception.exportable import TABLE, Exportable
from ros2_loc.perception.parts import opened_parts
from ros2_loc.perception.quantization import in_half_precision, quantized
from ros2_loc.perception.tracing import trace, write_network
from ros2_loc.registry import install_command

Format = Literal["onnx", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]
# largest error by the largest value of an output
TOLERANCE: dict[str, float] = {"fp32": 1e-3, "fp16": 5e-2, "int8": np.inf}
# (width, height) px of the images that a file for any size is traced and checked with
_TRACED_PX, _CHECKED_PX = (128, 96), (224, 160)


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What to write.

    Attributes:
        network: name in `exportable.TABLE`.
        weights: name or path of its weight file.
        out: file to write; .onnx, or .xml for OpenVINO, which gets a .bin beside it.
        format: tensorrt is ONNX too, built into an engine for this machine's GPU.
        size: (width, height) px of all images, or None for any size.
        precision: int8 needs `calibration`.
        calibration: (3, H, W) RGB in 0..1; for a fixed size, of about that size.
    """

    network: str
    weights: str
    out: Path
    format: Format = "onnx"
    size: tuple[int, int] | None = None
    precision: Precision = "fp32"
    calibration: Sequence[NDArray[np.float32]] = ()

    def __post_init__(self) -> None:
        ending = ".xml" if self.format == "openvino" else ".onnx"
        if self.network not in TABLE:
            raise ConfigError(f"there is no export of {self.network!r}; there are: {', '.join(TABLE)}")
        if self.out.suffix != ending:
            raise ConfigError(f"{self.out}: a file of format {self.format} ends in {ending}")
        if (self.precision == "int8") != bool(self.calibration):
            raise ConfigError("precision int8 needs images to calibrate with (--calibrate), and the others take none")

    def check_size(self, multiple: int) -> None:
        """Raise ConfigError for a size that the network does not take."""
        if self.size and TABLE[self.network].parts:
            raise ConfigError(f"{self.network}: is exported for images of any size: leave --width and --height out")
        if self.size and (min(self.size) < multiple or any(side % multiple for side in self.size)):
            wanted = "x".join(str(max(multiple, -(-side // multiple) * multiple)) for side in self.size)
            raise ConfigError(f"{self.network}: width and height are multiples of {multiple}, for instance {wanted}")


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written: where, and for each output its name and its largest error by its largest value."""

    path: Path
    errors: tuple[tuple[str, float], ...]


def export(job: ExportJob) -> Exported:
    """Write a network's file and hold it against PyTorch.

    Raises:
        ConfigError, DataError: weights that are missing or of another network; an error above TOLERANCE; a file that can't be written.
        MissingDependencyError: a package or a version that exporting needs.
    """
    _require_packages(job)
    row = TABLE[job.network]
    weights = locate(job.weights)
    loaded = row.load(weights)
    multiple = row.multiple_of(loaded)
    job.check_size(multiple)
    metadata = _metadata(job, row, sha256(weights), multiple)
    with atomic_path(job.out) as path:
        traced = path.with_suffix(".traced.onnx")
        if row.parts:
            errors = export_parts(loaded, row, path, job, metadata, example, (_TRACED_PX, _CHECKED_PX))
        else:
            network = Flat(loaded).eval().requires_grad_(False)
            _trace(network, job, row, multiple, traced)
            _in_precision(traced, job, row, multiple)
            write_network(traced, path, job.format, job.precision, metadata)
            errors = _errors(network, path, job, row, [job.size] if job.size else _sizes(multiple))
        _check(errors, job)
        if job.format == "openvino":  # the weights first: a network without them can't be read
            path.with_suffix(".bin").replace(job.out.with_suffix(".bin"))
    if job.format == "tensorrt":
        _build_engines(job.out, bool(row.parts))
    return Exported(job.out, errors)


def _build_engines(path: Path, has_parts: bool) -> None:
    config = BackendConfig(backend="tensorrt")
    if has_parts:
        opened_parts(config, path, "cuda")
    else:
        open_runner(config, path, "cuda")


class Flat(nn.Module):
    """A network with a tuple of tensors as its output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> its outputs in their order."""
        outputs = self.network(images)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def example(row: Exportable, size: tuple[int, int], seed: int = 0) -> Tensor:
    """(1, C, H, W) as the network wants it: noise of several scales, which has edges and even parts."""
    rng = np.random.default_rng(seed)
    width, height = size
    image = np.zeros((3, height, width), dtype=np.float32)
    for cell in (2, 5, 16, 48):
        coarse = rng.random((3, height // cell + 2, width // cell + 2), dtype=np.float32)
        image += np.kron(coarse, np.ones((1, cell, cell), dtype=np.float32))[:, :height, :width]
    return row.normalized(torch.from_numpy(image[None] / image.max()))


def _require_packages(job: ExportJob) -> None:
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 6):
        raise MissingDependencyError(f"export needs PyTorch 2.6 or newer, this is {torch.__version__}: pip install --upgrade torch")
    for package in ("onnx", "onnxscript", "onnxruntime", *(("openvino",) if job.format == "openvino" else ())):
        try:
            __import__(package)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(f"export to {job.format} needs the package {package}: {install_command(package)}") from error
    if job.format == "tensorrt":
        require_tensorrt()


def _metadata(job: ExportJob, row: Exportable, digest: str, multiple: int) -> dict[str, str]:
    size = "x".join(map(str, job.size)) if job.size else "any"
    values = {"network": job.network, "weights_sha256": digest, "size": size, "multiple": str(multiple), "precision": job.precision}
    return {"format": FORMAT, **values, "outputs": " ".join(row.outputs)}


def _trace(network: Flat, job: ExportJob, row: Exportable, multiple: int, path: Path) -> None:
    image = example(row, job.size or _sizes(multiple)[0])
    shapes = None
    if job.size is None:
        image = image.expand(2, -1, -1, -1).contiguous()  # a batch of one would be taken for a constant
        sides = [torch.export.Dim(name, min=max(2, 32 // multiple), max=1 << 14) for name in ("rows", "columns")]
        height, width = sides if multiple == 1 else [multiple * side for side in sides]
        shapes = ({0: torch.export.Dim("batch", min=1, max=256), 2: height, 3: width},)
    trace(network, (image,), shapes, (["images"], list(row.outputs)), path, job.network)


def _in_precision(traced: Path, job: ExportJob, row: Exportable, multiple: int) -> None:
    if job.precision == "int8":
        images = (row.normalized(torch.from_numpy(image[None])).numpy() for image in job.calibration)
        quantized(traced, images, job.size, multiple)
    elif job.precision == "fp16" and job.format != "openvino":  # OpenVINO does it itself
        in_half_precision(traced)


def _sizes(multiple: int) -> list[tuple[int, int]]:
    """(W, H) px of the image that is traced and of another one; sides of one multiple alone would be taken for constants."""
    return [
        (max(-(-width // multiple), columns) * multiple, max(-(-height // multiple), rows) * multiple)
        for (width, height), columns, rows in ((_TRACED_PX, 3, 2), (_CHECKED_PX, 4, 3))
    ]


def _errors(
    network: Flat, path: Path, job: ExportJob, row: Exportable, sizes: Sequence[tuple[int, int]]
) -> tuple[tuple[str, float], ...]:
    """The largest error of each output by its largest value, over images of these sizes (W, H)."""
    config = BackendConfig(backend="openvino" if job.format == "openvino" else "onnxruntime")
    runner = open_runner(config, path, "cpu")
    worst = [0.0] * len(row.outputs)
    for size in sizes:
        image = example(row, size, seed=1)
        with torch.inference_mode():
            expected = [one.numpy() for one in network(image)]
        for index, (found, wanted) in enumerate(zip(run_at(runner, image.numpy()), expected, strict=True)):
            difference = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12))
            worst[index] = max(worst[index], difference if np.isfinite(found).all() else np.inf)
    return tuple(zip(row.outputs, worst, strict=True))


def _check(errors: Sequence[tuple[str, float]], job: ExportJob) -> None:
    for name, error in errors:
        if not error <= TOLERANCE[job.precision]:
            limit = f"more than {TOLERANCE[job.precision]:.0e}"
            raise DataError(f"{job.out}: not written: its {name} differ by {error:.1e} of their largest value from PyTorch's, {limit}")
