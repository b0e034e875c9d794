"""ROS messages -> records, for messages of any library: rclpy's on a robot and rosbags' from a bag have the same fields.

What comes in is checked as navigation2 checks it (finite numbers, unit quaternion to 1e-4, a frame name, a covariance that is one), so that
no bad message becomes a pose.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError, GeometryError

_UNIT_TOLERANCE = 1e-4  # navigation2's, on the squared norm


class OdometrySample(NamedTuple):
    """stamp_ns; odom_from_base; covariance (6, 6) of the pose in ROS order, or None where the message states none."""

    stamp_ns: int
    odom_from_base: Pose
    covariance: NDArray[np.float64] | None


def ns_from_stamp(stamp: Any) -> int:
    """Integer nanoseconds of a builtin_interfaces/Time.

    Raises:
        DataError: a nanosecond part of a second or more, or a time before 1970.
    """
    if stamp.sec < 0 or stamp.nanosec >= 1_000_000_000:
        raise DataError(f"stamp {stamp.sec} s {stamp.nanosec} ns is not a time; fill header.stamp")
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def checked_stamp(message: Any) -> int:
    """The stamp in ns of a message with a header.

    Raises:
        DataError: the header names no frame, or as `ns_from_stamp`.
    """
    if not message.header.frame_id:
        raise DataError(f"{type(message).__name__.rpartition('__')[2]} has an empty header.frame_id; name the frame it is given in")
    return ns_from_stamp(message.header.stamp)


def camera_from_message(message: Any, rectified: bool = False) -> Camera:
    """The camera of the images that come with this CameraInfo: region of interest and binning applied.

    Args:
        message: sensor_msgs/CameraInfo.
        rectified: the images are rectified, so P holds and there is no distortion.

    Raises:
        DataError: not calibrated, no size, an unknown distortion model, or a region outside of the image.
    """
    k = np.asarray(message.p).reshape(3, 4)[:, :3] if rectified else np.asarray(message.k)
    try:
        if not np.isfinite(k).all() or not k.any():
            raise GeometryError(f"{'P' if rectified else 'K'} is {'all zero' if not k.any() else 'not finite'}: calibrate the camera")
        model, d = ("", ()) if rectified else (message.distortion_model, message.d)
        return _windowed(Camera.from_ros(message.width, message.height, k, model, d), message)
    except GeometryError as error:
        raise DataError(f"camera_info of {message.header.frame_id or 'a camera without frame_id'} refused: {error}") from error


def _windowed(camera: Camera, message: Any) -> Camera:
    """K speaks of the full sensor; the image is its region of interest (0 x 0: all of it), then binned (0: not)."""
    roi = message.roi
    if roi.width and roi.height:
        if roi.x_offset + roi.width > camera.width or roi.y_offset + roi.height > camera.height:
            region = f"{roi.width}x{roi.height}+{roi.x_offset}+{roi.y_offset}"
            raise GeometryError(f"its region {region} leaves the {camera.width}x{camera.height} image")
        camera = camera.cropped(roi.x_offset, roi.y_offset, roi.width, roi.height)
    if message.binning_x > 1 or message.binning_y > 1:
        camera = camera.resized(camera.width // max(message.binning_x, 1), camera.height // max(message.binning_y, 1))
    return camera


def pose_from_message(message: Any) -> Pose:
    """The pose of a geometry_msgs/Pose.

    Raises:
        DataError: a number that is not finite, or a quaternion whose squared norm differs from 1 by more than 1e-4.
    """
    return _pose(message.position, message.orientation)


def pose_from_transform(message: Any) -> Pose:
    """`header.frame_id`-from-`child_frame_id` of a geometry_msgs/Transform; raises as `pose_from_message`."""
    return _pose(message.translation, message.rotation)


def pose_from_orientation(orientation: Any) -> Pose:
    """The pure rotation of a geometry_msgs/Quaternion; raises as `pose_from_message`."""
    return _pose(None, orientation)


def _pose(position: Any, orientation: Any) -> Pose:
    translation = np.zeros(3) if position is None else np.array([position.x, position.y, position.z])
    quaternion = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if not (np.isfinite(translation).all() and np.isfinite(quaternion).all()):
        raise DataError(f"pose refused: position {translation.tolist()}, quaternion {quaternion.tolist()} are not all finite")
    if abs(quaternion @ quaternion - 1.0) > _UNIT_TOLERANCE:
        raise DataError(f"pose refused: quaternion {quaternion.tolist()} (x, y, z, w) is not of unit length; normalize it")
    return Pose.from_quaternion_xyzw(quaternion, translation)


def odometry_from_message(message: Any) -> OdometrySample:
    """Stamp, `odom_from_base` and covariance of a nav_msgs/Odometry; a singular covariance (all zero, planar) counts as not stated.

    Raises:
        DataError: empty frame, bad stamp, bad pose, or a covariance that is not finite or has a negative variance.
    """
    stamp_ns = checked_stamp(message)
    odom_from_base = pose_from_message(message.pose.pose)
    covariance = covariance_of(message.pose.covariance)
    covariance = 0.5 * (covariance + covariance.T)
    return OdometrySample(stamp_ns, odom_from_base, covariance if np.linalg.eigvalsh(covariance)[0] > 0 else None)


def covariance_of(values: Any) -> NDArray[np.float64]:
    """(6, 6) of the 36 numbers in a message, in ROS order.

    Raises:
        DataError: a number that is not finite, or a negative variance.
    """
    covariance = np.array(values, dtype=np.float64).reshape(6, 6)
    if not np.isfinite(covariance).all():
        raise DataError("covariance refused: it has numbers that are not finite")
    if (np.diag(covariance) < 0).any():
        raise DataError(f"covariance refused: its diagonal {np.diag(covariance).tolist()} has negative variances")
    return covariance


def fix_from_message(message: Any, antenna_in_base_m: ArrayLike = (0.0, 0.0, 0.0)) -> GeoFix:
    """The position in a sensor_msgs/NavSatFix.

    Raises:
        DataError: the receiver has no fix, or its position does not exist.
    """
    stamp_ns = checked_stamp(message)
    if message.status.status < 0:
        raise DataError(f"NavSatFix refused: its status is {message.status.status}, no fix")
    covariance = np.array(message.position_covariance, dtype=np.float64).reshape(3, 3)
    known = message.position_covariance_type != 0 and np.isfinite(covariance).all()
    position = (message.latitude, message.longitude, message.altitude)
    try:
        return GeoFix(stamp_ns, *position, covariance if known else None, np.asarray(antenna_in_base_m, dtype=np.float64))
    except GeometryError as error:
        raise DataError(f"NavSatFix refused: {error}") from error
