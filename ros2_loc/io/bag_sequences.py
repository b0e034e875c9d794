"""Bags -> `ImageSequence`: which topics of a recording are meant, and where base_link was at each image."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix
from ros2_loc.core.pose import Pose
from ros2_loc.core.transform_tree import TransformException, TransformTree
from ros2_loc.errors import DataError
from ros2_loc.io import bags, cameras, trajectories
from ros2_loc.io.bag_reader import BagReader
from ros2_loc.io.image_encodings import rgb_from_image
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import RGB
from ros2_loc.io.ros_messages import camera_from_message, fix_from_message, ns_from_stamp, pose_from_message, pose_from_transform
from ros2_loc.io.trajectories import Trajectory

_log = logging.getLogger(__name__)

_DRAWN = ("/detections/", "/localization/")  # masks and pictures that nodes make of the camera's
_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_POSE_TYPES = ("nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")
_OWN_TOPICS = "/localization/"  # what our nodes publish is neither a camera nor the truth


@dataclass(frozen=True, slots=True)
class BagOptions:
    """What to take from a bag; None: what the house's names say, or the only one there is.

    Attributes:
        image_topic: sensor_msgs/Image or CompressedImage.
        poses_topic: of base_link in the map: Odometry, PoseStamped or PoseWithCovarianceStamped.
        odometry_topic: Odometry.
        poses: TUM file of base_link in the map, instead of a topic.
        camera: calibration file, instead of camera_info.
        base_from_camera: mounting of the camera, instead of TF.
        base_frame: the vehicle's frame.
        max_gap_ns: poses further apart in time are not interpolated.
    """

    image_topic: str | None = None
    poses_topic: str | None = None
    odometry_topic: str | None = None
    poses: Path | None = None
    camera: Path | None = None
    base_from_camera: Pose | None = None
    base_frame: str = bags.BASE_FRAME
    max_gap_ns: int = 500_000_000


def open_bag(path: str | Path, options: BagOptions) -> ImageSequence:
    """The images of one camera in a bag. The bag is read through once; images are then read when they are asked for.

    Raises:
        DataError: what is missing in the bag, which topics it has, what to do.
    """
    reader = BagReader(path)
    image_topic = _image_topic(reader, options.image_topic)
    images = _BagImages(reader, image_topic)
    tree = _transform_tree(reader)
    camera = _camera(reader, images, options)
    base_from_camera = options.base_from_camera or _mounting(reader, tree, images, options.base_frame)
    poses_topic = _poses_topic(reader, options)
    return ImageSequence(
        names=tuple(f"{image_topic.strip('/').replace('/', '_')}-{stamp}" for stamp in images.stamps_ns),
        stamps_ns=images.stamps_ns,
        camera=camera,
        base_from_camera=base_from_camera,
        map_from_base=_map_poses(reader, tree, images.stamps_ns, poses_topic, options),
        odom_from_base=_odometry(reader, tree, images.stamps_ns, poses_topic, options),
        fixes=_fixes(reader, tree, options.base_frame),
        load=images,
    )


class _BagImages:
    """Random access to the images of a topic, in the order of the stamps in their headers."""

    def __init__(self, reader: BagReader, topic: str) -> None:
        self._reader, self.topic, self._lock = reader, topic, threading.Lock()
        found: dict[int, tuple[int, int]] = {}  # stamp -> time of recording, which of those recorded at that time
        last_ns, nth, count, self.frame = -1, 0, 0, ""
        for connection, log_ns, data in reader.messages([topic]):
            nth = nth + 1 if log_ns == last_ns else 0
            last_ns, count = log_ns, count + 1
            found.setdefault(_header_stamp(data) or log_ns, (log_ns, nth))
            if count == 1:
                self.frame = reader.deserialize(data, connection.msgtype).header.frame_id
        if not found:
            raise DataError(f"{reader.path}: no image of {topic} can be read; record it again")
        if count > len(found):
            _log.warning("%s: %d of %d images of %s repeat a stamp and are left out", reader.path, count - len(found), count, topic)
        self.stamps_ns: NDArray[np.int64] = np.array(sorted(found), dtype=np.int64)
        self._places = [found[int(stamp)] for stamp in self.stamps_ns]

    def __call__(self, i: int) -> RGB:
        log_ns, nth = self._places[i]
        with self._lock:  # one file position for all threads
            found = list(self._reader.messages([self.topic], log_ns, log_ns + 1))
        if nth >= len(found):
            raise DataError(f"{self._reader.path}: image {i} of {self.topic} can't be read again; was the bag changed meanwhile?")
        connection, _, data = found[nth]
        try:
            return rgb_from_image(self._reader.deserialize(data, connection.msgtype))
        except DataError as error:
            raise DataError(f"{self._reader.path}: image {i} of {self.topic}: {error}") from error


def _header_stamp(data: bytes) -> int:
    """The stamp of a message that begins with a header, without deserializing its megabyte of pixels; 0 where it is not set."""
    if len(data) < 12:
        return 0
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def _listed(reader: BagReader, types: Iterable[str]) -> list[str]:
    return [t.name for t in reader.topics.values() if t.message_type in types and not t.name.startswith(_OWN_TOPICS)]


def _asked(reader: BagReader, topic: str, types: Sequence[str], what: str) -> str:
    if topic in _listed(reader, types):
        return topic
    there = ", ".join(_listed(reader, types)) or "none"
    kinds = ", ".join(t.rpartition("/")[2] for t in types)
    raise DataError(f"{reader.path}: has no topic {topic} of {what} ({kinds}); it has: {there}")


def _image_topic(reader: BagReader, asked: str | None) -> str:
    """The camera's topic; of the same images raw and compressed, the raw ones."""
    if asked is not None:
        return _asked(reader, asked, _IMAGE_TYPES, "images")
    topics = [t for t in _listed(reader, _IMAGE_TYPES) if not t.endswith(("/compressedDepth", "/theora"))]
    cameras_only = [t for t in topics if not (t.endswith("/compressed") and t.removesuffix("/compressed") in topics)]
    for strange in (*_DRAWN, "depth"):
        if len(cameras_only) > 1:
            cameras_only = [t for t in cameras_only if strange not in t] or cameras_only
    if len(cameras_only) == 1:
        return cameras_only[0]
    if not cameras_only:
        there = ", ".join(f"{t.name} ({t.message_type})" for t in reader.topics.values())
        raise DataError(f"{reader.path}: has no images (sensor_msgs Image or CompressedImage); it has: {there}")
    raise DataError(f"{reader.path}: has {len(cameras_only)} cameras; name the image topic, one of: {', '.join(cameras_only)}")


def _camera(reader: BagReader, images: _BagImages, options: BagOptions) -> Camera:
    height, width = images(0).shape[:2]
    if options.camera is not None:
        return cameras.read_camera(options.camera, width, height)
    topic = _camera_info_topic(reader, images)
    _, _, message = next(reader.read([topic]))
    rectified = "rect" in images.topic.removesuffix("/compressed").rpartition("/")[2]
    try:
        camera = camera_from_message(message, rectified)
    except DataError as error:
        raise DataError(f"{reader.path}: {topic}: {error}; or give a calibration file") from error
    if (camera.width, camera.height) != (width, height):
        said = f"{camera.width}x{camera.height}"
        raise DataError(f"{reader.path}: {topic} says {said} but {images.topic} is {width}x{height}; give a calibration file")
    return camera


def _camera_info_topic(reader: BagReader, images: _BagImages) -> str:
    topics = _listed(reader, ("sensor_msgs/msg/CameraInfo",))
    if not topics:
        raise DataError(f"{reader.path}: has no camera_info; give the camera's calibration file, or record sensor_msgs/CameraInfo")
    beside = images.topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
    if beside in topics:
        return beside
    same_frame = [t for t in topics if next(reader.read([t]))[2].header.frame_id == images.frame]
    if len(same_frame) == 1 or len(topics) == 1:
        return (same_frame or topics)[0]
    raise DataError(f"{reader.path}: none of {', '.join(topics)} is the camera_info of {images.topic}; give a calibration file")


def _transform_tree(reader: BagReader) -> TransformTree:
    """All of /tf_static and /tf; no history is dropped. Transforms that are none are left out and counted."""
    tree, refused = TransformTree(cache_ns=2**62), 0
    for static in (True, False):
        for _, _, message in reader.read(["/tf_static" if static else "/tf"]):
            for t in message.transforms:
                try:
                    pose = pose_from_transform(t.transform)
                    tree.insert(t.header.frame_id.lstrip("/"), t.child_frame_id.lstrip("/"), ns_from_stamp(t.header.stamp), pose, static)
                except DataError:
                    refused += 1
    if refused:
        _log.warning("%s: %d transforms are not finite or have no unit quaternion and are left out", reader.path, refused)
    return tree


def _lookup(tree: TransformTree, target: str, source: str, stamp_ns: int) -> Pose | None:
    try:
        return tree.lookup(target, source, stamp_ns)[1]
    except TransformException:
        return None


def _mounting(reader: BagReader, tree: TransformTree, images: _BagImages, base_frame: str) -> Pose:
    if not images.frame:
        raise DataError(f"{reader.path}: images of {images.topic} have no frame_id; give the mounting of the camera on {base_frame}")
    middle = int(images.stamps_ns[len(images.stamps_ns) // 2])
    for stamp_ns in (middle, 0):
        if pose := _lookup(tree, base_frame, images.frame.lstrip("/"), stamp_ns):
            return pose
    known = ", ".join(f"{parent} -> {child}" for child, parent in tree.frames().items()) or "none"
    raise DataError(
        f"{reader.path}: no transform {base_frame} -> {images.frame}; it has: {known}; record /tf_static, "
        "name another base frame, or give the mounting of the camera"
    )


def _poses_topic(reader: BagReader, options: BagOptions) -> str | None:
    if options.poses_topic is not None:
        return _asked(reader, options.poses_topic, _POSE_TYPES, "poses")
    return bags.TRUTH_TOPIC if bags.TRUTH_TOPIC in _listed(reader, _POSE_TYPES) else None


def _map_poses(
    reader: BagReader, tree: TransformTree, stamps_ns: NDArray[np.int64], topic: str | None, options: BagOptions
) -> tuple[Pose | None, ...]:
    if options.poses is not None:
        return _required(trajectories.read_trajectory(options.poses), stamps_ns, options, str(options.poses))
    if topic is not None:
        trajectory = _trajectory(reader, tree, topic, options.base_frame)
        if options.poses_topic is not None:
            return _required(trajectory, stamps_ns, options, f"{reader.path}: {topic}")
        return tuple(trajectory.at(int(stamp), options.max_gap_ns) for stamp in stamps_ns)
    return tuple(_lookup(tree, bags.MAP_FRAME, options.base_frame, int(stamp)) for stamp in stamps_ns)


def _required(trajectory: Trajectory, stamps_ns: NDArray[np.int64], options: BagOptions, where: str) -> tuple[Pose | None, ...]:
    poses = tuple(trajectory.at(int(stamp), options.max_gap_ns) for stamp in stamps_ns)
    if not any(poses):
        raise DataError(f"{where}: no pose is within {options.max_gap_ns / 1e9:g} s of an image; are the clocks the same?")
    return poses


def _odometry(
    reader: BagReader, tree: TransformTree, stamps_ns: NDArray[np.int64], poses_topic: str | None, options: BagOptions
) -> tuple[Pose | None, ...]:
    if options.odometry_topic is not None:
        topic: str | None = _asked(reader, options.odometry_topic, _POSE_TYPES[:1], "odometry")
    else:
        topics = [t for t in _listed(reader, _POSE_TYPES[:1]) if t != poses_topic]
        topic = bags.ODOMETRY_TOPIC if bags.ODOMETRY_TOPIC in topics else topics[0] if len(topics) == 1 else None
    if topic is not None:
        trajectory = _trajectory(reader, tree, topic, options.base_frame)
        return tuple(trajectory.at(int(stamp), options.max_gap_ns) for stamp in stamps_ns)
    return tuple(_lookup(tree, bags.ODOM_FRAME, options.base_frame, int(stamp)) for stamp in stamps_ns)


def _trajectory(reader: BagReader, tree: TransformTree, topic: str, base_frame: str) -> Trajectory:
    """base_link over time in the frame of a topic's headers; poses of another child frame are brought to base_link by TF."""
    found: dict[int, Pose] = {}
    refused = 0
    for _, _, message in reader.read([topic]):
        try:
            stamp_ns, pose = ns_from_stamp(message.header.stamp), pose_from_message(_pose_field(message))
        except DataError:
            refused += 1
            continue
        child = str(getattr(message, "child_frame_id", "")).lstrip("/") or base_frame
        if child != base_frame:
            child_from_base = _lookup(tree, child, base_frame, stamp_ns)
            if child_from_base is None:
                raise DataError(f"{reader.path}: {topic} is of {child}, with no transform from there to {base_frame}; record /tf_static")
            pose = pose @ child_from_base
        found[stamp_ns] = pose
    if refused:
        _log.warning("%s: %d poses of %s are not finite or have no unit quaternion and are left out", reader.path, refused, topic)
    stamps = sorted(found)
    return Trajectory(np.array(stamps, dtype=np.int64), tuple(found[s] for s in stamps))


def _pose_field(message: Any) -> Any:
    return getattr(message.pose, "pose", message.pose)


def _fixes(reader: BagReader, tree: TransformTree, base_frame: str) -> tuple[GeoFix, ...]:
    """Positions by satellite with the antenna's place on base_link, where TF knows it; those without a fix are left out."""
    fixes = []
    for _, _, message in reader.read(_listed(reader, ("sensor_msgs/msg/NavSatFix",))[:1]):
        antenna = _lookup(tree, base_frame, message.header.frame_id.lstrip("/"), 0)
        try:
            fixes.append(fix_from_message(message, np.zeros(3) if antenna is None else antenna.translation))
        except DataError:
            continue
    return tuple(fixes)
