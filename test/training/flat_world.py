"""A flat world of soft colours: what the camera sees of it and what lies below are known exactly, and are made in milliseconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.training.drives import CachedDrive, CrossViewDrive, cache_drive

IMAGE_PX = (32, 96)


def flat_mosaic(seed: int, size_m: float = 260.0, metres_per_px: float = 0.5, blob_m: float = 9.0) -> Mosaic:
    """Blobs of colour, its middle at the origin."""
    pixels = round(size_m / metres_per_px)
    rough = np.random.default_rng(seed).normal(size=(pixels, pixels, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(rough, (0, 0), blob_m / metres_per_px / 2)
    rgb = np.clip(128 + 60 * soft / soft.std(), 0, 255).astype(np.uint8)
    return Mosaic(rgb, np.ones(rgb.shape[:2], bool), -size_m / 2, size_m / 2, metres_per_px)


def view_of(mosaic: Mosaic, camera: Camera, map_from_camera: Pose) -> np.ndarray:
    """What a camera above the flat ground sees: (h, w, 3) uint8, grey where it looks above the horizon."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = camera.rays(np.column_stack([x.ravel(), y.ravel()])) @ map_from_camera.rotation.T
    with np.errstate(divide="ignore"):
        distance = np.where(rays[:, 2] < -1e-3, -map_from_camera.translation[2] / rays[:, 2], np.nan)
    ground = map_from_camera.translation + rays * distance[:, None]
    px = np.column_stack([ground[:, 0] - mosaic.west_m, mosaic.north_m - ground[:, 1]]) / mosaic.metres_per_px - 0.5
    maps = np.nan_to_num(px, nan=-1e4).reshape(camera.height, camera.width, 2).astype(np.float32)
    return np.asarray(cv2.remap(mosaic.rgb, maps, None, cv2.INTER_LINEAR, borderValue=(128, 128, 128)), np.uint8)


def flat_sequence(mosaic: Mosaic, seed: int, images: int = 60, tilt_rad: float = 0.0) -> ImageSequence:
    """A drive on a slow bend, 2 m from image to image, the camera 5 m high and looking down so that much of the ground is seen."""
    rng = np.random.default_rng(seed)
    camera = Camera.pinhole(IMAGE_PX[1], IMAGE_PX[0], 42.0, 26.0, 48.0, 12.0)
    mounting = Pose(so3_exp([0.0, np.deg2rad(8.0), 0.0]) @ BODY_FROM_OPTICAL, np.array([0.8, 0.1, 5.0]))
    yaw, at, poses = float(rng.uniform(-np.pi, np.pi)), rng.uniform(-40, 40, 2), []
    turn = float(rng.uniform(0.03, 0.05)) * (1 if rng.random() < 0.5 else -1)
    for _ in range(images):
        tilt = so3_exp([*rng.uniform(-tilt_rad, tilt_rad, 2), 0.0])
        poses.append(Pose(so3_exp([0, 0, yaw]) @ tilt, np.array([*at, 0.0])))
        at = at + 2.0 * np.array([np.cos(yaw), np.sin(yaw)])
        yaw += turn
    pictures = [view_of(mosaic, camera, pose @ mounting) for pose in poses]
    return ImageSequence(
        names=tuple(f"{i:04d}.png" for i in range(images)),
        stamps_ns=np.arange(images, dtype=np.int64) * 300_000_000,
        camera=camera,
        base_from_camera=mounting,
        map_from_base=tuple(poses),
        odom_from_base=(None,) * images,
        fixes=(),
        load=lambda i: pictures[i],
    )


def cached(mosaic: Mosaic, seed: int, folder: Path, tilt_rad: float = 0.0) -> CachedDrive:
    """One drive, laid down in a folder."""
    return cache_drive(CrossViewDrive(f"flat {seed}", flat_sequence(mosaic, seed, tilt_rad=tilt_rad), mosaic), folder, IMAGE_PX)
