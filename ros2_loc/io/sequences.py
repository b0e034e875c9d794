"""`open_sequence`: images of any kind of recording, told apart by what lies at the path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io import bags, kitti
from ros2_loc.io.bag_reader import is_bag
from ros2_loc.io.bag_sequences import BagOptions, open_bag
from ros2_loc.io.image_folders import FolderOptions, open_image_folder
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.kitti_raw import is_raw_drive, open_kitti_raw
from ros2_loc.io.seven_scenes import is_seven_scenes, open_seven_scenes

__all__ = ["ImageSequence", "open_sequence"]


def open_sequence(
    path: str | Path,
    *,
    poses: str | Path | None = None,
    camera: str | Path | None = None,
    poses_of: Literal["camera", "base"] = "camera",
    base_from_camera: Pose | None = None,
    camera_height_m: float | None = None,
    rate_hz: float | None = None,
    image_folder: str | None = None,
    image_topic: str | None = None,
    poses_topic: str | None = None,
    odometry_topic: str | None = None,
    base_frame: str = bags.BASE_FRAME,
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
) -> ImageSequence:
    """The images of a recording with all that it says about them. Only the first image is decoded here.

    Args:
        path: folder of images, KITTI odometry sequence, KITTI raw drive, 7-Scenes folder, or bag (folder, .db3, .mcap).
        poses: file of poses in KITTI or TUM form (for a bag: TUM, of base_link); goes before those of the recording.
        camera: calibration file (see `read_camera`); goes before that of the recording.
        poses_of: what the poses of a file beside a folder of images are of: the camera's optical frame, or base_link.
        base_from_camera: mounting of the camera, where the recording has none; default: at base_link, looking along its x axis.
        camera_height_m: height of that default over base_link; default: 1.65 for poses in KITTI form, else 0.
        rate_hz: images per second, where no times are known; default 10 (7-Scenes: 30).
        image_folder: camera of a KITTI folder, for instance "image_2".
        image_topic, poses_topic, odometry_topic, base_frame: of a bag, see `BagOptions`.
        every, start, stop: every Nth image of those from number `start` to before `stop` in the recording's order.

    Raises:
        DataError: anything missing, damaged or contradictory, in one line.
    """
    path = Path(path)
    poses = None if poses is None else Path(poses)
    camera = None if camera is None else Path(camera)
    if path.exists() and is_bag(path):
        bag = BagOptions(image_topic, poses_topic, odometry_topic, poses, camera, base_from_camera, base_frame)
        return in_range(open_bag(path, bag), every, start, stop)
    folder = FolderOptions(poses, camera, poses_of, base_from_camera, camera_height_m, rate_hz)
    return in_range(_open_folder(path, folder, image_folder), every, start, stop)


def _open_folder(path: Path, options: FolderOptions, image_folder: str | None) -> ImageSequence:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a bag, a folder of images, or a KITTI or 7-Scenes folder")
    if path.is_file():
        raise DataError(f"{path}: is no bag (.db3, .mcap); give a bag or a folder of images")
    if is_seven_scenes(path):
        return open_seven_scenes(path, options)
    if is_raw_drive(path):
        return open_kitti_raw(path, options, image_folder)
    if kitti.is_odometry_folder(path):
        return open_kitti_odometry(path, options, image_folder)
    return open_image_folder(path, options)


def open_kitti_odometry(folder: str | Path, options: FolderOptions, image_folder: str | None = None) -> ImageSequence:
    """A sequence of KITTI odometry; its base_link is on the ground under camera 0, its map that base_link at the first frame.

    Raises:
        DataError: as `find_odometry_folder` and `open_image_folder`.
    """
    found = kitti.find_odometry_folder(folder, image_folder, options.poses, options.camera)
    options = FolderOptions(
        poses=found.poses,
        camera=found.camera,
        base_from_camera=options.base_from_camera,
        camera_height_m=kitti.CAMERA_HEIGHT_M if options.camera_height_m is None else options.camera_height_m,
        rate_hz=options.rate_hz,
    )
    return open_image_folder(found.images, options, found.times)


def in_range(sequence: ImageSequence, every: int, start: int, stop: int | None) -> ImageSequence:
    """Every Nth image of those from number `start` to before `stop`.

    Raises:
        DataError: there are none, or the numbers make no sense.
    """
    if every < 1 or start < 0:
        raise DataError(f"every must be at least 1 and start at least 0, got every={every}, start={start}")
    if (every, start, stop) == (1, 0, None):
        return sequence
    indices = range(len(sequence))[start:stop:every]
    if not indices:
        raise DataError(f"no images from {start} to {stop}: the recording has {len(sequence)}")
    return sequence.subset(indices)
