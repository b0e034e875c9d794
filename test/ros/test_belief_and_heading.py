"""Belief -> messages, and messages -> heading: axes, signs and refusals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")

from sensor_msgs.msg import Imu

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import DataError
from ros2_loc.localization.belief_view import BeliefView, Mode
from ros2_loc.ros import conversions
from ros2_loc.ros.belief_messages import belief_grid, mode_markers
from ros2_loc.ros.cross_view_inputs import Inputs
from ros2_loc.ros.heading import ImuHeading, OdometryHeading

S = 1_000_000_000


def view(probability: np.ndarray, modes: tuple[Mode, ...] = ()) -> BeliefView:
    return BeliefView(100.0, 250.0, 5.0, probability.astype(np.float32), float(probability.sum()), 3.0, modes, 0.0, 0.05)


def test_a_cell_of_the_belief_lies_where_it_is() -> None:
    """Row 0 of the belief is the northmost, row 0 of the message the southmost."""
    probability = np.zeros((4, 6))
    probability[0, 5], probability[3, 0] = 0.8, 0.2  # in the north-east and in the south-west
    map_from_enu = Pose(so3_exp([0.0, 0.0, 0.3]), np.array([7.0, -3.0, 1.0]))
    message = belief_grid(view(probability), map_from_enu, 5 * S, "map")
    data = np.array(message.data).reshape(message.info.height, message.info.width)
    assert data.shape == (4, 6) and data[3, 5] == 100 and data[0, 0] == 25 and data.sum() == 125
    map_from_grid = conversions.pose_from_message(message.info.origin)
    centre = map_from_grid.apply([5.5 * message.info.resolution, 3.5 * message.info.resolution, 0.0])
    np.testing.assert_allclose(centre, map_from_enu.apply([127.5, 247.5, 0.0]), atol=1e-9)
    assert conversions.ns_from_stamp(message.header.stamp) == 5 * S


def test_nothing_believed_is_an_empty_grid_of_zeros() -> None:
    assert not np.array(belief_grid(view(np.zeros((2, 3))), Pose.identity(), 0, "map").data).any()


def test_the_ellipse_of_a_mode_is_its_covariance() -> None:
    covariance = np.array([[16.0, 6.0], [6.0, 9.0]])
    modes = (Mode(120.0, 240.0, 0.7, covariance), Mode(110.0, 235.0, 0.3, np.eye(2)))
    markers = mode_markers(view(np.ones((2, 2)) / 4, modes), Pose.identity(), 0, "map").markers
    assert [m.text for m in markers if m.text] == ["70%", "30%"] and len({(m.ns, m.id) for m in markers[1:]}) == 4
    ring = np.array([[p.x, p.y] for p in markers[1].points]) - [120.0, 240.0]
    squared = np.einsum("ni,ij,nj->n", ring, np.linalg.inv(covariance), ring)
    np.testing.assert_allclose(squared, 9.0, rtol=1e-6)


angle = st.floats(-3.1, 3.1)


@given(yaw=angle, tilt=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)), mounting=st.tuples(angle, angle, angle))
def test_an_imu_mounted_anyhow_gives_the_yaw_of_the_base(yaw: float, tilt: tuple[float, float], mounting: tuple[float, ...]) -> None:
    base_from_imu = Pose(so3_exp(np.array(mounting)), np.ones(3))
    world_from_base = Pose(so3_exp([0, 0, yaw]) @ so3_exp([tilt[0], tilt[1], 0.0]), np.zeros(3))
    found = ImuHeading(lambda frame: base_from_imu, 0.1).of(imu(world_from_base @ base_from_imu))
    assert found is not None
    difference = found.yaw_rad - world_from_base.yaw_rad
    assert abs(np.arctan2(np.sin(difference), np.cos(difference))) < 1e-6


def imu(world_from_imu: Pose, stamp_ns: int = S) -> Imu:
    message = Imu(header=conversions.header(stamp_ns, "imu"))
    message.orientation = conversions.pose_to_message(world_from_imu).orientation
    return message


def test_an_imu_of_1000_hz_is_thinned_and_its_sigma_taken_where_it_states_one() -> None:
    asked: list[str] = []

    def mounting(frame: str) -> Pose:
        asked.append(frame)
        return Pose.identity()

    heading = ImuHeading(mounting, 0.1)
    found = [heading.of(imu(Pose.identity(), S + k * S // 1000)) for k in range(1000)]
    assert sum(f is not None for f in found) == 25 and asked == ["imu"]
    assert found[0] is not None and found[0].sigma_rad == 0.1
    sure = imu(Pose.identity(), 3 * S)
    sure.orientation_covariance[8] = 0.04
    again = heading.of(sure)
    assert again is not None and again.sigma_rad == pytest.approx(0.2)
    assert heading.of(imu(Pose.identity(), S)) is not None  # time went back


def test_an_imu_without_orientation_is_refused() -> None:
    def silent(m: Any) -> None:
        m.orientation_covariance[0] = -1.0

    def zero(m: Any) -> None:
        m.orientation.w = 0.0

    def no_frame(m: Any) -> None:
        m.header.frame_id = ""

    for change, words in ((silent, "it has no orientation"), (zero, "unit length"), (no_frame, "empty header.frame_id")):
        message = imu(Pose.identity())
        change(message)
        with pytest.raises(DataError, match=words):
            ImuHeading(lambda frame: Pose.identity(), 0.1).of(message)


def test_the_heading_of_an_odometry_wraps() -> None:
    sample: Any = SimpleNamespace(stamp_ns=5, odom_from_base=Pose(so3_exp([0, 0, 3.0]), np.zeros(3)))
    found = OdometryHeading(1.0, 0.05).of(sample)
    assert found.yaw_rad == pytest.approx(4.0 - 2 * np.pi) and found.stamp_ns == 5


def test_inputs_keep_their_order_and_say_when_odometry_has_come() -> None:
    inputs: Inputs[list[int]] = Inputs()
    assert not inputs.wait_until(10, 5.0)  # no odometry at all: nothing to wait for
    for k in range(3):
        inputs.add(lambda out, k=k: out.append(k), odometry_ns=10 * k)
    inputs.add(lambda out: out.append(9))
    assert inputs.wait_until(20, 5.0) and not inputs.wait_until(21, 0.01) and len(inputs) == 4
    out: list[int] = []
    for give in inputs.take():
        give(out)
    assert out == [0, 1, 2, 9] and len(inputs) == 0
