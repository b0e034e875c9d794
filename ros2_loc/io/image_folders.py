"""Folders of images -> `ImageSequence`: plain ones with a file of poses and one of the camera, KITTI odometry, 7-Scenes.

Which row of a file belongs to which image is decided here: by the times of both, else by the number in the image's name, else by order
when there are as many rows as images, and otherwise not at all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose
from ros2_loc.errors import DataError
from ros2_loc.io import cameras, images, kitti, trajectories
from ros2_loc.io.files import read_text, rows_of_numbers
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.trajectories import Trajectory

_log = logging.getLogger(__name__)

DEFAULT_RATE_HZ = 10.0  # KITTI's, taken where no times are known
_MAX_GAP_NS = 500_000_000  # further apart, poses are not interpolated


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """What a folder of images does not say itself.

    Attributes:
        poses: file in TUM or KITTI form.
        camera: calibration file, see `read_camera`.
        poses_of: whether the poses are those of the camera (optical frame) or of base_link.
        base_from_camera: mounting of the camera; default: at base_link's origin (`camera_height_m` above it), looking along its x axis.
        camera_height_m: height of the camera over base_link; default: KITTI's where the poses are in KITTI's form, else 0.
        rate_hz: images per second, where no times are known.
        max_gap_ns: poses further apart in time are not interpolated.
    """

    poses: Path | None = None
    camera: Path | None = None
    poses_of: Literal["camera", "base"] = "camera"
    base_from_camera: Pose | None = None
    camera_height_m: float | None = None
    rate_hz: float | None = None
    max_gap_ns: int = _MAX_GAP_NS


def image_files(folder: str | Path) -> list[Path]:
    """The images in a folder, ordered by the last number in their names where all have one, else by name.

    Raises:
        DataError: no such folder, or no images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that holds the images")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in images.SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(f"{folder}: holds no images ({' '.join(images.SUFFIXES)}); give the folder that holds them")
    numbers = [frame_number(p.name) for p in files]
    return files if None in numbers else [p for _, p in sorted(zip(numbers, files, strict=True))]


def frame_number(name: str) -> int | None:
    """The last number in a file's name without its suffix: 7 of `000007.png` and of `frame-000007.color.jpg`."""
    found = re.findall(r"\d+", Path(name).stem)
    return int(found[-1]) if found else None


def stamp_in_name(name: str) -> int | None:
    """The time in a file's name: nanoseconds (`1403636579763555584.png`, EuRoC) or seconds (`1305031102.175304.png`, TUM); else None."""
    stem = Path(name).stem
    if re.fullmatch(r"\d{16,19}", stem):
        return int(stem)
    return trajectories.stamp_from_text(stem) if re.fullmatch(r"\d{9,}\.\d+", stem) else None


def rows_of_images(names: Sequence[str], count: int, where: str) -> list[int]:
    """Which of the `count` rows of a file belongs to each image: by the number in its name, else by order.

    Raises:
        DataError: neither fits.
    """
    numbers = [number for name in names if (number := frame_number(name)) is not None]
    numbered = len(numbers) == len(names) == len(set(numbers))
    if numbered and max(numbers) < count:
        return numbers
    if len(names) == count:
        return list(range(count))
    last = f" numbered up to {max(numbers)}" if numbered else " without frame numbers in their names"
    raise DataError(f"{where}: has {count} rows for {len(names)} images{last}; give the file of this sequence: is it cut short?")


def open_image_folder(folder: str | Path, options: FolderOptions, times: Path | None = None) -> ImageSequence:
    """A folder of images of one camera.

    Args:
        folder: holds the images.
        options: poses, camera and conventions; see `FolderOptions`.
        times: file with a time in seconds a row; default: `times.txt` in the folder or beside it.

    Raises:
        DataError: anything missing, damaged or contradictory, in one line with the file's name.
    """
    files = image_files(folder)
    names = tuple(p.name for p in files)
    if options.camera is None:
        raise DataError(f"{folder}: has no calibration; name a camera file (ROS camera_info YAML, COLMAP cameras.txt, KITTI calib.txt)")
    height, width = images.read_image(files[0]).shape[:2]
    index = kitti.camera_index(Path(folder))
    camera = cameras.read_camera(options.camera, width, height, index)
    known = known_stamps(Path(folder), names, times)
    stamps, poses, form = _stamps_and_poses(names, known, options)
    base_from_posed, base_from_camera = _mounting(options, form, index)
    return ImageSequence(
        names=names,
        stamps_ns=stamps,
        camera=camera,
        base_from_camera=base_from_camera,
        map_from_base=tuple(_map_from_base(pose, form, options, base_from_posed) for pose in poses),
        odom_from_base=(None,) * len(names),
        fixes=(),
        load=lambda i: images.read_image(files[i]),
    )


def known_stamps(folder: Path, names: Sequence[str], times: Path | None = None) -> NDArray[np.int64] | None:
    """(N,) ns of the images, from a file of times (given, or `times.txt` in the folder or beside it) or from their names; else None.

    Raises:
        DataError: a file of times that does not fit the images.
    """
    times = times or next((p for p in (folder / "times.txt", folder.parent / "times.txt") if p.is_file()), None)
    if times is not None:
        seconds = rows_of_numbers(times, "times in seconds, one a row")[:, 0]
        return trajectories.ns_from_seconds(seconds[rows_of_images(names, len(seconds), str(times))])
    stamps = [stamp for name in names if (stamp := stamp_in_name(name)) is not None]
    return np.array(stamps, dtype=np.int64) if len(stamps) == len(names) else None


def _stamps_and_poses(
    names: Sequence[str], known: NDArray[np.int64] | None, options: FolderOptions
) -> tuple[NDArray[np.int64], Sequence[Pose | None], str]:
    """(stamps, poses as they are in the file, its form: "kitti", "tum", or "" without a file)."""
    assumed = known if known is not None else _assumed_stamps(names, options.rate_hz or DEFAULT_RATE_HZ)
    if options.poses is None:
        return assumed, (None,) * len(names), ""
    if trajectories.is_kitti_form(options.poses):
        rows = trajectories.read_kitti(options.poses)
        return assumed, [rows[row] for row in rows_of_images(names, len(rows), str(options.poses))], "kitti"
    trajectory = trajectories.read_tum(options.poses)
    if known is not None and (poses := _at_stamps(trajectory, known, options.max_gap_ns)):
        return known, poses, "tum"
    if known is not None and len(trajectory) != len(names):
        raise DataError(f"{options.poses}: no pose is within {options.max_gap_ns / 1e9:g} s of an image; give the poses of this sequence")
    order = rows_of_images(names, len(trajectory), str(options.poses))
    return trajectory.stamps_ns[order], [trajectory.poses[row] for row in order], "tum"


def _at_stamps(trajectory: Trajectory, stamps_ns: NDArray[np.int64], max_gap_ns: int) -> list[Pose | None]:
    poses = [trajectory.at(int(stamp), max_gap_ns) for stamp in stamps_ns]
    return poses if any(pose is not None for pose in poses) else []


def _assumed_stamps(names: Sequence[str], rate_hz: float) -> NDArray[np.int64]:
    numbers = [frame_number(name) for name in names]
    usable = None not in numbers and len(set(numbers)) == len(numbers) and max(n for n in numbers if n is not None) < 2**31
    return np.round(np.array(numbers if usable else range(len(names)), dtype=np.float64) * (1e9 / rate_hz)).astype(np.int64)


def _mounting(options: FolderOptions, form: str, index: int) -> tuple[Pose, Pose]:
    """(base_from_posed, base_from_camera): KITTI's poses are those of camera 0, whichever camera took the images."""
    cam0_from_camera = Pose.identity()
    if form == "kitti" and index != 0 and options.camera is not None:
        text = read_text(options.camera, "calibration")
        if cameras.kitti_projections(text):
            cam0_from_camera = kitti.cam0_from_camera(text, index)
        else:
            _log.warning("%s does not say where camera %d sits on camera 0: taking the poses as its own", options.camera, index)
    if options.base_from_camera is not None:
        return options.base_from_camera @ cam0_from_camera.inverse(), options.base_from_camera
    height = options.camera_height_m
    if height is None:
        height = kitti.CAMERA_HEIGHT_M if form == "kitti" else 0.0
    base_from_posed = Pose(BODY_FROM_OPTICAL, np.array([0.0, 0.0, height]))
    return base_from_posed, base_from_posed @ cam0_from_camera


def _map_from_base(pose: Pose | None, form: str, options: FolderOptions, base_from_posed: Pose) -> Pose | None:
    """From the pose in the file; KITTI's fixed frame is camera 0 of its first frame, whose base_link becomes the map."""
    if pose is None or options.poses_of == "base":
        return pose
    map_from_fixed = base_from_posed if form == "kitti" else Pose.identity()
    return map_from_fixed @ pose @ base_from_posed.inverse()
