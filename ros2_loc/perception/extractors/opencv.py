"""What the extractors of OpenCV share: gray images, masks, order, pixel convention."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Frame, LocalFeatures

_LEAST_EDGE_PX = 8  # ORB fails where a level of its pyramid has no pixels


def detect(detector: Any, frame: Frame, scale: float) -> tuple[tuple[cv2.KeyPoint, ...], NDArray | None]:
    """Keypoints and descriptors of the gray image resized by `scale`, none where `frame.mask` is False or in a few pixels."""
    gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    mask = None if frame.mask is None else frame.mask.astype(np.uint8) * 255
    if scale != 1.0:
        size = (max(1, round(frame.camera.width * scale)), max(1, round(frame.camera.height * scale)))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        mask = None if mask is None else cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    if min(gray.shape) < _LEAST_EDGE_PX:
        return (), None
    keypoints, descriptors = detector.detectAndCompute(gray, mask)
    return tuple(keypoints), descriptors


def to_features(
    keypoints: tuple[cv2.KeyPoint, ...],
    descriptors: NDArray,
    frame: Frame,
    scale: float,
    limit: int,
    name: str,
    centre: NDArray | float = 0.5,
) -> LocalFeatures:
    """Best `limit` keypoints, best first (ties by position, so that the order is always the same), in pixels of the full image.

    OpenCV puts the centre of the first pixel at (0, 0), this package at (0.5, 0.5), where a resize is a plain multiplication; `centre` is
    what to add, for detectors that forget it when they multiply themselves.
    """
    points = np.array([k.pt for k in keypoints], dtype=np.float32).reshape(-1, 2) + np.reshape(centre, (-1, 1)).astype(np.float32)
    response = np.array([k.response for k in keypoints], dtype=np.float32)
    sigma = np.array([k.size for k in keypoints], dtype=np.float32) / 2.0
    width, height = max(1, round(frame.camera.width * scale)), max(1, round(frame.camera.height * scale))
    ratio = np.array([frame.camera.width / width, frame.camera.height / height], dtype=np.float32)
    order = np.lexsort((points[:, 1], points[:, 0], -response))[:limit]
    size = (frame.camera.width, frame.camera.height)
    return LocalFeatures(points[order] * ratio, descriptors[order], response[order], sigma[order] * float(ratio[0]), name, size)


def empty(dimension: int, frame: Frame, name: str) -> LocalFeatures:
    """No keypoints at all (a white wall, a lens cap)."""
    none = np.zeros(0, dtype=np.float32)
    size = (frame.camera.width, frame.camera.height)
    return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, dimension), np.float32), none, none, name, size)
