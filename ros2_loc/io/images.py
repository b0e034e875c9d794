"""Images in files and in memory: always (H, W, 3) uint8 RGB inside of this package."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path, read_bytes

RGB = NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# The last bytes of a whole file; libjpeg and libpng fill up what is missing with gray and say so only on stderr.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}
_END_WITHIN = 4096  # some cameras append a few bytes of their own


def read_image(path: str | Path) -> RGB:
    """(H, W, 3) uint8 RGB of an image file; gray is repeated, 16 bit are scaled to 8, alpha is dropped, EXIF orientation is not applied.

    Raises:
        DataError: missing, empty, cut short, or no image.
    """
    return decode_image(read_bytes(path, "image"), str(path))


def decode_image(data: bytes | NDArray[np.uint8], where: str) -> RGB:
    """(H, W, 3) uint8 RGB of an encoded image (JPEG, PNG, ...); see `read_image`.

    Args:
        data: the encoded bytes.
        where: file or topic, shown in errors.

    Raises:
        DataError: empty, cut short, or no image.
    """
    encoded = np.frombuffer(data, np.uint8)
    head, tail = encoded[:4].tobytes(), encoded[-_END_WITHIN:].tobytes()
    if any(head.startswith(magic) and end not in tail for magic, end in _ENDS.items()):
        raise DataError(f"{where}: the image is cut short after {encoded.size} bytes; copy or record it again")
    # The EXIF orientation would turn the image away from its calibration.
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if encoded.size else None
    if image is None:
        raise DataError(f"{where}: is not an image that OpenCV can decode ({encoded.size} bytes); use PNG or JPEG")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


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
