"""The error model: what is fitted makes the errors consistent."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.mapping.calibration import fit_error_model, in_camera_axes, unmeasured


def test_fitted_model_is_consistent_on_new_errors_of_the_same_kind() -> None:
    rng = np.random.default_rng(0)
    floor = np.diag([0.02, 0.01, 0.05, 0.002, 0.001, 0.001]) ** 2

    def draw(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        covariances = [np.diag(rng.uniform(0.5, 2.0, 6) * np.array([0.01, 0.01, 0.03, 0.0005, 0.0005, 0.0005])) ** 2 for _ in range(count)]
        return [rng.multivariate_normal(np.zeros(6), 4.0 * c + floor) for c in covariances], covariances

    model = fit_error_model(*draw(200))
    errors, covariances = draw(400)
    nees = [e @ np.linalg.solve(model.scale * c + model.floor, e) for e, c in zip(errors, covariances, strict=True)]
    assert np.mean(nees) == pytest.approx(6.0, rel=0.12)
    assert model.num_images == 200


def test_a_wrong_place_does_not_inflate_the_model() -> None:
    rng = np.random.default_rng(1)
    covariances = [np.eye(6) * 1e-4] * 100
    errors = [rng.normal(scale=0.01, size=6) for _ in covariances]
    clean = fit_error_model(errors, covariances)
    errors[3] = np.array([40.0, 0, 0, 1, 0, 0])
    model = fit_error_model(errors, covariances)
    assert model.num_images == 99
    assert (model.scale * covariances[0] + model.floor)[0, 0] == pytest.approx((clean.scale * covariances[0] + clean.floor)[0, 0], rel=0.2)


def test_unmeasured_maps_claim_little() -> None:
    model = unmeasured(0.01, 0.1)
    assert model.num_images == 0 and model.scale > 10
    assert np.sqrt(model.floor[0, 0]) == pytest.approx(0.01) and np.sqrt(model.floor[5, 5]) == pytest.approx(np.radians(0.1))


def test_axes_of_errors_turn_with_the_camera() -> None:
    pose = Pose(so3_exp([0.3, -1.0, 0.2]), np.zeros(3))
    error = np.arange(6.0)
    turned = in_camera_axes(pose, error)
    np.testing.assert_allclose(pose.rotation @ turned[:3], error[:3], atol=1e-12)
    np.testing.assert_allclose(in_camera_axes(pose, np.outer(error, error)), np.outer(turned, turned), atol=1e-12)
