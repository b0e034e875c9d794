"""The error model: what is fitted makes the errors consistent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.mapping.calibration import Trial, fit_error_model, in_camera_axes, unmeasured


def draw(rng: np.random.Generator, count: int, scale: float, floor: np.ndarray) -> list[Trial]:
    trials = []
    for _ in range(count):
        covariance = np.diag(rng.uniform(0.5, 2.0, 6) * np.array([0.01, 0.01, 0.03, 0.0005, 0.0005, 0.0005])) ** 2
        trials.append(Trial(rng.multivariate_normal(np.zeros(6), scale * covariance + floor), covariance, 5.0))
    return trials


def test_fitted_model_is_consistent_on_new_errors_of_the_same_kind() -> None:
    rng = np.random.default_rng(0)
    floor = np.diag([0.02, 0.01, 0.05, 0.002, 0.001, 0.001]) ** 2
    model = fit_error_model(draw(rng, 200, 4.0, floor))
    assert model.num_trials == 200 and model.distance_m == 5.0
    trials = draw(rng, 600, 4.0, floor)
    nees = [t.error @ np.linalg.solve(model.covariance(t.covariance, Pose.identity(), 5.0), t.error) for t in trials]
    assert np.mean(nees) == pytest.approx(6.0, rel=0.1)


def test_the_floor_of_the_position_is_smaller_near_a_place_and_never_larger_than_measured() -> None:
    model = fit_error_model(draw(np.random.default_rng(0), 50, 1.0, np.eye(6) * 1e-4))
    pose = Pose(so3_exp([0.3, -1.0, 0.2]), np.zeros(3))
    sizes = [np.diag(model.covariance(np.zeros((6, 6)), pose, d)) for d in (0.0, 2.5, 5.0, 50.0)]
    assert (sizes[0][:3] < sizes[1][:3]).all() and (sizes[1][:3] < sizes[2][:3]).all()
    np.testing.assert_allclose(sizes[2], sizes[3])
    np.testing.assert_allclose(sizes[0][3:], sizes[3][3:])


def test_a_wrong_place_does_not_inflate_the_model() -> None:
    rng = np.random.default_rng(1)
    trials = draw(rng, 100, 1.0, np.eye(6) * 1e-4)
    clean = fit_error_model(trials)
    trials[3] = replace(trials[3], error=np.array([40.0, 0, 0, 1, 0, 0]))
    model = fit_error_model(trials)
    assert model.num_trials == 99
    own, other = (np.diag(m.covariance(trials[0].covariance, Pose.identity(), 5.0)) for m in (model, clean))
    assert own / other == pytest.approx(np.ones(6), rel=0.2)


def test_unmeasured_maps_claim_little() -> None:
    model = unmeasured(0.01, 0.1)
    assert model.num_trials == 0 and model.scale > 10
    assert np.sqrt(model.floor[0, 0]) == pytest.approx(0.01) and np.sqrt(model.floor[5, 5]) == pytest.approx(np.radians(0.1))


def test_axes_of_errors_turn_with_the_camera() -> None:
    pose = Pose(so3_exp([0.3, -1.0, 0.2]), np.zeros(3))
    error = np.arange(6.0)
    turned = in_camera_axes(pose, error)
    np.testing.assert_allclose(pose.rotation @ turned[:3], error[:3], atol=1e-12)
    np.testing.assert_allclose(in_camera_axes(pose, np.outer(error, error)), np.outer(turned, turned), atol=1e-12)
