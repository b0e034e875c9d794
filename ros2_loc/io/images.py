"""Images in files and in memory: always (H, W, 3) uint8 RGB inside of this package.

What is stored otherwise becomes that in one way, for files, bags and topics alike. Gray is repeated. 16 bits become 8 by `eight_bits`.
Alpha is dropped, not laid over a background: drivers leave it at 0 where nothing is transparent. The orientation in EXIF is not applied:
it would turn the image away from its calibration (a TIFF that asks for it is refused). Images over 100 megapixels are refused before they
are decoded.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path, read_bytes

RGB = NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# The last bytes of a whole file; libjpeg and libpng fill up what is missing with gray and say so only on stderr.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}
_END_WITHIN = 4096  # some cameras append a few bytes of their own
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
# Only the headers, and not by PIL.Image.open: that warns of large images, and looks through all its formats.
_HEADERS: dict[bytes, Callable[[io.BytesIO], ImageFile]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8": JpegImageFile,
    b"BM": BmpImageFile,
    b"II*\x00": TiffImageFile,
    b"MM\x00*": TiffImageFile,
    b"RIFF": WebPImageFile,
    b"P5": PpmImageFile,
    b"P6": PpmImageFile,
}
_ORIENTATION = 0x0112  # EXIF tag
MAX_PIXELS = 100_000_000


def read_image(path: str | Path) -> RGB:
    """(H, W, 3) uint8 RGB of an image file; what becomes of other forms says the head of this module.

    Raises:
        DataError: missing, empty, cut short, over 100 megapixels, or no image of 8 or 16 bits.
    """
    return decode_image(read_bytes(path, "image"), str(path))


def decode_image(data: bytes | NDArray[np.uint8], where: str) -> RGB:
    """(H, W, 3) uint8 RGB of an encoded image (JPEG, PNG, ...); see `read_image`.

    Args:
        data: the encoded bytes.
        where: file or topic, shown in errors.

    Raises:
        DataError: empty, cut short, over 100 megapixels, or no image of 8 or 16 bits.
    """
    encoded = np.frombuffer(data, np.uint8)
    head, tail = encoded[:4].tobytes(), encoded[-_END_WITHIN:].tobytes()
    if any(head.startswith(magic) and end not in tail for magic, end in _ENDS.items()):
        raise DataError(f"{where}: the image is cut short after {encoded.size} bytes; copy or record it again")
    _check_header(encoded, where)
    try:
        image = cv2.imdecode(encoded, _AS_STORED) if encoded.size else None
    except cv2.error:  # a size that OpenCV itself refuses
        image = None
    if image is None:
        raise DataError(f"{where}: is not an image that OpenCV can decode ({encoded.size} bytes); use PNG or JPEG")
    require_size(image.shape[1], image.shape[0], where)
    if image.dtype == np.uint16:
        image = eight_bits(image)
    if image.dtype != np.uint8:
        raise DataError(f"{where}: holds {image.dtype} numbers, not an image of 8 or 16 bits; convert it first")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) px of an image file, by its head where that tells.

    Raises:
        DataError: as `read_image`, as far as the head was looked at.
    """
    encoded = np.frombuffer(read_bytes(path, "image"), np.uint8)
    head = encoded[:4].tobytes()
    try:
        image = next((reader(io.BytesIO(encoded.data)) for magic, reader in _HEADERS.items() if head.startswith(magic)), None)
    except (OSError, SyntaxError, ValueError):
        image = None
    if image is not None:
        return int(image.size[0]), int(image.size[1])
    height, width = decode_image(encoded, str(path)).shape[:2]
    return width, height


def eight_bits(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """8 of the bits that an image uses, the upper ones.

    Cameras of 10, 12 or 14 bits mostly fill 16 from below; without a word about it, the brightest pixel tells which it was. The choice is
    that of each image: a dark one may become brighter than its neighbours, which the descriptors of keypoints do not mind.
    """
    used = int(pixels.max(initial=0)).bit_length()
    depth = next(bits for bits in (8, 10, 12, 14, 16) if used <= bits)
    return (pixels >> np.uint16(depth - 8)).astype(np.uint8)


def require_size(width: int, height: int, where: str) -> None:
    """Refuse an image that would fill the memory of a robot.

    Raises:
        DataError: over 100 megapixels.
    """
    if width * height > MAX_PIXELS:
        size = f"{width}x{height} px are {width * height / 1e6:.0f} megapixels"
        raise DataError(f"{where}: {size}, and {MAX_PIXELS / 1e6:.0f} are the most: make the image smaller, and its calibration with it")


def _check_header(encoded: NDArray[np.uint8], where: str) -> None:
    """`require_size` by what the file says of itself; a format that only OpenCV knows is let through."""
    head = encoded[:4].tobytes()
    try:
        image = next((reader(io.BytesIO(encoded.data)) for magic, reader in _HEADERS.items() if head.startswith(magic)), None)
    except (OSError, SyntaxError, ValueError):  # OpenCV has the last word
        image = None
    if image is None:
        return
    require_size(*image.size, where)
    if image.format == "TIFF" and image.getexif().get(_ORIENTATION, 1) != 1:  # OpenCV turns these whatever it is told
        raise DataError(f"{where}: its TIFF orientation turns it away from its calibration; write it without that tag, or as PNG")


def encode_image(image: NDArray[np.uint8], suffix: str, jpeg_quality: int = 95) -> bytes:
    """The bytes of an image file.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) uint8 gray.
        suffix: ".jpg", ".png", ...
        jpeg_quality: 1 to 100, for JPEG and WebP.

    Raises:
        DataError: not an image, or a format that OpenCV does not write.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.size == 0:
        raise DataError(f"an image is (H, W, 3) or (H, W) uint8, got {image.shape} {image.dtype}")
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix.lower() in (".jpg", ".jpeg") else []
    try:
        ok, encoded = cv2.imencode(suffix, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    except cv2.error:
        ok = False
    if not ok:
        raise DataError(f"images can't be written as {suffix!r}; use .png or .jpg")
    return encoded.tobytes()


def write_image(path: str | Path, image: NDArray[np.uint8], jpeg_quality: int = 95) -> None:
    """Write (H, W, 3) RGB or (H, W) gray uint8 in the format of the path's suffix; raises as `encode_image`."""
    encoded = encode_image(image, Path(path).suffix, jpeg_quality)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def resize_image(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The image at width x height px; its camera is `Camera.resized` (both keep the outer borders of the border pixels in place)."""
    if image.shape[1::-1] == (width, height):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), dtype=np.uint8)


def is_gray(image: RGB) -> bool:
    """Whether the three channels are equal, as `read_image` makes them of a gray file."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())
