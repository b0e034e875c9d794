"""The running sum of odometry noise against step-by-step composition, and what messages' covariances are worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.core.pose import Pose, compose_covariance, so3_exp, transport_to_left
from ros2_loc.localization.odometry_buffer import DriftModel, HoldModel, OdometryBuffer

S = 1_000_000_000
DRIFT = DriftModel(0.03, 0.001, 0.02, 0.005, 0.0005, 0.0)


def buffer(drift: DriftModel = DRIFT) -> OdometryBuffer:
    return OdometryBuffer(drift, HoldModel(), 10.0, 80.0)


def path(seed: int, count: int, origin_m: float = 50.0) -> list[Pose]:
    rng = np.random.default_rng(seed)
    poses = [Pose(so3_exp(rng.uniform(-1, 1, 3)), rng.uniform(-origin_m, origin_m, 3))]
    for _ in range(count - 1):
        poses.append(poses[-1] @ Pose(so3_exp(rng.normal(0, 0.05, 3)), np.array([0.5, 0, 0]) + rng.normal(0, 0.05, 3)))
    return poses


def step_covariance(motion: Pose, seconds: float) -> np.ndarray:
    way, angle = np.linalg.norm(motion.translation), np.linalg.norm(motion.difference(Pose.identity())[3:])
    d = DRIFT
    m2 = d.noise_m_per_sqrt_m**2 * way + d.noise_m_per_sqrt_s**2 * seconds
    rad2 = d.noise_rad_per_sqrt_m**2 * way + d.noise_rad_per_sqrt_rad**2 * angle + d.noise_rad_per_sqrt_s**2 * seconds
    return np.diag([m2] * 3 + [rad2] * 3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 8), st.integers(1, 11), st.sampled_from([1.0, 1e5]))
def test_the_sum_equals_composition_step_by_step(seed: int, first: int, steps: int, origin_m: float) -> None:
    poses = path(seed, 20, origin_m)
    odometry = buffer()
    for i, pose in enumerate(poses):
        odometry.append(i * S // 10, pose, None)
    total, covariance = Pose.identity(), np.zeros((6, 6))
    for i in range(first, first + steps):
        motion = poses[i].inverse() @ poses[i + 1]
        covariance = compose_covariance(total, covariance, motion, step_covariance(motion, 0.1))
        total = total @ motion
    result = odometry.motion(first * S // 10, (first + steps) * S // 10, None)
    assert np.abs(result.base0_from_base1.difference(total)).max() < 1e-6
    assert np.allclose(result.covariance, covariance, rtol=1e-5, atol=1e-9)


def test_a_consistent_message_covariance_is_used_between_any_two_stamps() -> None:
    """A driver that integrates its noise: the sum over a part of the path gives that part's noise back."""
    poses, noise = path(3, 15), np.diag([1e-4, 2e-4, 3e-4, 1e-6, 2e-6, 3e-6])
    odometry, covariance = buffer(), np.eye(6) * 1e-6
    expected = np.zeros((6, 6))
    total = Pose.identity()
    for i, pose in enumerate(poses):
        if i:
            motion = poses[i - 1].inverse() @ pose
            covariance = compose_covariance(poses[i - 1], covariance, motion, noise)
            if i > 5:
                least = transport_to_left(Pose.identity(), np.diag([0.005**2 * 0.1] * 3 + [0.0005**2 * 0.1] * 3))
                expected = compose_covariance(total, expected, motion, noise + least)
                total = total @ motion
        odometry.append(i * S // 10, pose, covariance)
    assert np.allclose(odometry.motion(5 * S // 10, 14 * S // 10, None).covariance, expected, rtol=1e-5, atol=1e-10)


def test_constant_or_absurd_message_covariances_fall_back_on_the_drift_model() -> None:
    poses = path(4, 10)
    reference = buffer()
    for i, pose in enumerate(poses):
        reference.append(i * S // 10, pose, None)
    expected = reference.motion(0, 9 * S // 10, None).covariance
    constant, absurd, shrinking = [0.01] * 10, [1 + 100.0 * i for i in range(10)], [1 / (1 + i) for i in range(10)]
    for variances in (constant, absurd, shrinking):
        odometry = buffer()
        for i, (pose, variance) in enumerate(zip(poses, variances, strict=True)):
            odometry.append(i * S // 10, pose, np.eye(6) * variance)
        assert np.allclose(odometry.motion(0, 9 * S // 10, None).covariance, expected)


@pytest.mark.parametrize("yaw_rad", [0.0, 0.1, -0.25])
@pytest.mark.parametrize("covariance", [None, np.eye(6) * 1e-6])
def test_a_scale_error_acts_along_the_way_and_about_the_turning(yaw_rad: float, covariance: np.ndarray | None) -> None:
    """The covariance of the scale is e e' of the error that wrong factors really make, and nothing in height, roll and pitch."""
    with_scale, without = buffer(replace(DRIFT, scale_error=0.01)), buffer()
    true, wrong_way, wrong_turn = (Pose(so3_exp([0, 0, 0.7]), np.array([5.0, -3.0, 1.0])) for _ in range(3))
    start, steps = true, 100
    for i in range(steps + 1):
        for odometry in (with_scale, without):
            odometry.append(i * 2 * S // steps, true, None if covariance is None else covariance * (i + 1))
        if i < steps:
            true = true @ Pose(so3_exp([0, 0, yaw_rad / steps]), np.array([10.0 / steps, 0, 0]))
            wrong_way = wrong_way @ Pose(so3_exp([0, 0, yaw_rad / steps]), np.array([10.1 / steps, 0, 0]))
            wrong_turn = wrong_turn @ Pose(so3_exp([0, 0, 1.01 * yaw_rad / steps]), np.array([10.0 / steps, 0, 0]))
    errors = [(start.inverse() @ wrong).difference(start.inverse() @ true) for wrong in (wrong_way, wrong_turn)]
    expected = sum(np.outer(e, e) for e in errors)
    found = with_scale.motion(0, 2 * S, None).covariance - without.motion(0, 2 * S, None).covariance
    assert np.allclose(found, expected, rtol=0.05, atol=2e-4 * expected.max())
    assert found[0, 0] > 0.5 * 0.1**2 and np.abs(np.diag(found)[2:5]).max() < 1e-12


def test_two_turns_on_the_spot_are_not_taken_for_none() -> None:
    odometry = buffer(replace(DRIFT, scale_error=0.01))
    for i in range(81):
        odometry.append(i * S // 10, Pose(so3_exp([0, 0, 4 * np.pi * i / 80]), np.zeros(3)), None)
    assert np.sqrt(odometry.motion(0, 8 * S, None).covariance[5, 5]) > 0.01 * 4 * np.pi


def test_motion_backwards_is_the_inverse_with_the_same_size_of_noise() -> None:
    odometry = buffer()
    for i, pose in enumerate(path(5, 10)):
        odometry.append(i * S // 10, pose, None)
    there, back = odometry.motion(1 * S // 10, 7 * S // 10, None), odometry.motion(7 * S // 10, 1 * S // 10, None)
    assert np.abs((there.base0_from_base1 @ back.base0_from_base1).difference(Pose.identity())).max() < 1e-9
    assert np.isclose(np.linalg.det(there.covariance), np.linalg.det(back.covariance), rtol=1e-6)


def test_a_velocity_is_extrapolated_for_a_short_time_only() -> None:
    odometry = buffer()
    for i in range(10):
        odometry.append(i * S // 10, Pose(np.eye(3), np.array([i * 1.0, 0, 0])), None)
    positions = [odometry.odom_from_base(round(t * S)).translation[0] for t in (0.9, 1.0, 1.2, 1.5, 5.0)]
    assert np.allclose(positions, [9.0, 10.0, 12.0, 12.0, 12.0])  # 0.3 s
    sigma = [np.sqrt(odometry.motion(9 * S // 10, round(t * S), None).covariance[0, 0]) for t in (1.0, 1.2, 2.2)]
    assert sigma[0] < 0.02 < 0.13 < sigma[1] < 0.14 and sigma[2] > 10  # 3 m/s2 for 0.3 s; then it may go on at 10 m/s, or not


def test_what_is_forgotten_is_the_oldest() -> None:
    odometry = buffer()
    for i in range(300):
        odometry.append(i * S // 10, Pose(np.eye(3), np.array([i * 1.0, 0, 0])), None)
        odometry.forget()
    assert odometry.newest_ns == 299 * S // 10 and odometry.newest_ns - odometry.oldest_ns == 10 * S
    assert np.isclose(odometry.distance_m(299 * S // 10), 299.0)
