"""7-Scenes folders: `frame-000000.color.png` (or .jpg), `frame-000000.pose.txt` (4x4, world_from_camera), `camera-intrinsics.txt`.

The data set's camera-intrinsics.txt is of its depth camera: at those 585 px, 46 % of the matches between colour images lie within 3 px of
the epipolar lines of the given poses, at the colour camera's 525 px, which most users of the data set take, 65 %.

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
_SIZE = (640, 480)
_COLOR_FOCAL_PX, _DEPTH_FOCAL_PX = 525.0, 585.0


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


def depth_camera(folder: Path, width: int, height: int) -> Camera:
    """The camera of its depth images, which have that size.

    Raises:
        DataError: a damaged calibration.
    """
    calibration = _calibration(folder)
    return cameras.read_camera(calibration, width, height) if calibration else _pinhole(_DEPTH_FOCAL_PX).resized(width, height)


def _color_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("frame-*.color.*") if p.suffix.lower() in images.SUFFIXES)


def _map_from_base(image: Path, base_from_camera: Pose) -> Pose | None:
    path = image.with_name(image.name.partition(".")[0] + ".pose.txt")
    return trajectories.read_pose_matrix(path) @ base_from_camera.inverse() if path.exists() else None


def _camera(folder: Path, image: Path, calibration: Path | None) -> Camera:
    height, width = images.read_image(image).shape[:2]
    calibration = calibration or _calibration(folder)
    given = cameras.read_camera(calibration, width, height) if calibration is not None else _pinhole(_DEPTH_FOCAL_PX)
    if (width, height) == _SIZE and given == _pinhole(_DEPTH_FOCAL_PX):
        return _pinhole(_COLOR_FOCAL_PX)
    if calibration is None:
        raise DataError(f"{folder}: images are {width}x{height}, not 640x480, and there is no camera-intrinsics.txt; name a camera file")
    return given


def _calibration(folder: Path) -> Path | None:
    usual = (folder / "camera-intrinsics.txt", folder.parent / "camera-intrinsics.txt")
    return next((p for p in usual if p.is_file()), None)


def _pinhole(focal_px: float) -> Camera:
    return Camera.from_ros(*_SIZE, [focal_px, 0, 320, 0, focal_px, 240, 0, 0, 1])
