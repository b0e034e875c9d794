"""ONNX files with smaller numbers: 8-bit convolutions calibrated on images, or 16-bit floats."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray


def quantized(path: Path, images: Iterator[NDArray[np.float32]], size: tuple[int, int] | None, multiple: int) -> None:
    """Make the convolutions of a file 8-bit, in place: ranges of the activations from images, of the weights for each channel.

    Args:
        path: of a 32-bit ONNX file.
        images: (1, C, H, W) as the network takes them.
        size: (width, height) px that the file wants, or None for any.
        multiple: of width and height.
    """
    quantized_by(path, ({"images": fitted(image, size, multiple)} for image in images))


def quantized_by(path: Path, readings: Iterator[dict[str, NDArray[np.float32]]]) -> None:
    """As `quantized`, by all inputs of the file by name."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(readings, None)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises by logging
    try:
        result = path.with_suffix(".int8.onnx")
        quantize_static(
            path,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result.replace(path)
    finally:
        root.setLevel(level)


def in_half_precision(path: Path) -> None:
    """Make a file compute in 16-bit floats, in place; its inputs and outputs stay 32-bit."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def fitted(image: NDArray[np.float32], size: tuple[int, int] | None, multiple: int) -> NDArray[np.float32]:
    """An image (1, C, H, W) filled up by its edges, then cut, to what the file wants."""
    height, width = image.shape[2:]
    wanted_x, wanted_y = size or (width + -width % multiple, height + -height % multiple)
    filling = ((0, 0), (0, 0), (0, max(0, wanted_y - height)), (0, max(0, wanted_x - width)))
    return np.ascontiguousarray(np.pad(image, filling, mode="edge")[:, :, :wanted_y, :wanted_x])
