"""Depth images: 16-bit PNG in millimetres, as of 7-Scenes, TUM RGB-D cameras with that scale, and ROS."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path, read_bytes

_NONE = (0, 65535)  # how cameras write that they saw nothing


def read_depth(path: str | Path) -> NDArray[np.float32]:
    """(H, W) float32 m along the optical axis, NaN where nothing was measured.

    Raises:
        DataError: missing, or no 16-bit image of one channel.
    """
    stored = cv2.imdecode(np.frombuffer(read_bytes(path, "depth image"), np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise DataError(f"{path}: is no depth image; give a 16-bit PNG with one channel, in millimetres")
    return np.where(np.isin(stored, _NONE), np.nan, stored.astype(np.float32) / 1000.0).astype(np.float32)


def write_depth(path: str | Path, depth_m: NDArray[np.floating]) -> None:
    """Write (H, W) m as `read_depth` reads it; what is not finite, not positive or beyond 65.534 m is written as not measured.

    Raises:
        DataError: it can't be written.
    """
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth_m) & (depth_m > 0) & (depth_m < 65.5345)
    millimetres = np.round(np.where(known, depth_m, 0.0) * 1000.0).astype(np.uint16)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", millimetres)[1].tobytes())
