"""The pose that is believed before an image is looked at."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate
from ros2_loc.ros.prior import PriorKeeper

S = 1_000_000_000


def estimate(stamp_ns: int, x_m: float) -> PoseEstimate:
    return PoseEstimate(stamp_ns, Pose(np.eye(3), np.array([x_m, 0.0, 0.0])), np.eye(6) * 0.01, 50, "test")


def test_the_nearest_pose_with_a_covariance_for_the_time_between() -> None:
    keeper = PriorKeeper(max_age_s=1.0, speed_m_s=10.0, turn_rad_s=0.5)
    for k in range(5):
        keeper.offer(estimate(100 * S + k * S // 10, float(k)))
    exact = keeper.at(100 * S + 2 * S // 10)
    assert exact is not None and exact.map_from_base.translation[0] == 2.0 and np.allclose(exact.covariance, np.eye(6) * 0.01)
    later = keeper.at(100 * S + 9 * S // 10)
    assert later is not None and later.stamp_ns == 100 * S + 9 * S // 10 and later.map_from_base.translation[0] == 4.0
    assert np.allclose(np.diag(later.covariance), [0.01 + 25.0] * 3 + [0.01 + 0.0625] * 3)


def test_a_pose_that_is_too_old_is_no_prior() -> None:
    keeper = PriorKeeper(1.0, 10.0, 0.5)
    assert keeper.at(0) is None
    keeper.offer(estimate(100 * S, 0.0))
    assert keeper.at(101 * S) is not None and keeper.at(101 * S + 1) is None and keeper.at(98 * S) is None


def test_time_that_jumps_back_and_forgetting_leave_nothing_of_the_old() -> None:
    keeper = PriorKeeper(1.0, 10.0, 0.5)
    keeper.offer(estimate(100 * S, 1.0))
    keeper.offer(estimate(50 * S, 2.0))
    assert keeper.at(100 * S) is None
    early = keeper.at(50 * S)
    assert early is not None and early.map_from_base.translation[0] == 2.0
    keeper.forget()
    assert keeper.at(50 * S) is None
