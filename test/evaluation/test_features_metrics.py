"""Metrics of keypoints and matches: against other ways to compute them, and against what they must be by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.evaluation import features_metrics as fm

SIZE = (320, 240)


def homography(rng: np.random.Generator) -> np.ndarray:
    """A mild one, all of the image before its horizon."""
    h = np.eye(3) + rng.normal(0, [[0.1, 0.1, 8], [0.1, 0.1, 8], [2e-4, 2e-4, 0]], (3, 3))
    return h / h[2, 2]


@given(st.integers(0, 1000))
def test_warp_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, points = homography(rng), rng.uniform(0, SIZE, (20, 2))
    np.testing.assert_allclose(fm.warp(fm.warp(points, h), np.linalg.inv(h)), points, atol=1e-6)


def test_behind_the_horizon_is_nowhere() -> None:
    assert not np.isfinite(fm.warp([[100.0, 0.0]], [[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]])).any()


@given(st.integers(0, 1000))
def test_repeatability_is_symmetric_and_counts_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h = homography(rng)
    a, b = rng.uniform(0, SIZE, (30, 2)), rng.uniform(0, SIZE, (25, 2))
    found = fm.repeatability(a, b, h, SIZE, SIZE, 15.0)
    a_in_b, b_in_a = fm.warp(a, h), fm.warp(b, np.linalg.inv(h))
    seen_a, seen_b = fm.inside(a_in_b, SIZE), fm.inside(b_in_a, SIZE)
    near = [np.linalg.norm(b - p, axis=1).min() <= 15 for p in a_in_b[seen_a]]
    near += [np.linalg.norm(a - p, axis=1).min() <= 15 for p in b_in_a[seen_b]]
    assert found == pytest.approx(np.mean(near) if seen_a.any() and seen_b.any() else found)
    assert found == fm.repeatability(b, a, np.linalg.inv(h), SIZE, SIZE, 15.0)


def test_keypoints_that_move_with_the_image_repeat_and_others_do_not() -> None:
    rng = np.random.default_rng(3)
    h, a = homography(rng), rng.uniform(0, SIZE, (200, 2))
    b = fm.warp(a, h)
    assert fm.repeatability(a, b[fm.inside(b, SIZE)], h, SIZE, SIZE) == 1.0
    assert fm.repeatability(a, np.zeros((0, 2)), h, SIZE, SIZE) == 0.0
    assert fm.repeatability(np.zeros((0, 2)), np.zeros((0, 2)), h, SIZE, SIZE) is None


def test_matching_accuracy_rises_with_the_threshold() -> None:
    errors = np.array([0.5, 1.0, 2.5, 9.5, np.inf])
    assert fm.matching_accuracy(errors) == (0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8)
    assert fm.matching_accuracy([]) == (0.0,) * 10


@given(st.integers(0, 1000), st.floats(0.0, 20.0))
def test_corner_error_of_a_shift_is_the_shift(seed: int, shift: float) -> None:
    h = homography(np.random.default_rng(seed))
    moved = np.array([[1, 0, shift], [0, 1, 0], [0, 0, 1]]) @ h
    assert fm.corner_error_px(moved, h, SIZE) == pytest.approx(shift, abs=1e-6)
    assert fm.corner_error_px(None, h, SIZE) == np.inf


def test_area_under_the_curve_as_integrated_finely() -> None:
    rng = np.random.default_rng(0)
    errors = np.append(rng.uniform(0, 30, 40), [np.inf, np.inf])
    x = np.linspace(0, 10, 200_001)
    nodes = np.concatenate([[0.0], np.sort(errors[errors < 10])])
    recall = np.interp(x, nodes, np.arange(len(nodes)) / len(errors))
    assert fm.area_under_curve(errors, (10.0,))[0] == pytest.approx(trapezoid(recall, x) / 10, abs=1e-4)  # type: ignore[index]
    assert fm.area_under_curve([0.0, 0.0], (5.0,)) == (1.0,)
    assert fm.area_under_curve([np.inf], (5.0, 10.0)) == (0.0, 0.0)
    assert fm.area_under_curve([], (5.0,)) is None


@given(st.integers(0, 1000), st.floats(0.0, 170.0))
def test_pose_error_is_the_angle_put_in(seed: int, angle_deg: float) -> None:
    rng = np.random.default_rng(seed)
    true = Pose(so3_exp(rng.normal(0, 1, 3)), rng.normal(0, 1, 3))
    axis = rng.normal(0, 1, 3)
    turned = Pose(so3_exp(np.radians(angle_deg) * axis / np.linalg.norm(axis)) @ true.rotation, -3.0 * true.translation)
    rotation, direction = fm.pose_error_deg(turned, true)
    assert rotation == pytest.approx(angle_deg, abs=1e-5) and direction == pytest.approx(0.0, abs=1e-5)
    assert fm.pose_error_deg(None, true) == (np.inf, np.inf)


@given(st.integers(0, 1000))
def test_true_matches_lie_on_their_epipolar_lines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b_from_a = Pose(so3_exp(rng.normal(0, 0.2, 3)), rng.normal(0, 1, 3))
    points = rng.uniform([-2, -2, 4], [2, 2, 9], (30, 3))
    moved = b_from_a.apply(points)
    rays_a, rays_b = points[:, :2] / points[:, 2:], moved[:, :2] / moved[:, 2:]
    assert fm.epipolar_errors_px(rays_a, rays_b, b_from_a, (500.0, 600.0)).max() < 1e-6
    aside = [fm.epipolar_errors_px(rays_a, rays_b + shift, b_from_a, (500.0, 600.0)).max() for shift in ([0.01, 0.0], [0.0, 0.01])]
    assert max(aside) > 1.0  # at most one of the two is along the lines
