"""KITTI raw drives: images and calibration, with poses, fixes and odometry from OXTS.

    2011_09_26/calib_cam_to_cam.txt, calib_imu_to_velo.txt, calib_velo_to_cam.txt
    2011_09_26/2011_09_26_drive_0001_sync/image_00/{timestamps.txt, data/0000000000.png}, oxts/...

Source: devkit of KITTI raw (readme.txt).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io import cameras, images, kitti
from ros2_loc.io.files import numbers_in, read_text
from ros2_loc.io.image_folders import FolderOptions, image_files, rows_of_images
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.oxts import IMU_HEIGHT_M, read_oxts, read_timestamps
from ros2_loc.io.trajectories import Trajectory

_IMAGE_FOLDERS = ("image_00", "image_02", "image_01", "image_03")


def is_raw_drive(folder: Path) -> bool:
    """Whether a folder is laid out as a drive of KITTI raw."""
    return any((folder / name / "data").is_dir() for name in _IMAGE_FOLDERS)


def base_from_cam0(calibration: Path) -> Pose:
    """Where the rectified camera 0 sits on base_link, from the three calibration files in a folder.

    Raises:
        DataError: a file or a matrix in it is missing or damaged.
    """
    velo_from_imu = _rigid(calibration / "calib_imu_to_velo.txt")
    unrectified_from_velo = _rigid(calibration / "calib_velo_to_cam.txt")
    rectification = _field(calibration / "calib_cam_to_cam.txt", "R_rect_00", 9).reshape(3, 3)
    rectified = Pose.from_matrix(np.column_stack([rectification, np.zeros(3)]))
    cam0_from_imu = rectified @ unrectified_from_velo @ velo_from_imu
    return Pose(np.eye(3), np.array([0.0, 0.0, IMU_HEIGHT_M])) @ cam0_from_imu.inverse()


def _rigid(path: Path) -> Pose:
    rotation, translation = _field(path, "R", 9).reshape(3, 3), _field(path, "T", 3)
    try:
        return Pose.from_matrix(np.column_stack([rotation, translation]))
    except GeometryError as error:
        raise DataError(f"{path}: {error}; copy the calibration again") from error


def _field(path: Path, key: str, count: int) -> NDArray[np.float64]:
    for line in read_text(path, "calibration of the drive's day").splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() == key:
            values = numbers_in(numbers)
            if len(values) == count:
                return np.array(values)
            raise DataError(f"{path}: {key} has {len(values)} numbers, not {count}; copy the calibration again")
    raise DataError(f"{path}: has no {key}; copy the calibration of the drive's day")


def calibration_folder(drive: Path) -> Path:
    """The folder of a drive's calibration: the drive's own or, as KITTI has it, the one above.

    Raises:
        DataError: neither holds calib_cam_to_cam.txt.
    """
    for folder in (drive, drive.resolve().parent):
        if (folder / "calib_cam_to_cam.txt").is_file():
            return folder
    raise DataError(f"{drive}: no calib_cam_to_cam.txt here or in the folder above; unpack the calibration of this day there")


def open_kitti_raw(drive: str | Path, options: FolderOptions, image_folder: str | None = None) -> ImageSequence:
    """A drive of KITTI raw as a sequence: poses, odometry (dead reckoning) and fixes from OXTS where it is there.

    Args:
        drive: for instance `2011_09_26/2011_09_26_drive_0001_sync`.
        options: `camera` and `base_from_camera` go before the drive's calibration; the others are not used.
        image_folder: which camera, for instance "image_02"; default: the first that is there.

    Raises:
        DataError: anything missing, damaged or contradictory, in one line.
    """
    drive = Path(drive)
    names = (image_folder,) if image_folder else _IMAGE_FOLDERS
    folder = next((drive / name for name in names if (drive / name / "data").is_dir()), None)
    if folder is None:
        raise DataError(f"{drive}: has no {'/data or '.join(names)}/data; give the folder of a KITTI raw drive")
    files = image_files(folder / "data")
    all_stamps = read_timestamps(folder / "timestamps.txt")
    stamps = all_stamps[rows_of_images([p.name for p in files], len(all_stamps), str(folder / "timestamps.txt"))]
    index = kitti.camera_index(folder)
    oxts = read_oxts(drive / "oxts") if (drive / "oxts").is_dir() else None
    height, width = images.read_image(files[0]).shape[:2]
    calibration = calibration_folder(drive)
    return ImageSequence(
        names=tuple(p.name for p in files),
        stamps_ns=stamps,
        camera=cameras.read_camera(options.camera or calibration / "calib_cam_to_cam.txt", width, height, index),
        base_from_camera=options.base_from_camera or _base_from_camera(calibration, index),
        map_from_base=_at(oxts.trajectory if oxts else None, stamps, options.max_gap_ns),
        odom_from_base=_at(oxts.dead_reckoning() if oxts else None, stamps, options.max_gap_ns),
        fixes=oxts.fixes if oxts else (),
        load=lambda i: images.read_image(files[i]),
    )


def _base_from_camera(calibration: Path, index: int) -> Pose:
    text = read_text(calibration / "calib_cam_to_cam.txt", "calibration of the cameras")
    return base_from_cam0(calibration) @ kitti.cam0_from_camera(text, index)


def _at(trajectory: Trajectory | None, stamps: NDArray[np.int64], max_gap_ns: int) -> tuple[Pose | None, ...]:
    return tuple(None if trajectory is None else trajectory.at(int(stamp), max_gap_ns) for stamp in stamps)
