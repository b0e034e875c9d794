"""7-Scenes folders: `frame-000000.color.png` (or .jpg), `frame-000000.pose.txt` (4x4, world_from_camera), `camera-intrinsics.txt`.

Source: https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose
from ros2_loc.errors import DataError
from ros2_loc.io import cameras, images, trajectories
from ros2_loc.io.image_folders import FolderOptions, frame_number
from ros2_loc.io.image_sequence import ImageSequence

_RATE_HZ = 30.0
_FOCAL_PX = 585.0  # the default that the data set's page states, for 640x480


def is_seven_scenes(folder: Path) -> bool:
    """Whether a folder holds colour images named as 7-Scenes names them."""
    return bool(_color_files(folder))


def open_seven_scenes(folder: Path, options: FolderOptions) -> ImageSequence:
    """A 7-Scenes folder; map axes are those of its poses, in which nobody knows where up is.

    Raises:
        DataError: a damaged pose or calibration, or no pose at all.
    """
    files = _color_files(folder)
    base_from_camera = options.base_from_camera or Pose(BODY_FROM_OPTICAL, np.array([0.0, 0.0, options.camera_height_m or 0.0]))
    poses = [_map_from_base(path, base_from_camera) for path in files]
    if not any(poses):
        raise DataError(f"{folder}: has no frame-*.pose.txt beside its images; copy them from the data set")
    numbers = np.array([frame_number(path.name) for path in files], dtype=np.float64)
    return ImageSequence(
        names=tuple(path.name for path in files),
        stamps_ns=np.round(numbers * (1e9 / (options.rate_hz or _RATE_HZ))).astype(np.int64),
        camera=_camera(folder, files[0], options.camera),
        base_from_camera=base_from_camera,
        map_from_base=tuple(poses),
        odom_from_base=(None,) * len(files),
        fixes=(),
        load=lambda i: images.read_image(files[i]),
    )


def _color_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("frame-*.color.*") if p.suffix.lower() in images.SUFFIXES)


def _map_from_base(image: Path, base_from_camera: Pose) -> Pose | None:
    path = image.with_name(image.name.partition(".")[0] + ".pose.txt")
    return trajectories.read_pose_matrix(path) @ base_from_camera.inverse() if path.exists() else None


def _camera(folder: Path, image: Path, calibration: Path | None) -> Camera:
    height, width = images.read_image(image).shape[:2]
    usual = (folder / "camera-intrinsics.txt", folder.parent / "camera-intrinsics.txt")
    calibration = calibration or next((p for p in usual if p.is_file()), None)
    if calibration is not None:
        return cameras.read_camera(calibration, width, height)
    if (width, height) != (640, 480):
        raise DataError(f"{folder}: images are {width}x{height}, not 640x480, and there is no camera-intrinsics.txt; name a camera file")
    return Camera.from_ros(width, height, [_FOCAL_PX, 0, 320, 0, _FOCAL_PX, 240, 0, 0, 1])
