"""The encodings of sensor_msgs/Image -> arrays, with padded rows and either byte order.

Encodings are those of sensor_msgs/image_encodings.hpp: mono, rgb, bgr, rgba, bgra and Bayer of 8 or 16 bit, packed YUV 4:2:2, and OpenCV's
type names (8UC3, 32FC1, ...), which carry no colour. A message is anything with the fields of sensor_msgs/Image: rclpy's or rosbags'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.images import RGB, decode_image, eight_bits, require_size

# OpenCV names a pattern by the second and third pixel of its second row, hence the crossed names.
_BAYER = {"bayer_rggb": "BayerBG", "bayer_bggr": "BayerRG", "bayer_gbrg": "BayerGR", "bayer_grbg": "BayerGB"}
_YUV422 = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUY2", "yuyv": "YUY2"}
_COLOURS = {"mono": ("GRAY", 1), "rgb": ("RGB", 3), "bgr": ("BGR", 3), "rgba": ("RGBA", 4), "bgra": ("BGRA", 4)}
TYPE_CODES = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}


class EncodingError(DataError, TypeError):
    """An image that cannot be converted (a TypeError, as in cv_bridge)."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """What an encoding's name says: numpy type of one number, numbers per pixel, and OpenCV's colour name ("" where there is no colour)."""

    dtype: np.dtype[Any]
    channels: int
    colour: str


def parse_encoding(name: str) -> Encoding:
    """The meaning of an encoding's name.

    Raises:
        EncodingError: the name is not one of sensor_msgs' encodings.
    """
    if name in _YUV422:
        return Encoding(np.dtype("u1"), 2, _YUV422[name])
    if match := re.fullmatch(r"(mono|rgba?|bgra?|bayer_(?:rggb|bggr|gbrg|grbg))(8|16)", name):
        dtype: np.dtype[Any] = np.dtype("u1" if match[2] == "8" else "u2")
        if match[1] in _BAYER:
            return Encoding(dtype, 1, _BAYER[match[1]])
        colour, channels = _COLOURS[match[1]]
        return Encoding(dtype, channels, colour)
    if match := re.fullmatch(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([1-9]\d?))?", name):
        return Encoding(np.dtype(TYPE_CODES[match[1]]), int(match[2] or 1), "")
    raise EncodingError(f"image encoding {name!r} is unknown; send rgb8, bgr8, mono8 or another of sensor_msgs/image_encodings.hpp")


def check_layout(message: Any) -> Encoding:
    """The encoding of an image whose sizes agree with each other.

    Raises:
        EncodingError: unknown encoding, no pixels, a `step` shorter than a row, or `data` that is not height x step bytes.
    """
    encoding = parse_encoding(message.encoding)
    row_bytes = message.width * encoding.channels * encoding.dtype.itemsize
    what = f"image {message.width}x{message.height} {message.encoding}"
    if message.width == 0 or message.height == 0:
        raise EncodingError(f"{what} has no pixels; set width and height")
    if message.step < row_bytes:
        raise EncodingError(f"{what} says step {message.step} but a row needs {row_bytes} bytes")
    if len(message.data) != message.step * message.height:
        raise EncodingError(f"{what} has {len(message.data)} bytes but height x step is {message.step * message.height}")
    if encoding.colour in ("UYVY", "YUY2") and message.width % 2:
        raise EncodingError(f"{what}: YUV 4:2:2 needs an even width")
    return encoding


def pixels_of(message: Any) -> NDArray[Any]:
    """(H, W) or (H, W, C) of a sensor_msgs/Image in the machine's byte order; without padding the array shares the message's memory.

    Raises:
        EncodingError: as `check_layout`.
    """
    encoding = check_layout(message)
    rows = np.frombuffer(as_buffer(message.data), np.uint8).reshape(message.height, message.step)
    row_bytes = message.width * encoding.channels * encoding.dtype.itemsize
    pixels = np.ascontiguousarray(rows[:, :row_bytes]).view(encoding.dtype.newbyteorder(">" if message.is_bigendian else "<"))
    pixels = pixels.astype(encoding.dtype, copy=False)
    if encoding.channels > 1:
        pixels = pixels.reshape(message.height, message.width, encoding.channels)
    return pixels


def convert(pixels: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """`pixels` of encoding `source` in the encoding `target`; 16 and 8 bit are scaled into each other.

    Raises:
        EncodingError: between colour and no colour, or to Bayer and YUV.
    """
    if target in ("passthrough", source):
        return pixels
    have, want = parse_encoding(source), parse_encoding(target)
    if not (have.colour and want.colour):
        if have.channels != want.channels or (want.colour and not have.colour):
            raise EncodingError(f"[{source}] cannot be converted to [{target}]: only one of them says what its channels mean")
    elif have.colour != want.colour:
        pixels = _recoloured(pixels, have.colour, want.colour, f"[{source}] cannot be converted to [{target}]")
    return _rescaled(pixels, want.dtype) if have.colour and want.colour else pixels.astype(want.dtype, copy=False)


def _recoloured(pixels: NDArray[Any], have: str, want: str, complaint: str) -> NDArray[Any]:
    if want not in {name for name, _ in _COLOURS.values()}:
        raise EncodingError(f"{complaint}: that is a format of cameras, not one to convert to")
    if have in ("UYVY", "YUY2") or have.startswith("Bayer"):
        middle = want if want in ("GRAY", "RGB", "BGR") else want[:3]
        code = f"COLOR_{have}2{middle}" if have.startswith("Bayer") else f"COLOR_YUV2{middle}_{have}"
        pixels, have = cv2.cvtColor(pixels, getattr(cv2, code)), middle
    return pixels if have == want else cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{have}2{want}"))


def _rescaled(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if pixels.dtype == dtype:
        return pixels
    if dtype.itemsize == 1:
        return cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0)
    return pixels.astype(np.uint16) * np.uint16(257)


def as_buffer(data: Any) -> Any:
    """The data of a message as something that numpy reads without copying, where that can be."""
    return bytes(data) if isinstance(data, (list, tuple)) else data


def rgb_from_image(message: Any) -> RGB:
    """(H, W, 3) uint8 RGB of a sensor_msgs/Image or CompressedImage; what becomes of gray, alpha and 16 bits says the head of `io/images`.

    Raises:
        DataError: an unknown encoding, one without colour (depth), sizes that contradict each other, over 100 megapixels, or data that
            cannot be decoded.
    """
    if hasattr(message, "format"):
        what = f"compressed image, format {message.format!r}"
        if "compressedDepth" in message.format:
            raise DataError(f"{what}: compressedDepth is not supported; send jpeg or png")
        return decode_image(as_buffer(message.data), what)
    require_size(message.width, message.height, f"image {message.encoding}")
    name = "mono8" if message.encoding in ("8UC1", "8U") else message.encoding  # many drivers' name for mono8
    pixels = pixels_of(message)
    if name in ("16UC1", "16U"):
        raise EncodingError("image encoding '16UC1' is how depth is sent (REP 118); where it is gray, send it as mono16")
    if pixels.dtype == np.uint16 and parse_encoding(name).colour:
        pixels, name = eight_bits(pixels), f"{name.removesuffix('16')}8"
    return np.asarray(convert(pixels, name, "rgb8"), dtype=np.uint8)
