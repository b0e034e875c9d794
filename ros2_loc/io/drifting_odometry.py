"""Odometry made from the truth: for recordings that have none, such as KITTI's odometry sequences. Never a measurement, always labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose, compose_covariance


@dataclass(frozen=True, slots=True)
class Drift:
    """What is wrong with the made odometry; the defaults are those of good wheel encoders with a gyroscope.

    Attributes:
        scale: standard deviation of the error of the way, as a part of it (0.01: 1 %). It is not white: it keeps its value over about
            `scale_length_m`, as slip and tyre pressure do.
        scale_length_m: the way over which that error is forgotten.
        across: random walk sideways and upwards, m after 1 m (it grows with the square root of the way).
        yaw_deg_per_100m: standard deviation of the heading after 100 m; roll and pitch drift a tenth of that.
    """

    scale: float = 0.01
    scale_length_m: float = 100.0
    across: float = 0.01
    yaw_deg_per_100m: float = 0.5

    def covariance_per_metre(self) -> NDArray[np.float64]:
        """(6, 6) in ROS order and the axes of base_link: what the variance of an increment grows by per metre, as after a long way.

        The correlated error of the scale adds up to 2 scale^2 length per metre; over a short way that is more than there really is.
        """
        yaw = np.radians(self.yaw_deg_per_100m) ** 2 / 100.0
        along = 2.0 * self.scale**2 * self.scale_length_m
        return np.diag([along, self.across**2, self.across**2, 0.01 * yaw, 0.01 * yaw, yaw])


def drifting_odometry(
    map_from_base: Sequence[Pose], drift: Drift, seed: int = 0
) -> tuple[tuple[Pose, ...], tuple[NDArray[np.float64], ...]]:
    """What a drifting odometry would have said along a way.

    Args:
        map_from_base: N true poses in their order.
        drift: its errors.
        seed: of the random numbers; the same seed gives the same odometry.

    Returns:
        N poses odom_from_base, the first the identity; N covariances (6, 6) of them in ROS order, axes of odom.
    """
    rng = np.random.default_rng(seed)
    per_metre = drift.covariance_per_metre()
    white = np.sqrt(np.diag(per_metre))
    white[0] = 0.0  # the way's error is the scale's
    scale = drift.scale * rng.standard_normal()
    poses, covariances = [Pose.identity()], [np.eye(6) * 1e-9]
    for before, after in zip(map_from_base[:-1], map_from_base[1:], strict=True):
        step = before.inverse() @ after
        way = float(np.linalg.norm(step.translation))
        kept = np.exp(-way / drift.scale_length_m)
        scale = kept * scale + np.sqrt(1.0 - kept**2) * drift.scale * rng.standard_normal()
        noise = white * np.sqrt(way) * rng.standard_normal(6)
        measured = Pose(step.rotation, step.translation * (1.0 + scale)).perturbed(noise)
        # a vehicle that stands still is still not known exactly
        covariances.append(compose_covariance(poses[-1], covariances[-1], measured, per_metre * max(way, 1e-4)))
        poses.append(poses[-1] @ measured)
    return tuple(poses), tuple(covariances)
