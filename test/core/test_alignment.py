"""Alignment finds the transform that was applied, and says when there is none to find."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.alignment import Similarity, align, align_yaw
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import GeometryError

sys.path.insert(0, str(Path(__file__).parent))
from strategies import poses, seeds


def way(seed: int, n: int = 30) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).standard_normal((n, 3)), axis=0)


@given(seeds, poses, st.floats(0.05, 20))
def test_a_similarity_is_found_again(seed: int, pose: Pose, scale: float) -> None:
    source, truth = way(seed), Similarity(scale, pose)
    found = align(source, truth.apply(source), with_scale=True)
    assert found.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(found.pose.matrix, pose.matrix, atol=1e-6)


@given(seeds, poses)
def test_a_rigid_transform_is_found_again(seed: int, pose: Pose) -> None:
    source = way(seed)
    found = align(source, pose.apply(source))
    assert found.scale == 1.0
    np.testing.assert_allclose(found.pose.matrix, pose.matrix, atol=1e-6)


def test_the_fit_is_the_best_one() -> None:
    """Noisy points: no small change of the transform fits better."""
    rng = np.random.default_rng(5)
    source = way(5)
    target = 1.7 * source @ so3_exp([0.4, 0.5, -1.0]).T + [3, 2, 1] + 0.2 * rng.standard_normal(source.shape)
    found = align(source, target, with_scale=True)

    def cost(similarity: Similarity) -> float:
        return float(((similarity.apply(source) - target) ** 2).sum())

    for delta in np.vstack([np.eye(6), -np.eye(6)]) * 1e-3:
        assert cost(found) < cost(Similarity(found.scale, found.pose.perturbed(delta)))
    for factor in (0.999, 1.001):
        assert cost(found) < cost(Similarity(found.scale * factor, found.pose))


def test_a_mirrored_way_is_turned_not_mirrored() -> None:
    source = way(1)
    found = align(source, source * [1, 1, -1])
    assert np.linalg.det(found.pose.rotation) == pytest.approx(1.0)


@given(seeds, poses, st.floats(0.1, 10), poses)
def test_inverse_and_poses(seed: int, pose: Pose, scale: float, body: Pose) -> None:
    similarity, points = Similarity(scale, pose), way(seed)
    np.testing.assert_allclose(similarity.inverse().apply(similarity.apply(points)), points, atol=1e-6)
    moved = similarity.apply_to_pose(body)
    np.testing.assert_allclose(moved.translation, similarity.apply(body.translation))
    np.testing.assert_allclose(moved.rotation, pose.rotation @ body.rotation, atol=1e-12)


@given(seeds, st.floats(-3.1, 3.1), st.tuples(*[st.floats(-50, 50)] * 3))
def test_yaw_alone_on_a_straight_way(seed: int, yaw: float, shift: tuple[float, float, float]) -> None:
    direction = np.random.default_rng(seed).standard_normal(3) + np.array([2.0, 0, 0])
    source = np.linspace(0, 40, 20)[:, None] * direction
    truth = Pose(so3_exp([0, 0, yaw]), np.array(shift))
    np.testing.assert_allclose(align_yaw(source, truth.apply(source)).matrix, truth.matrix, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3))),
        (np.zeros((5, 3)), np.zeros((5, 3))),
        (np.outer(np.arange(5.0), [1, 2, 3]), np.outer(np.arange(5.0), [1, 2, 3])),
        (np.ones((4, 3)), np.ones((5, 3))),
        (np.full((4, 3), np.nan), np.ones((4, 3))),
    ],
)
def test_what_leaves_the_rotation_open_is_refused(source: np.ndarray, target: np.ndarray) -> None:
    with pytest.raises(GeometryError):
        align(source, target)


def test_a_lift_leaves_the_heading_open() -> None:
    up = np.outer(np.arange(5.0), [0, 0, 1])
    with pytest.raises(GeometryError, match="heading"):
        align_yaw(up, up)
