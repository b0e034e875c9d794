"""KITTI odometry: where its files lie and what its conventions are.

A sequence has `image_0/000000.png` (left gray; 1 right gray, 2 left colour, 3 right colour), `calib.txt` with the projection matrices
of the rectified cameras, `times.txt`, and poses `cam0(0)_from_cam0(t)` in `poses.txt` or `../../poses/<sequence>.txt`.
Source: devkit readme of KITTI odometry; Geiger et al. 2013, "Vision meets robotics", for the heights of the sensors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io.cameras import kitti_projections

CAMERA_HEIGHT_M = 1.65  # of all four cameras over the ground
_IMAGE_FOLDERS = ("image_0", "image_2", "image_l", "image_1", "image_3", "image_r")
_CALIBRATIONS = ("calib.txt", "K.txt", "camera.yaml", "cameras.txt")


@dataclass(frozen=True, slots=True)
class OdometryFolder:
    """The files of one sequence; those that it lacks are None."""

    images: Path
    camera: Path
    poses: Path | None
    times: Path | None


def is_odometry_folder(folder: Path) -> bool:
    """Whether a folder has a folder of images as a sequence of KITTI odometry has them."""
    return any((folder / n).is_dir() for n in _IMAGE_FOLDERS)


def find_odometry_folder(
    folder: str | Path, image_folder: str | None = None, poses: Path | None = None, camera: Path | None = None
) -> OdometryFolder:
    """The files of a sequence.

    Args:
        folder: for instance `sequences/03`.
        image_folder: which camera, for instance "image_2"; default: the first that is there.
        poses, camera: files of poses and of the calibration, where they do not lie in their usual places.

    Raises:
        DataError: no such folder, no images, or no calibration.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder of a KITTI odometry sequence (image_0/, calib.txt, times.txt)")
    names = (image_folder,) if image_folder else _IMAGE_FOLDERS
    found = [folder / name for name in names if (folder / name).is_dir()]
    if not found:
        raise DataError(f"{folder}: has no folder {' or '.join(names)}; give the folder of a KITTI odometry sequence")
    camera = camera or next((folder / n for n in _CALIBRATIONS if (folder / n).is_file()), None)
    if camera is None:
        raise DataError(f"{folder}: has no calib.txt; copy it from the sequence's folder of KITTI's calibration download")
    usual = (folder / "poses.txt", folder.parent.parent / "poses" / f"{folder.name}.txt")
    times = folder / "times.txt"
    poses = poses or next((p for p in usual if p.is_file()), None)
    return OdometryFolder(found[0], camera, poses, times if times.is_file() else None)


def camera_index(image_folder: Path) -> int:
    """The camera's number in the name of a folder of images (`image_2`, `image_02/data`); 0 where there is none."""
    for name in (image_folder.name, image_folder.parent.name):
        if match := re.fullmatch(r"image_0?(\d)", name):
            return int(match[1])
        if name in ("image_l", "image_r"):
            return int(name == "image_r")
    return 0


def cam0_from_camera(calibration: str, index: int) -> Pose:
    """Where a rectified camera sits on camera 0: P_i = K [I | t] with t = camera_from_cam0; the text is that of calib.txt.

    Raises:
        DataError: the calibration has no such camera.
    """
    projections = kitti_projections(calibration)
    if index not in projections:
        raise DataError(f"the calibration has no projection matrix of camera {index}; it has {sorted(projections) or 'none at all'}")
    p = projections[index]
    return Pose(np.eye(3), -np.linalg.solve(p[:, :3], p[:, 3]))
