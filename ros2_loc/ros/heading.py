"""North for a localizer that needs it: the yaw of base_link, from an Imu or from an odometry that knows north."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io.ros_messages import OdometrySample, checked_stamp, pose_from_orientation

_EVERY_NS = 40_000_000  # an Imu's 1 kHz says no more about the heading than 25 Hz


class Heading(NamedTuple):
    """Yaw of base_link, 0 = east, counter-clockwise, and its standard deviation."""

    stamp_ns: int
    yaw_rad: float
    sigma_rad: float


class ImuHeading:
    """Headings of base_link from the orientation of an Imu (REP-145: of its frame in east-north-up axes)."""

    def __init__(self, base_from_imu: Callable[[str], Pose], sigma_rad: float) -> None:
        """
        Args:
            base_from_imu: mounting of a frame on base_link; asked once for each frame. What it raises goes to the caller.
            sigma_rad: where the message states none.
        """
        self._base_from_imu, self._sigma_rad = base_from_imu, sigma_rad
        self._mountings: dict[str, Pose] = {}
        self._newest_ns = 0

    def of(self, message: Any) -> Heading | None:
        """The heading of a sensor_msgs/Imu; None where the one before is only milliseconds older.

        Raises:
            DataError: no frame, no orientation, or one that is not finite or not of unit length.
        """
        stamp_ns = checked_stamp(message)
        if 0 <= stamp_ns - self._newest_ns < _EVERY_NS:
            return None
        if message.orientation_covariance[0] < 0:
            raise DataError("the Imu states that it has no orientation: use one with a compass, or heading:=odometry")
        world_from_imu = pose_from_orientation(message.orientation)
        frame = message.header.frame_id
        if frame not in self._mountings:
            self._mountings[frame] = self._base_from_imu(frame)
        world_from_base = world_from_imu.rotation @ self._mountings[frame].rotation.T
        self._newest_ns = stamp_ns
        variance = float(message.orientation_covariance[8])
        sigma_rad = math.sqrt(variance) if math.isfinite(variance) and variance > 0 else self._sigma_rad
        return Heading(stamp_ns, Pose(world_from_base, np.zeros(3)).yaw_rad, sigma_rad)


class OdometryHeading:
    """Headings from an odometry whose frame is turned against east-north-up by a known angle."""

    def __init__(self, offset_rad: float, sigma_rad: float) -> None:
        """
        Args:
            offset_rad: yaw of the odom frame, 0 where its x points east.
            sigma_rad: of the headings.
        """
        self._offset_rad, self._sigma_rad = offset_rad, sigma_rad

    def of(self, sample: OdometrySample) -> Heading:
        """The heading of an odometry."""
        yaw_rad = sample.odom_from_base.yaw_rad + self._offset_rad
        return Heading(sample.stamp_ns, math.atan2(math.sin(yaw_rad), math.cos(yaw_rad)), self._sigma_rad)
