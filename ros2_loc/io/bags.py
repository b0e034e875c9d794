"""Writing rosbag2 recordings without ROS: `BagWriter`, the topics and frames that the whole package uses, the store of message types."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.io.images import encode_image
from ros2_loc.io.vision_messages import DETECTIONS_TYPE, register_vision_messages

IMAGE_TOPIC = "/camera/image_raw"
CAMERA_INFO_TOPIC = "/camera/camera_info"
ODOMETRY_TOPIC = "/odom"
TRUTH_TOPIC = "/ground_truth/odometry"
FIX_TOPIC = "/fix"
IMU_TOPIC = "/imu/data"
DETECTIONS_TOPIC = "/detections"
MASK_TOPIC = "/detections/mask"

MAP_FRAME, ODOM_FRAME, BASE_FRAME = "map", "odom", "base_link"
CAMERA_FRAME, GPS_FRAME, IMU_FRAME = "camera_optical_frame", "gps", "imu_link"

_NO_TIME = QosTime(0, 0)
# what a late subscriber must still get, as tf2_ros' StaticTransformBroadcaster offers it
_LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _NO_TIME,
    _NO_TIME,
    QosLiveliness.SYSTEM_DEFAULT,
    _NO_TIME,
    False,
)


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The message types of ROS 2 Kilted and of detections; those that this package reads and writes are the same in Jazzy and Lyrical."""
    types = get_typestore(Stores.ROS2_KILTED)
    register_vision_messages(types)
    return types


class BagWriter:
    """Writes one camera's drive as a rosbag2 folder; a context manager.

    The bag appears under its name when the block ends well, and leaves nothing when it does not. Topics and frames are the constants of
    this module; a topic appears with its first message. Messages are recorded at their own stamps, in any order.

    Args:
        path: folder to make.
        storage: "sqlite3" or "mcap".
        image_format: "raw", "jpeg" or "png"; the last two go to `/camera/image_raw/compressed`.
        jpeg_quality: 1 to 100.
        overwrite: whether a bag at `path` may be replaced.
        notes: words about where the data come from, kept as custom data in metadata.yaml.

    Raises:
        DataError: there is something at `path` already, or it can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        storage: Literal["sqlite3", "mcap"] = "sqlite3",
        image_format: Literal["raw", "jpeg", "png"] = "raw",
        jpeg_quality: int = 95,
        overwrite: bool = False,
        notes: dict[str, str] | None = None,
    ) -> None:
        self._path, self._overwrite, self._notes = Path(path), overwrite, dict(notes or {})
        self._plugin = StoragePlugin[storage.upper()]
        self._image_format, self._jpeg_quality = image_format, jpeg_quality
        self._statics: dict[str, Any] = {}
        self._connections: dict[str, Any] = {}
        self._types = typestore()

    def __enter__(self) -> BagWriter:
        self._atomic: AbstractContextManager[Path] = atomic_path(self._path, self._overwrite)
        self._writer = Writer(self._atomic.__enter__(), version=Writer.VERSION_LATEST, storage_plugin=self._plugin)
        for key, value in self._notes.items():
            self._writer.set_custom_data(key, value)
        self._writer.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._writer.__exit__(kind, error, trace)
        except (OSError, sqlite3.Error) as failure:  # a full disk shows itself here
            self._atomic.__exit__(type(failure), failure, None)
            raise DataError(f"{self._path}: can't be written: {failure}") from failure
        self._atomic.__exit__(kind, error, trace)

    def image(self, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """(H, W, 3) uint8 RGB, or (H, W) uint8 gray, which becomes mono8."""
        if self._image_format == "raw":
            self._raw_image(IMAGE_TOPIC, stamp_ns, image)
            return
        encoded = encode_image(image, {"jpeg": ".jpg", "png": ".png"}[self._image_format], self._jpeg_quality)
        self._write(
            f"{IMAGE_TOPIC}/compressed",
            stamp_ns,
            "sensor_msgs/msg/CompressedImage",
            header=self._header(stamp_ns, CAMERA_FRAME),
            format=self._image_format,
            data=np.frombuffer(encoded, np.uint8),
        )

    def detections(self, stamp_ns: int, detections: Sequence[Detection], moving: NDArray[np.bool_] | None = None) -> None:
        """What was seen in the image of the same stamp, as object_detector says it; `moving` (H, W) bool: where something may move."""
        header = self._header(stamp_ns, CAMERA_FRAME)
        found = [self._detection(header, detection) for detection in detections]
        self._write(DETECTIONS_TOPIC, stamp_ns, DETECTIONS_TYPE, header=header, detections=found)
        if moving is not None:
            self._raw_image(MASK_TOPIC, stamp_ns, moving.astype(np.uint8) * np.uint8(255))

    def camera_info(self, stamp_ns: int, camera: Camera) -> None:
        """Intrinsics of the image of the same stamp.

        Raises:
            GeometryError: the camera's model has no ROS name.
        """
        k, model, d = camera.to_ros()
        self._write(
            CAMERA_INFO_TOPIC,
            stamp_ns,
            "sensor_msgs/msg/CameraInfo",
            header=self._header(stamp_ns, CAMERA_FRAME),
            height=camera.height,
            width=camera.width,
            distortion_model=model,
            d=np.array(d, dtype=np.float64),
            k=k.ravel(),
            r=np.eye(3).ravel(),
            p=np.column_stack([k, np.zeros(3)]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=self._new("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
        )

    def static_transform(self, stamp_ns: int, base_from_child: Pose, child: str = CAMERA_FRAME, parent: str = BASE_FRAME) -> None:
        """A fixed mounting. As a static broadcaster does, each message repeats all of them: subscribers get only the last one."""
        self._statics[child] = self._transform(stamp_ns, base_from_child, parent, child)
        self._write("/tf_static", stamp_ns, "tf2_msgs/msg/TFMessage", transforms=list(self._statics.values()))

    def odometry(
        self,
        stamp_ns: int,
        odom_from_base: Pose,
        covariance: ArrayLike | None = None,
        twist_in_base: ArrayLike | None = None,
        twist_covariance: ArrayLike | None = None,
    ) -> None:
        """Odometry on `/odom` and TF odom -> base_link.

        Args:
            stamp_ns: time of the pose.
            odom_from_base: the pose.
            covariance: (6, 6) of the pose in ROS order, axes of odom; None: not stated (zeros, as ROS has it).
            twist_in_base: (6,) m/s and rad/s in the axes of base_link; None: not stated (first variance -1).
            twist_covariance: (6, 6).
        """
        self._odometry(ODOMETRY_TOPIC, stamp_ns, ODOM_FRAME, odom_from_base, covariance, twist_in_base, twist_covariance)
        transform = self._transform(stamp_ns, odom_from_base, ODOM_FRAME, BASE_FRAME)
        self._write("/tf", stamp_ns, "tf2_msgs/msg/TFMessage", transforms=[transform])

    def truth(self, stamp_ns: int, map_from_base: Pose) -> None:
        """The true pose, on a topic of its own and not on TF: there it would meet what is estimated."""
        self._odometry(TRUTH_TOPIC, stamp_ns, MAP_FRAME, map_from_base, None, None, None)

    def fix(self, fix: GeoFix) -> None:
        """A position by satellite; where the antenna sits is the static transform of frame `gps`."""
        known = fix.covariance_enu is not None
        self._write(
            FIX_TOPIC,
            fix.stamp_ns,
            "sensor_msgs/msg/NavSatFix",
            header=self._header(fix.stamp_ns, GPS_FRAME),
            status=self._new("sensor_msgs/msg/NavSatStatus", status=0, service=1),
            latitude=fix.lat_deg,
            longitude=fix.lon_deg,
            altitude=fix.alt_m,
            position_covariance=_flat(fix.covariance_enu, 3),
            position_covariance_type=3 if known else 0,
        )

    def imu(
        self,
        stamp_ns: int,
        enu_from_imu: Pose | None,
        angular_velocity_rad_s: ArrayLike,
        linear_acceleration_m_s2: ArrayLike,
        orientation_covariance: ArrayLike | None = None,
    ) -> None:
        """Inertial measurement in the axes of frame `imu_link`; `enu_from_imu` gives the orientation (None: not measured)."""
        covariance = _flat(orientation_covariance, 3)
        if enu_from_imu is None:
            covariance[0] = -1.0  # sensor_msgs/Imu: no orientation
        self._write(
            IMU_TOPIC,
            stamp_ns,
            "sensor_msgs/msg/Imu",
            header=self._header(stamp_ns, IMU_FRAME),
            orientation=self._quaternion(enu_from_imu or Pose.identity()),
            orientation_covariance=covariance,
            angular_velocity=self._vector(angular_velocity_rad_s),
            angular_velocity_covariance=np.zeros(9),
            linear_acceleration=self._vector(linear_acceleration_m_s2),
            linear_acceleration_covariance=np.zeros(9),
        )

    def _raw_image(self, topic: str, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        encoding, step = ("mono8", width) if image.ndim == 2 else ("rgb8", 3 * width)
        self._write(
            topic,
            stamp_ns,
            "sensor_msgs/msg/Image",
            header=self._header(stamp_ns, CAMERA_FRAME),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=step,
            data=np.ascontiguousarray(image, dtype=np.uint8).reshape(-1),
        )

    def _detection(self, header: Any, detection: Detection) -> Any:
        x0, y0, x1, y1 = (float(edge) for edge in detection.box)
        point = self._new("vision_msgs/msg/Point2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2)
        centre = self._new("vision_msgs/msg/Pose2D", position=point, theta=0.0)
        nowhere = self._new(
            "geometry_msgs/msg/Pose",
            position=self._new("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
            orientation=self._quaternion(Pose.identity()),
        )
        result = self._new(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=self._new("vision_msgs/msg/ObjectHypothesis", class_id=detection.label, score=float(detection.score)),
            pose=self._new("geometry_msgs/msg/PoseWithCovariance", pose=nowhere, covariance=np.zeros(36)),
        )
        box = self._new("vision_msgs/msg/BoundingBox2D", center=centre, size_x=x1 - x0, size_y=y1 - y0)
        return self._new("vision_msgs/msg/Detection2D", header=header, results=[result], bbox=box, id="")

    def _odometry(self, topic: str, stamp_ns: int, frame: str, pose: Pose, covariance: Any, twist: Any, twist_covariance: Any) -> None:
        x, y, z = pose.translation.tolist()
        velocity = np.zeros(6) if twist is None else np.asarray(twist, dtype=np.float64)
        twist_matrix = _flat(twist_covariance, 6)
        if twist is None:
            twist_matrix[0] = -1.0
        self._write(
            topic,
            stamp_ns,
            "nav_msgs/msg/Odometry",
            header=self._header(stamp_ns, frame),
            child_frame_id=BASE_FRAME,
            pose=self._new(
                "geometry_msgs/msg/PoseWithCovariance",
                pose=self._new(
                    "geometry_msgs/msg/Pose",
                    position=self._new("geometry_msgs/msg/Point", x=x, y=y, z=z),
                    orientation=self._quaternion(pose),
                ),
                covariance=_flat(covariance, 6),
            ),
            twist=self._new(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=self._new("geometry_msgs/msg/Twist", linear=self._vector(velocity[:3]), angular=self._vector(velocity[3:])),
                covariance=twist_matrix,
            ),
        )

    def _transform(self, stamp_ns: int, pose: Pose, parent: str, child: str) -> Any:
        return self._new(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(stamp_ns, parent),
            child_frame_id=child,
            transform=self._new("geometry_msgs/msg/Transform", translation=self._vector(pose.translation), rotation=self._quaternion(pose)),
        )

    def _vector(self, xyz: ArrayLike) -> Any:
        x, y, z = np.asarray(xyz, dtype=np.float64).tolist()
        return self._new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _quaternion(self, pose: Pose) -> Any:
        x, y, z, w = pose.quaternion_xyzw.tolist()
        return self._new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def _header(self, stamp_ns: int, frame: str) -> Any:
        sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
        return self._new("std_msgs/msg/Header", stamp=self._new("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec), frame_id=frame)

    def _new(self, name: str, **fields: Any) -> Any:
        message: Callable[..., Any] = self._types.types[name]
        return message(**fields)

    def _write(self, topic: str, stamp_ns: int, name: str, **fields: Any) -> None:
        if topic not in self._connections:
            qos = [_LATCHED] if topic == "/tf_static" else []
            self._connections[topic] = self._writer.add_connection(topic, name, typestore=self._types, offered_qos_profiles=qos)
        data = self._types.serialize_cdr(self._new(name, **fields), name)
        try:
            self._writer.write(self._connections[topic], int(stamp_ns), data)
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{self._path}: can't be written: {error}") from error


def _flat(covariance: ArrayLike | None, size: int) -> NDArray[np.float64]:
    """(size * size,), zeros where there is none; a copy."""
    if covariance is None:
        return np.zeros(size * size)
    return np.array(covariance, dtype=np.float64).reshape(size, size).ravel()
