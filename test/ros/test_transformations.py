"""The examples in the documentation of tf_transformations, and round trips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.pose import so3_exp
from ros2_loc.ros import transformations as t

angles = st.floats(-3.14, 3.14)


def test_documented_examples() -> None:
    np.testing.assert_allclose(t._euler_from_quaternion([0.06146124, 0, 0, 0.99810947]), [0.123, 0, 0], atol=1e-7)
    np.testing.assert_allclose(t._quaternion_multiply([1, -2, 3, 4], [-5, 6, 7, 8]), [-44, -14, 48, 28])
    np.testing.assert_allclose(t._quaternion_matrix([0.06146124, 0, 0, 0.99810947])[:3, :3], so3_exp([0.123, 0, 0]), atol=1e-7)
    np.testing.assert_allclose(t._quaternion_matrix([1, 0, 0, 0]), np.diag([1, -1, -1, 1]))
    axis = np.array([1, 2, 3]) / np.sqrt(14)
    np.testing.assert_allclose(t._quaternion_from_matrix(so3_exp(0.123 * axis)), [0.0164262, 0.0328524, 0.0492786, 0.9981095], atol=1e-7)


@given(angles, st.floats(-1.5, 1.5), angles)
def test_euler_angles_round_trip_and_turn_about_fixed_axes(roll: float, pitch: float, yaw: float) -> None:
    q = t._quaternion_from_euler(roll, pitch, yaw)
    np.testing.assert_allclose(t._euler_from_quaternion(q), [roll, pitch, yaw], atol=1e-6)
    expected = so3_exp([0, 0, yaw]) @ so3_exp([0, pitch, 0]) @ so3_exp([roll, 0, 0])
    np.testing.assert_allclose(t._quaternion_matrix(q)[:3, :3], expected, atol=1e-9)


@given(angles, angles)
def test_looking_straight_up_keeps_the_rotation(roll: float, yaw: float) -> None:
    q = t._quaternion_from_euler(roll, np.pi / 2, yaw)
    again = t._quaternion_from_euler(*t._euler_from_quaternion(q))
    np.testing.assert_allclose(t._quaternion_matrix(again), t._quaternion_matrix(q), atol=1e-6)


@given(angles, angles, angles)
def test_a_quaternion_times_its_inverse_is_the_identity(roll: float, pitch: float, yaw: float) -> None:
    q = 2.0 * t._quaternion_from_euler(roll, pitch, yaw)
    np.testing.assert_allclose(t._quaternion_multiply(q, t._quaternion_inverse(q)), [0, 0, 0, 1], atol=1e-12)


def test_the_names_are_those_of_tf_transformations() -> None:
    assert t.euler_from_quaternion(t.quaternion_from_euler(0.0, 0.0, 0.5))[2] == pytest.approx(0.5)
    product = t.quaternion_multiply(t.quaternion_inverse([0, 0, 0, 1]), t.quaternion_from_matrix(t.quaternion_matrix([0, 0, 0, 1])))
    np.testing.assert_allclose(product, [0, 0, 0, 1])
