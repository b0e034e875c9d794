"""The last images of a drive, by the way between them, each with the features that its one pass through the backbone gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import GroundFeatures


@dataclass(frozen=True, slots=True, eq=False)
class BufferedFrame:
    """Attributes:
    stamp_ns: of the image.
    features: of the image.
    odom_from_base: odometry at the stamp; the identity where there is none.
    distance_m: the odometer at the stamp.
    """

    stamp_ns: int
    features: GroundFeatures
    odom_from_base: Pose
    distance_m: float


class FrameBuffer:
    """At most `count` images, `spacing_m` apart but for the newest; while the robot stands, that is replaced after `refresh_s`."""

    def __init__(self, count: int, spacing_m: float, refresh_s: float) -> None:
        self._count, self._spacing_m, self._refresh_ns = count, spacing_m, round(refresh_s * 1e9)
        self._frames: list[BufferedFrame] = []

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def newest_first(self) -> tuple[BufferedFrame, ...]:
        """The video as encoders want it."""
        return tuple(reversed(self._frames))

    def clear(self) -> None:
        """Forgets all images."""
        self._frames = []

    def is_late(self, stamp_ns: int) -> bool:
        """Whether an image of this stamp is no newer than those that are there."""
        return bool(self._frames) and stamp_ns <= self._frames[-1].stamp_ns

    def wants(self, stamp_ns: int, distance_m: float) -> bool:
        """Whether an image of this stamp, at this reading of the odometer, is worth a pass through the backbone."""
        if not self._frames:
            return True
        newest = self._frames[-1]
        return self._is_further(distance_m, newest) or stamp_ns - newest.stamp_ns >= self._refresh_ns

    def add(self, frame: BufferedFrame) -> None:
        """Takes an image that is newer than all before; it takes the place of the newest where that was too near the one before it."""
        if len(self._frames) > 1 and not self._is_further(self._frames[-1].distance_m, self._frames[-2]):
            self._frames = self._frames[:-1]
        self._frames = [*self._frames, frame][-self._count :]

    def _is_further(self, distance_m: float, frame: BufferedFrame) -> bool:
        return distance_m - frame.distance_m >= self._spacing_m


def video_poses(video: tuple[BufferedFrame, ...], yaw_offset_rad: float, use_tilt: bool) -> list[Pose]:
    """`query_from_base` of each image of a video, newest first: in the frame of `CrossViewEncoder`.

    Every image is taken on the ground under itself: what odometry says of heights is left out, so that hills do not lift images from it.

    Args:
        video: newest first.
        yaw_offset_rad: true yaw minus the odometry's.
        use_tilt: roll and pitch of the odometry, whose z is up, are kept; else the base is level.
    """
    turn = so3_exp([0.0, 0.0, yaw_offset_rad])
    centre = video[0].odom_from_base.translation
    poses = []
    for frame in video:
        pose = frame.odom_from_base
        rotation = turn @ (pose.rotation if use_tilt else so3_exp([0.0, 0.0, pose.yaw_rad]))
        poses.append(Pose(rotation, turn @ (pose.translation - centre) * np.array([1.0, 1.0, 0.0])))
    return poses
