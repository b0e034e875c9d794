"""Files of optical flow: where each pixel of an image is in the next one.

Sources: https://vision.middlebury.edu/flow/code/flow-code/README.txt (.flo), development kit of KITTI flow 2015 (16-bit PNG).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.files import read_bytes

SUFFIXES = (".flo", ".png")
_UNKNOWN_PX = 1e9  # Middlebury writes larger values where it does not know


def read_flow(path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(H, W, 2) float32 px to the right and down, and (H, W) bool where it is known; zero elsewhere.

    Raises:
        DataError: missing, cut short, or of another form.
    """
    path = Path(path)
    flow, known = _read_flo(path) if path.suffix.lower() == ".flo" else _read_kitti(path)
    return np.where(known[..., None], flow, 0.0).astype(np.float32), known


def _read_flo(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    data = read_bytes(path, "optical flow")
    size = np.frombuffer(data[4:12], "<i4") if data[:4] == b"PIEH" and len(data) >= 12 else np.zeros(2, np.int32)
    width, height = int(size[0]), int(size[1])
    if min(width, height) < 1 or len(data) != 12 + 8 * width * height:
        raise DataError(f"{path}: is no .flo file of Middlebury's form, or was cut short; copy it again")
    flow = np.frombuffer(data[12:], "<f4").reshape(height, width, 2)
    with np.errstate(invalid="ignore"):
        return flow, (np.abs(flow) < _UNKNOWN_PX).all(axis=2)


def _read_kitti(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    stored = cv2.imdecode(np.frombuffer(read_bytes(path, "optical flow"), np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] != 3:
        raise DataError(f"{path}: is no flow of KITTI's form; give a 16-bit PNG with three channels, or a .flo file")
    known, v, u = (stored[..., channel] for channel in range(3))  # OpenCV gives blue first, which is the last channel of the file
    return np.stack([(u.astype(np.float32) - 2**15) / 64.0, (v.astype(np.float32) - 2**15) / 64.0], axis=2), known > 0
