"""Images between messages and arrays: cv_bridge where a ROS install has it, else the same names and behaviour in Python.

Encodings are those of sensor_msgs/image_encodings.hpp: mono, rgb, bgr, rgba, bgra and Bayer of 8 or 16 bit, packed YUV 4:2:2, and OpenCV's
type names (8UC3, 32FC1, ...), which carry no colour. Rows may be padded (`step`) and numbers may be big-endian.
Source of the behaviour: cv_bridge 4.x (cv_bridge/core.py, src/cv_bridge.cpp).
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

# The pattern's first two pixels of the second row and column name OpenCV's constant, hence the crossed names.
_BAYER = {"bayer_rggb": "BayerBG", "bayer_bggr": "BayerRG", "bayer_gbrg": "BayerGR", "bayer_grbg": "BayerGB"}
_YUV422 = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUY2", "yuyv": "YUY2"}
_COLOURS = {"mono": ("GRAY", 1), "rgb": ("RGB", 3), "bgr": ("BGR", 3), "rgba": ("RGBA", 4), "bgra": ("BGRA", 4)}
_TYPES = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}


class PythonCvBridgeError(TypeError):
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
        PythonCvBridgeError: the name is not one of sensor_msgs' encodings.
    """
    if name in _YUV422:
        return Encoding(np.dtype("u1"), 2, _YUV422[name])
    if match := re.fullmatch(r"(mono|rgba?|bgra?|bayer_(?:rggb|bggr|gbrg|grbg))(8|16)", name):
        dtype = np.dtype("u1" if match[2] == "8" else "u2")
        if match[1] in _BAYER:
            return Encoding(dtype, 1, _BAYER[match[1]])
        colour, channels = _COLOURS[match[1]]
        return Encoding(dtype, channels, colour)
    if match := re.fullmatch(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([1-9]\d?))?", name):
        return Encoding(np.dtype(_TYPES[match[1]]), int(match[2] or 1), "")
    raise PythonCvBridgeError(f"image encoding {name!r} is unknown; send rgb8, bgr8, mono8 or another of sensor_msgs/image_encodings.hpp")


def check_layout(msg: Image) -> Encoding:
    """The encoding of an image whose sizes agree with each other.

    Raises:
        PythonCvBridgeError: unknown encoding, no pixels, a `step` shorter than a row, or `data` that is not height x step bytes.
    """
    encoding = parse_encoding(msg.encoding)
    row_bytes = msg.width * encoding.channels * encoding.dtype.itemsize
    what = f"image {msg.width}x{msg.height} {msg.encoding}"
    if msg.width == 0 or msg.height == 0:
        raise PythonCvBridgeError(f"{what} has no pixels; set width and height")
    if msg.step < row_bytes:
        raise PythonCvBridgeError(f"{what} says step {msg.step} but a row needs {row_bytes} bytes")
    if len(msg.data) != msg.step * msg.height:
        raise PythonCvBridgeError(f"{what} has {len(msg.data)} bytes but height x step is {msg.step * msg.height}")
    if encoding.colour in ("UYVY", "YUY2") and msg.width % 2:
        raise PythonCvBridgeError(f"{what}: YUV 4:2:2 needs an even width")
    return encoding


class PythonCvBridge:
    """The methods of cv_bridge.CvBridge that deal with images, in Python."""

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> NDArray[Any]:
        """(H, W) or (H, W, C) in the machine's byte order; without padding the array shares the message's memory.

        Args:
            img_msg: sensor_msgs/Image.
            desired_encoding: "passthrough" or the name of the encoding to convert to.

        Raises:
            CvBridgeError: an unknown encoding, sizes that contradict each other, or a conversion that makes no sense.
        """
        encoding = check_layout(img_msg)
        rows = np.frombuffer(_as_buffer(img_msg.data), np.uint8).reshape(img_msg.height, img_msg.step)
        row_bytes = img_msg.width * encoding.channels * encoding.dtype.itemsize
        pixels = np.ascontiguousarray(rows[:, :row_bytes]).view(encoding.dtype.newbyteorder(">" if img_msg.is_bigendian else "<"))
        pixels = pixels.astype(encoding.dtype, copy=False)
        if encoding.channels > 1:
            pixels = pixels.reshape(img_msg.height, img_msg.width, encoding.channels)
        return convert(pixels, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(self, cvim: NDArray[Any], encoding: str = "passthrough", header: Any = None) -> Image:
        """The message of an array (H, W) or (H, W, C), rows not padded; "passthrough" names the array's type (8UC3, ...).

        Raises:
            CvBridgeError: the array is no image, or is not what `encoding` says.
        """
        if not isinstance(cvim, np.ndarray) or cvim.ndim not in (2, 3):
            raise PythonCvBridgeError(f"an image is an array (H, W) or (H, W, C), got {getattr(cvim, 'shape', type(cvim).__name__)}")
        name = encoding if encoding != "passthrough" else _type_name(cvim)
        meaning, channels = parse_encoding(name), 1 if cvim.ndim == 2 else cvim.shape[2]
        if (meaning.dtype, meaning.channels) != (cvim.dtype.newbyteorder("="), channels):
            raise PythonCvBridgeError(f"an array of {cvim.dtype} with {channels} channels is not {name}")
        msg = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=name, is_bigendian=int(cvim.dtype.str.startswith(">")))
        msg.step = cvim.shape[1] * channels * cvim.dtype.itemsize
        msg.data = _as_array(cvim)
        if header is not None:
            msg.header = header
        return msg

    def compressed_imgmsg_to_cv2(self, cmprs_img_msg: CompressedImage, desired_encoding: str = "passthrough") -> NDArray[Any]:
        """The decoded image, as stored ("passthrough": mono, BGR or BGRA) or converted; EXIF orientation is not applied.

        Raises:
            CvBridgeError: the data is no image that OpenCV can decode, or is a compressed depth image.
        """
        what = f"compressed image of {len(cmprs_img_msg.data)} bytes, format {cmprs_img_msg.format!r}"
        if "compressedDepth" in cmprs_img_msg.format:
            raise PythonCvBridgeError(f"{what}: compressedDepth is not supported; send jpeg or png")
        data = np.frombuffer(_as_buffer(cmprs_img_msg.data), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None:
            raise PythonCvBridgeError(f"{what}: cannot be decoded; send jpeg or png")
        colour = {1: "mono", 3: "bgr", 4: "bgra"}[1 if image.ndim == 2 else image.shape[2]]
        return convert(image, f"{colour}{8 * image.dtype.itemsize}", desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim: NDArray[Any], dst_format: str = "jpg") -> CompressedImage:
        """The message of a mono or BGR array, encoded as `dst_format` (jpg, png, ...).

        Raises:
            CvBridgeError: the array is no image, or OpenCV has no such format.
        """
        if not isinstance(cvim, np.ndarray) or cvim.ndim not in (2, 3):
            raise PythonCvBridgeError(f"an image is an array (H, W) or (H, W, C), got {getattr(cvim, 'shape', type(cvim).__name__)}")
        try:
            _, encoded = cv2.imencode(f".{dst_format}", cvim)
        except cv2.error as error:
            raise PythonCvBridgeError(f"an array {cvim.shape} of {cvim.dtype} can't be written as {dst_format!r}; use jpg") from error
        return CompressedImage(format=dst_format, data=_as_array(encoded))


def convert(pixels: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """`pixels` of encoding `source` in the encoding `target`; 16 and 8 bit are scaled into each other.

    Raises:
        PythonCvBridgeError: between colour and no colour, or to Bayer and YUV.
    """
    if target in ("passthrough", source):
        return pixels
    have, want = parse_encoding(source), parse_encoding(target)
    if not (have.colour and want.colour):
        if have.channels != want.channels or (want.colour and not have.colour):
            raise PythonCvBridgeError(f"[{source}] cannot be converted to [{target}]: only one of them says what its channels mean")
    elif have.colour != want.colour:
        pixels = _recoloured(pixels, have.colour, want.colour, f"[{source}] cannot be converted to [{target}]")
    return _rescaled(pixels, want.dtype) if have.colour and want.colour else pixels.astype(want.dtype, copy=False)


def _recoloured(pixels: NDArray[Any], have: str, want: str, complaint: str) -> NDArray[Any]:
    if want not in {name for name, _ in _COLOURS.values()}:
        raise PythonCvBridgeError(f"{complaint}: that is a format of cameras, not one to convert to")
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


def _type_name(pixels: NDArray[Any]) -> str:
    names = {code: name for name, code in _TYPES.items()}
    code = pixels.dtype.newbyteorder("=").str[1:]
    if code not in names:
        raise PythonCvBridgeError(f"an image of {pixels.dtype} has no encoding; use uint8, uint16 or float32")
    return f"{names[code]}C{1 if pixels.ndim == 2 else pixels.shape[2]}"


def _as_buffer(data: Any) -> Any:
    return bytes(data) if isinstance(data, (list, tuple)) else data


def _as_array(pixels: NDArray[Any]) -> array[int]:
    """What rclpy's setter takes without looking at each byte: an ndarray there costs 100 times as much."""
    out = array("B")
    out.frombytes(np.ascontiguousarray(pixels).view(np.uint8).data.cast("B"))
    return out


try:  # a ROS install's own
    from cv_bridge import CvBridge, CvBridgeError
except ImportError:
    CvBridge, CvBridgeError = PythonCvBridge, PythonCvBridgeError
