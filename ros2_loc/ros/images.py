"""Images between messages and arrays: cv_bridge where a ROS install has it, else the same names and behaviour in Python.

What the encodings mean stands in `io/image_encodings.py`, which reads images of bags as well.
Source of the behaviour: cv_bridge 4.x (cv_bridge/core.py, src/cv_bridge.cpp).
"""

from __future__ import annotations

from array import array
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from ros2_loc.io.image_encodings import TYPE_CODES, as_buffer, check_layout, convert, parse_encoding, pixels_of
from ros2_loc.io.image_encodings import EncodingError as PythonCvBridgeError

__all__ = ["CvBridge", "CvBridgeError", "PythonCvBridge", "PythonCvBridgeError", "check_layout", "convert"]


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
        return convert(pixels_of(img_msg), img_msg.encoding, desired_encoding)

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
        data = np.frombuffer(as_buffer(cmprs_img_msg.data), np.uint8)
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


def _type_name(pixels: NDArray[Any]) -> str:
    names = {code: name for name, code in TYPE_CODES.items()}
    code = pixels.dtype.newbyteorder("=").str[1:]
    if code not in names:
        raise PythonCvBridgeError(f"an image of {pixels.dtype} has no encoding; use uint8, uint16 or float32")
    return f"{names[code]}C{1 if pixels.ndim == 2 else pixels.shape[2]}"


def _as_array(pixels: NDArray[Any]) -> array[int]:
    """What rclpy's setter takes without looking at each byte: an ndarray there costs 100 times as much."""
    out = array("B")
    out.frombytes(np.ascontiguousarray(pixels).view(np.uint8).data.cast("B"))
    return out


try:  # a ROS install's own
    from cv_bridge import CvBridge, CvBridgeError
except ImportError:
    CvBridge, CvBridgeError = PythonCvBridge, PythonCvBridgeError
