"""Frames as a network takes them: resized, or as one upright pinhole camera would have seen them.

A network of a few hundred thousand parameters that was trained with one camera does not know another: other focal lengths, another pitch or
a fisheye change what a kerb looks like. The level view is the image resampled, once per frame, to what a level pinhole camera of 90
degrees would see from the same place; pixels that the real camera does not have are masked.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.core.types import Frame

_HORIZON = 0.25  # share of the rows above the horizon: what stands high never lies on the ground grid

Remap = tuple[NDArray[np.float32], NDArray[np.bool_]]


def network_frame(frame: Frame, image_px: tuple[int, int], view: str) -> Frame:
    """The frame as a network with images of (height, width) px and this `view` ("level" or "resized") takes it."""
    return level_frame(frame, image_px) if view == "level" else resized_frame(frame, image_px)


def resized_frame(frame: Frame, image_px: tuple[int, int]) -> Frame:
    """The frame at (height, width) px, stretched if need be: by areas where it shrinks, bilinear where it grows."""
    height, width = image_px
    if (frame.camera.height, frame.camera.width) == (height, width):
        return frame
    shrinks = frame.camera.width >= width and frame.camera.height >= height
    image = np.asarray(cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)
    mask = None if frame.mask is None else cv2.resize(frame.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return Frame(
        frame.stamp_ns, image, frame.camera.with_two_focals().resized(width, height), frame.base_from_camera, frame.odom_from_base, mask
    )


def level_camera(height: int, width: int) -> Camera:
    """The level view's camera: 90 degrees across, the horizon a quarter below the upper edge."""
    return Camera.pinhole(width, height, 0.5 * width, 0.5 * width, 0.5 * width, _HORIZON * height)


def level_mounting(base_from_camera: Pose) -> Pose:
    """The mounting without pitch and roll: the same place, the same direction over the ground."""
    forward = base_from_camera.rotation[:, 2]
    yaw = float(np.arctan2(forward[1], forward[0]))
    return Pose(so3_exp([0.0, 0.0, yaw]) @ BODY_FROM_OPTICAL, base_from_camera.translation)


def level_frame(frame: Frame, image_px: tuple[int, int]) -> Frame:
    """The frame as the level camera would have taken it; its mask is False where the real camera sees nothing, or where `frame.mask` is.

    Args:
        frame: of any camera model, mounted anyhow (upside down as well, if `base_from_camera` says so).
        image_px: (height, width) of the level image.
    """
    camera, mounting = level_camera(*image_px), level_mounting(frame.base_from_camera)
    if frame.mask is None and frame.camera == camera and np.allclose(frame.base_from_camera.rotation, mounting.rotation, atol=1e-9):
        return frame
    scale = _reduction(frame.camera, camera)
    width, height = round(frame.camera.width / scale), round(frame.camera.height / scale)
    source = frame.camera if scale == 1 else frame.camera.with_two_focals().resized(width, height)
    image = frame.image if scale == 1 else cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
    px, seen = _remap(source, camera, tuple((frame.base_from_camera.rotation.T @ mounting.rotation).ravel()))
    level = cv2.remap(image, px - np.float32(0.5), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    level[~seen] = 0
    mask = seen if frame.mask is None else seen & _masked(frame.mask, px * np.float32(scale))
    return Frame(frame.stamp_ns, level, camera, mounting, frame.odom_from_base, mask)


def _reduction(camera: Camera, level: Camera) -> int:
    """By how much to shrink the source first, so that its pixels are not finer than the level view's."""
    return max(1, int(min(camera.focal_px) / level.focal_px[0]))


@lru_cache(maxsize=8)
def _remap(source: Camera, level: Camera, rotation: tuple[float, ...]) -> Remap:
    """Where each level pixel lies in the source (H, W, 2) px, and whether it lies in it (H, W)."""
    source_from_level = np.array(rotation).reshape(3, 3)
    x, y = np.meshgrid(np.arange(level.width) + 0.5, np.arange(level.height) + 0.5)
    rays = level.rays(np.column_stack([x.ravel(), y.ravel()])) @ source_from_level.T
    px = source.project(rays)
    seen = source.contains(px)
    if any(source.distortion):  # beyond the field of view a distortion's polynomial folds back into the image
        seen[seen] = (source.rays(px[seen]) * rays[seen]).sum(axis=1) > np.cos(np.radians(0.5))
    shape = (level.height, level.width)
    return np.where(seen[:, None], px, 0.0).astype(np.float32).reshape(*shape, 2), seen.reshape(shape)


def _masked(mask: NDArray[np.bool_], px: NDArray[np.float32]) -> NDArray[np.bool_]:
    column, row = np.floor(px).astype(int).transpose(2, 0, 1)
    return mask[row.clip(0, mask.shape[0] - 1), column.clip(0, mask.shape[1] - 1)]
