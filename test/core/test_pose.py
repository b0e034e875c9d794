"""Rotations, poses, and covariances against sampling."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ros2_loc.core import pose as p
from ros2_loc.core.pose import Pose
from ros2_loc.errors import GeometryError

sys.path.insert(0, str(Path(__file__).parent))
from strategies import covariance, poses, rotation_vectors, rotations, seeds, vectors


@given(rotation_vectors)
def test_exp_agrees_with_scipy(vector: np.ndarray) -> None:
    np.testing.assert_allclose(p.so3_exp(vector), Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)


@given(rotation_vectors)
def test_log_inverts_exp(vector: np.ndarray) -> None:
    back = p.so3_log(p.so3_exp(vector))
    assert np.linalg.norm(back) <= np.pi + 1e-12
    # at pi both signs are the same rotation
    assert min(np.abs(back - vector).max(), np.abs(back + vector).max() if np.linalg.norm(vector) > 3.14 else 9) < 1e-6


@given(rotations)
def test_quaternions_agree_with_scipy(rotation: np.ndarray) -> None:
    q = p.quaternion_xyzw_from_rotation(rotation)
    assert q[3] >= 0
    np.testing.assert_allclose(abs(q @ Rotation.from_matrix(rotation).as_quat()), 1.0, atol=1e-9)
    np.testing.assert_allclose(p.rotation_from_quaternion_xyzw(q), rotation, atol=1e-9)


@given(vectors, vectors)
def test_skew_is_the_cross_product(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(p.skew(a) @ b, np.cross(a, b), atol=1e-9)


@given(poses, poses, poses, vectors)
def test_chains(c_from_b: Pose, b_from_a: Pose, a_from_x: Pose, point: np.ndarray) -> None:
    chained = (c_from_b @ b_from_a).apply(point)
    np.testing.assert_allclose(chained, c_from_b.apply(b_from_a.apply(point)), atol=1e-8)
    left, right = (c_from_b @ b_from_a) @ a_from_x, c_from_b @ (b_from_a @ a_from_x)
    np.testing.assert_allclose(left.matrix, right.matrix, atol=1e-8)


@given(poses)
def test_inverse(b_from_a: Pose) -> None:
    np.testing.assert_allclose((b_from_a.inverse() @ b_from_a).matrix, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.linalg.inv(b_from_a.matrix), b_from_a.inverse().matrix, atol=1e-9)


@given(poses)
def test_matrix_and_quaternion_round_trips(pose: Pose) -> None:
    np.testing.assert_allclose(Pose.from_matrix(pose.matrix).matrix, pose.matrix, atol=1e-12)
    np.testing.assert_allclose(Pose.from_quaternion_xyzw(pose.quaternion_xyzw, pose.translation).matrix, pose.matrix, atol=1e-9)


@given(poses, poses)
def test_difference_inverts_perturbed(pose: Pose, reference: Pose) -> None:
    np.testing.assert_allclose(reference.perturbed(pose.difference(reference)).matrix, pose.matrix, atol=1e-6)


def test_a_long_chain_stays_a_rotation() -> None:
    step = Pose(p.so3_exp([0.01, 0.02, 0.03]), np.array([0.1, 0, 0]))
    pose = Pose.identity()
    for _ in range(20_000):
        pose = pose @ step
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)


@given(poses, poses, st.floats(0, 1))
def test_interpolation_ends_where_it_should_and_turns_evenly(a: Pose, b: Pose, fraction: float) -> None:
    angle = p.rotation_angle_rad(a.rotation.T @ b.rotation)
    middle = p.interpolate(a, b, fraction)
    np.testing.assert_allclose(p.interpolate(a, b, 0.0).matrix, a.matrix, atol=1e-9)
    np.testing.assert_allclose(p.interpolate(a, b, 1.0).translation, b.translation, atol=1e-9)
    np.testing.assert_allclose(middle.translation, (1 - fraction) * a.translation + fraction * b.translation, atol=1e-9)
    if angle < 3.1:
        np.testing.assert_allclose(p.rotation_angle_rad(a.rotation.T @ middle.rotation), fraction * angle, atol=1e-6)


def test_yaw_is_counter_clockwise_from_east() -> None:
    assert Pose(p.so3_exp([0, 0, 0.5]), np.zeros(3)).yaw_rad == pytest.approx(0.5)


def test_an_optical_frame_looks_forward() -> None:
    right, down, forward = p.BODY_FROM_OPTICAL.T
    np.testing.assert_array_equal(forward, [1, 0, 0])
    np.testing.assert_array_equal(right, [0, -1, 0])
    np.testing.assert_array_equal(down, [0, 0, -1])
    assert np.linalg.det(p.BODY_FROM_OPTICAL) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rotation", "translation"),
    [
        (np.eye(3) * 1.01, np.zeros(3)),
        (np.diag([1.0, 1.0, -1.0]), np.zeros(3)),
        (np.eye(3), np.array([0, np.nan, 0])),
        (np.eye(3), np.zeros(2)),
        (np.eye(4), np.zeros(3)),
    ],
)
def test_what_is_no_pose_is_refused(rotation: np.ndarray, translation: np.ndarray) -> None:
    with pytest.raises(GeometryError):
        Pose(rotation, translation)


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [0, 0, 0, 1.01], [np.nan, 0, 0, 1]])
def test_a_quaternion_that_is_not_of_unit_length_is_refused(quaternion: list[float]) -> None:
    with pytest.raises(GeometryError):
        Pose.from_quaternion_xyzw(quaternion, np.zeros(3))


def test_a_pose_cannot_be_changed() -> None:
    pose = Pose.identity()
    with pytest.raises(ValueError, match="read-only"):
        pose.translation[0] = 1.0


def sampled(pose: Pose, cov: np.ndarray, seed: int, n: int = 4000) -> list[Pose]:
    noise = np.random.default_rng(seed).multivariate_normal(np.zeros(6), cov, n)
    return [pose.perturbed(d) for d in noise]


def assert_covariance(samples: list[Pose], mean: Pose, cov: np.ndarray) -> None:
    """The samples' spread in the directions of `cov` is that of `cov`: whitened, it is the identity within sampling error."""
    deltas = np.array([sample.difference(mean) for sample in samples])
    white = np.linalg.solve(np.linalg.cholesky(cov), deltas.T)
    np.testing.assert_allclose(np.cov(white), np.eye(6), atol=0.15)


CASES = [(1, Pose(p.so3_exp([0.3, -1.2, 0.7]), np.array([3.0, -2.0, 1.0])), Pose(p.so3_exp([-1.0, 0.4, 2.0]), np.array([0.5, 4.0, -1.5])))]
CASES += [(2, Pose(p.so3_exp([3.0, 0.1, 0.0]), np.array([-1.0, 5.0, 0.0])), Pose(p.so3_exp([0.0, 0.0, -2.5]), np.array([2.0, 0.0, 1.0])))]


@pytest.mark.parametrize(("seed", "a", "b"), CASES)
def test_transport_to_the_left_against_sampling(seed: int, a: Pose, b: Pose) -> None:
    cov = covariance(seed)
    assert_covariance([a @ s for s in sampled(b, cov, seed)], a @ b, p.transport_to_left(a, cov))


@pytest.mark.parametrize(("seed", "a", "b"), CASES)
def test_transport_to_the_right_against_sampling(seed: int, a: Pose, b: Pose) -> None:
    cov = covariance(seed)
    assert_covariance([s @ b for s in sampled(a, cov, seed)], a @ b, p.transport_to_right(a, b, cov))


@pytest.mark.parametrize(("seed", "a", "b"), CASES)
def test_composition_against_sampling(seed: int, a: Pose, b: Pose) -> None:
    cov_a, cov_b = covariance(seed), covariance(seed + 100)
    samples = [sa @ sb for sa, sb in zip(sampled(a, cov_a, seed), sampled(b, cov_b, seed + 7), strict=True)]
    assert_covariance(samples, a @ b, p.compose_covariance(a, cov_a, b, cov_b))


@pytest.mark.parametrize(("seed", "a", "b"), CASES)
def test_inversion_against_sampling(seed: int, a: Pose, b: Pose) -> None:
    cov = covariance(seed)
    assert_covariance([s.inverse() for s in sampled(a, cov, seed)], a.inverse(), p.inverse_covariance_of_pose(a, cov))


@given(seeds, poses, poses)
def test_transport_there_and_back(seed: int, a: Pose, b: Pose) -> None:
    cov = covariance(seed)
    right = p.transport_to_right(a @ b, b.inverse(), p.transport_to_right(a, b, cov))
    np.testing.assert_allclose(right, cov, atol=1e-6 * (1 + np.linalg.norm(b.translation) ** 2) * abs(cov).max())
    np.testing.assert_allclose(p.transport_to_left(a.inverse(), p.transport_to_left(a, cov)), cov, atol=1e-12)
    twice = p.inverse_covariance_of_pose(a.inverse(), p.inverse_covariance_of_pose(a, cov))
    np.testing.assert_allclose(twice, cov, atol=1e-6 * (1 + np.linalg.norm(a.translation) ** 2) * abs(cov).max())


@pytest.mark.parametrize(
    "cov", [np.eye(5), np.full((6, 6), np.nan), np.diag([1.0, 1, 1, 1, 1, -1]), np.zeros((6, 6)), np.eye(6) + np.eye(6, k=1)]
)
def test_what_is_no_covariance_is_refused(cov: np.ndarray) -> None:
    with pytest.raises(GeometryError):
        p.check_covariance(cov)
