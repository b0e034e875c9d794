"""The export of networks that are no single graph: each part traced, reduced in its precision and tried by itself, all in one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.exportable import Exportable
from ros2_loc.perception.parts import ExportPart, merged, opened_parts
from ros2_loc.perception.quantization import fitted, in_half_precision, quantized_by
from ros2_loc.perception.tracing import trace, write_network

if TYPE_CHECKING:
    from ros2_loc.perception.export import ExportJob

Errors = tuple[tuple[str, float], ...]
_CALIBRATED = 8  # images; of each, dozens of boxes


def export_parts(
    network: nn.Module,
    row: Exportable,
    path: Path,
    job: ExportJob,
    metadata: Mapping[str, str],
    example: Callable[[Exportable, tuple[int, int], int], Tensor],
    sizes: Sequence[tuple[int, int]],
) -> Errors:
    """Write the parts of a network and hold each against PyTorch.

    Args:
        network: as the row loads it.
        row: with parts.
        path: of the file.
        job: what is asked for; of any size.
        metadata: for the file.
        example: an image for the row, of a (width, height), by a seed.
        sizes: (width, height) px; traced with the first, compared at all.

    Returns:
        Of each part its name and the largest error of an output by that output's largest value.
    """
    import onnx

    assert row.parts is not None
    network = network.eval().requires_grad_(False)
    make_parts, inputs_of = row.parts
    parts = make_parts(network)
    seen = inputs_of(network, example(row, sizes[0], 0).expand(2, -1, -1, -1).contiguous())
    calibration = _calibration(network, row, parts, job)
    models: dict[str, Any] = {}
    for part in parts:
        file = path.with_suffix(f".{part.name}.onnx")
        trace(part.module, seen[part.name], part.free, (list(part.inputs), list(part.outputs)), file, f"{job.network}: its {part.name}")
        if not part.exact:
            _in_precision(file, part, job, calibration)
        models[part.name] = onnx.load(file)
    traced = path.with_suffix(".traced.onnx")
    onnx.save(merged(models), traced)
    whole = " ".join(part.name for part in parts if part.whole_images)
    held = {**metadata, "parts": " ".join(models), "whole_images": whole, "outputs": ""}
    write_network(traced, path, job.format, job.precision, held)
    return _errors(network, parts, row, path, job, [example(row, size, 1) for size in sizes])


def _calibration(network: nn.Module, row: Exportable, parts: Sequence[ExportPart], job: ExportJob) -> list[dict[str, tuple[Tensor, ...]]]:
    """What the parts that are reduced see of images, spread evenly over those to calibrate with."""
    assert row.parts is not None
    wanted = [part.name for part in parts if not part.exact]
    seen = []
    for index in np.unique(np.linspace(0, len(job.calibration) - 1, min(_CALIBRATED, len(job.calibration))).round().astype(int)):
        image = row.normalized(torch.from_numpy(job.calibration[index][None])).numpy()
        every = row.parts[1](network, torch.from_numpy(fitted(image, None, row.multiple_of(network))))
        seen.append({name: every[name] for name in wanted})
    return seen


def _in_precision(file: Path, part: ExportPart, job: ExportJob, calibration: Sequence[Mapping[str, tuple[Tensor, ...]]]) -> None:
    if job.precision == "int8":
        own = (zip(part.inputs, one[part.name], strict=True) for one in calibration)
        quantized_by(file, ({name: tensor.numpy() for name, tensor in named} for named in own))
    elif job.precision == "fp16" and job.format != "openvino":  # OpenVINO does it itself
        in_half_precision(file)


def _errors(
    network: nn.Module, parts: Sequence[ExportPart], row: Exportable, path: Path, job: ExportJob, images: Sequence[Tensor]
) -> Errors:
    assert row.parts is not None
    backend = BackendConfig(backend="openvino" if job.format == "openvino" else "onnxruntime")
    _, opened = opened_parts(backend, path, "cpu")
    worst = dict.fromkeys((part.name for part in parts), 0.0)
    for image in images:
        seen = row.parts[1](network, image)
        for part in parts:
            with torch.inference_mode():
                expected = part.module(*seen[part.name])
            wanted = [expected] if isinstance(expected, Tensor) else list(expected)
            found = opened[part.name](*(one.numpy() for one in seen[part.name]))
            pairs = zip(found, (one.numpy() for one in wanted), strict=True)
            worst[part.name] = max(worst[part.name], *(_error(*pair) for pair in pairs))
    return tuple(worst.items())


def _error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), 1e-12))
