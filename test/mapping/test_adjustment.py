"""Bundle adjustment with pose priors on a scene whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, rotation_angle_rad, so3_exp
from ros2_loc.mapping.adjustment import AdjustmentConfig, Problem, adjust, linearize, reprojection_errors_px

FOCAL_PX = 500.0


def true_cameras(count: int) -> list[Pose]:
    """camera_from_map along an arc, looking ahead (map: x right, y down, z forward at the start)."""
    poses = []
    for k in range(count):
        angle = 0.06 * k
        map_from_camera = Pose(so3_exp([0.0, angle, 0.0]), np.array([8.0 * (1 - np.cos(angle)) / 0.6, 0.0, 1.2 * k]))
        poses.append(map_from_camera.inverse())
    return poses


def make_problem(rng: np.random.Generator, given_of: callable, noise_px: float = 0.3) -> tuple[Problem, list[Pose], np.ndarray]:  # type: ignore[name-defined]
    """Points 5 to 40 m ahead seen by all cameras that look at them; starts are the given poses and points off by 5 cm."""
    cameras = true_cameras(8)
    points = np.column_stack([rng.uniform(-12, 14, 250), rng.uniform(-4, 2, 250), rng.uniform(8, 45, 250)])
    images, observed, rays = [], [], []
    for i, pose in enumerate(cameras):
        inside = pose.apply(points)
        xy = inside[:, :2] / inside[:, 2:]
        for p in np.flatnonzero((inside[:, 2] > 2) & (np.abs(xy) < [0.65, 0.5]).all(axis=1)):
            images.append(i)
            observed.append(p)
            rays.append(xy[p] + rng.normal(scale=noise_px / FOCAL_PX, size=2))
    seen = np.bincount(observed, minlength=len(points)) >= 2
    row = np.cumsum(seen) - 1
    keep = seen[observed]
    given = [given_of(pose) for pose in cameras]
    start = points[seen] + rng.normal(scale=0.05, size=(int(seen.sum()), 3))
    problem = Problem(given, start, np.array(images)[keep], row[np.array(observed)[keep]], np.array(rays)[keep], FOCAL_PX, list(given))
    return problem, cameras, points[seen]


def test_finds_the_mounting_error_that_all_images_share() -> None:
    rng = np.random.default_rng(0)
    mount = so3_exp(np.radians([0.1, -0.4, 0.2]))  # camera_true_from_camera_given
    problem, cameras, points = make_problem(rng, lambda true: Pose(mount.T, np.zeros(3)) @ true)
    result = adjust(problem, AdjustmentConfig(prior_sigma_m=0.01, prior_sigma_deg=0.02, mount_sigma_deg=1.0))
    assert result.final_cost < 0.2 * result.initial_cost
    assert np.degrees(rotation_angle_rad(result.mount_rotation @ mount.T)) < 0.06
    for found, true in zip(result.camera_from_map, cameras, strict=True):
        assert np.degrees(rotation_angle_rad(found.rotation @ true.rotation.T)) < 0.06
        assert np.linalg.norm(found.inverse().translation - true.inverse().translation) < 0.01
    assert np.median(np.linalg.norm(result.points_m - points, axis=1)) < 0.25  # up to 45 m away, seen from 8 m of way


def test_noisy_rotations_get_better_and_good_positions_stay() -> None:
    rng = np.random.default_rng(1)

    def noisy(true: Pose) -> Pose:
        return Pose(so3_exp(np.radians(rng.normal(scale=0.2, size=3))) @ true.inverse().rotation, true.inverse().translation).inverse()

    problem, cameras, _ = make_problem(rng, noisy)
    result = adjust(problem, AdjustmentConfig(prior_sigma_m=0.003, prior_sigma_deg=0.2, mount_sigma_deg=0.01))

    def rotation_errors(poses: list[Pose]) -> np.ndarray:
        return np.degrees([rotation_angle_rad(p.rotation @ t.rotation.T) for p, t in zip(poses, cameras, strict=True)])

    assert rotation_errors(result.camera_from_map).mean() < 0.4 * rotation_errors(problem.camera_from_map).mean()
    shifts = [
        np.linalg.norm(p.inverse().translation - t.inverse().translation) for p, t in zip(result.camera_from_map, cameras, strict=True)
    ]
    assert max(shifts) < 0.01


def test_a_gross_outlier_does_not_bend_the_map() -> None:
    rng = np.random.default_rng(2)
    problem, cameras, _ = make_problem(rng, lambda true: true)
    rays = problem.rays.copy()
    rays[::40] += 60 / FOCAL_PX
    spoilt = Problem(problem.camera_from_map, problem.points_m, problem.image_index, problem.point_index, rays, FOCAL_PX, problem.prior)
    result = adjust(spoilt, AdjustmentConfig())
    shifts = [
        np.linalg.norm(p.inverse().translation - t.inverse().translation) for p, t in zip(result.camera_from_map, cameras, strict=True)
    ]
    assert max(shifts) < 0.01


def test_point_covariances_are_true_by_sampling() -> None:
    """Cameras exact, points re-estimated from noisy rays: mean normalized squared error of the points is 3."""
    squared = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        problem, cameras, points = make_problem(rng, lambda true: true)
        config = AdjustmentConfig(prior_sigma_m=1e-6, prior_sigma_deg=1e-5, mount_sigma_deg=1e-6, robust_px=5.0)
        result = adjust(problem, config)
        solved = Problem(list(cameras), result.points_m, problem.image_index, problem.point_index, problem.rays, FOCAL_PX, problem.prior)
        covariance = linearize(solved, config).point_covariances
        error = result.points_m - points
        squared.append(np.einsum("ni,nij,nj->n", error, np.linalg.inv(covariance), error))
    assert 2.4 < np.concatenate(squared).mean() < 3.7
    assert reprojection_errors_px(solved).mean() < 0.5


def test_reports_each_iteration() -> None:
    rng = np.random.default_rng(3)
    problem, _, _ = make_problem(rng, lambda true: true)
    costs: list[float] = []
    result = adjust(problem, AdjustmentConfig(max_iterations=5), lambda _, cost: costs.append(cost))
    assert len(costs) == result.iterations and (np.diff(costs) <= 1e-9).all()
    assert result.final_cost == pytest.approx(costs[-1])
