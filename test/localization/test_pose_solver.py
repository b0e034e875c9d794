"""The solver: right poses, covariances that sampling confirms, refusals instead of guesses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import RejectionReason
from ros2_loc.localization.pose_solver import Correspondences, Failure, PoseSolver, Solution, occupied_cells

PINHOLE = Camera.pinhole(640, 480, 500, 500, 320, 240)
FISHEYE = Camera("OPENCV_FISHEYE", 640, 480, (280, 280, 320, 240, 0.02, -0.01, 0.003, 0.0))
TRUTH = Pose(so3_exp([-1.2, 0.4, 0.3]), np.array([12.0, -4.0, 1.5]))


def scene(camera: Camera, count: int, rng: np.random.Generator, noise_px: float, point_sigma_m: float = 0.0) -> Correspondences:
    """Matches of points 4 to 40 m away, seen with noise, whose map positions are off by the stated amount."""
    pixels = rng.uniform([20, 20], [620, 460], size=(count, 2))
    points = TRUTH.apply(camera.rays(pixels) * rng.uniform(4, 40, size=(count, 1)))
    covariance = np.tile(np.eye(3) * max(point_sigma_m, 1e-4) ** 2, (count, 1, 1))
    stored = points + rng.normal(scale=max(point_sigma_m, 1e-12), size=points.shape)
    return Correspondences(pixels + rng.normal(scale=noise_px, size=pixels.shape), np.zeros(count), stored, covariance)


def with_outliers(matches: Correspondences, count: int, rng: np.random.Generator) -> Correspondences:
    """The first `count` matches get pixels of other places."""
    pixels = matches.pixels.copy()
    pixels[:count] = rng.uniform([0, 0], [640, 480], size=(count, 2))
    order = rng.permutation(len(matches))
    return Correspondences(pixels, matches.scales, matches.points_m, matches.point_covariances).select(order)


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE], ids=lambda c: c.model)
def test_finds_the_pose_among_outliers(camera: Camera) -> None:
    rng = np.random.default_rng(0)
    matches = with_outliers(scene(camera, 300, rng, noise_px=0.3), 180, rng)
    solution = PoseSolver(PoseSolver.Config()).solve(camera, matches)
    assert isinstance(solution, Solution)
    assert np.linalg.norm(solution.map_from_camera.difference(TRUTH)[:3]) < 0.02
    assert 100 <= solution.inliers.sum() <= 135


@pytest.mark.parametrize(("noise_px", "point_sigma_m"), [(0.3, 0.0), (1.5, 0.0), (0.3, 0.05)])
def test_covariance_is_true_by_sampling(noise_px: float, point_sigma_m: float) -> None:
    """NEES over 150 draws inside its bounds: at the assumed pixel noise, at five times that, and with uncertain points."""
    rng = np.random.default_rng(1)
    solver = PoseSolver(PoseSolver.Config(max_error_px=8.0))
    nees = []
    for _ in range(150):
        solution = solver.solve(PINHOLE, scene(PINHOLE, 80, rng, noise_px, point_sigma_m))
        assert isinstance(solution, Solution)
        error = TRUTH.difference(solution.map_from_camera)
        nees.append(error @ np.linalg.solve(solution.covariance, error))
    low, high = chi2.ppf([0.001, 0.999], 6 * len(nees)) / len(nees)
    # the median of 160 residuals scatters, and robust weights cost a little efficiency
    assert 0.9 * low < np.mean(nees) < 1.15 * high


def test_refuses_where_too_few_agree() -> None:
    rng = np.random.default_rng(2)
    solver = PoseSolver(PoseSolver.Config())
    for true_matches in (0, 4, 8):
        for _ in range(20):
            matches = scene(PINHOLE, 100, rng, 0.3)
            found = solver.solve(PINHOLE, with_outliers(matches, 100 - true_matches, rng))
            assert isinstance(found, Failure)
            assert found.reason in (RejectionReason.TOO_FEW_INLIERS, RejectionReason.LOW_INLIER_RATIO, RejectionReason.SOLVER_FAILED)


def test_refuses_few_matches_low_ratio_and_a_single_corner() -> None:
    rng = np.random.default_rng(3)
    solver = PoseSolver(PoseSolver.Config())
    few = solver.solve(PINHOLE, scene(PINHOLE, 10, rng, 0.3))
    assert isinstance(few, Failure) and few.reason is RejectionReason.TOO_FEW_MATCHES and "10" in few.detail
    rare = solver.solve(PINHOLE, with_outliers(scene(PINHOLE, 400, rng, 0.3), 370, rng))
    assert isinstance(rare, Failure) and rare.reason is RejectionReason.LOW_INLIER_RATIO
    pixels = rng.uniform([10, 10], [110, 90], size=(60, 2))
    points = TRUTH.apply(PINHOLE.rays(pixels) * rng.uniform(4, 8, size=(60, 1)))
    corner = Correspondences(pixels, np.zeros(60), points, np.tile(np.eye(3) * 1e-6, (60, 1, 1)))
    found = solver.solve(PINHOLE, corner)
    assert isinstance(found, Failure) and found.reason is RejectionReason.POOR_SPREAD


def test_is_deterministic_and_caps_the_work() -> None:
    rng = np.random.default_rng(4)
    matches = with_outliers(scene(PINHOLE, 3000, rng, 0.5), 2000, rng)
    solver = PoseSolver(PoseSolver.Config(max_matches=1000))
    a, b = solver.solve(PINHOLE, matches), solver.solve(PINHOLE, matches)
    assert isinstance(a, Solution) and isinstance(b, Solution)
    assert len(a.inliers) == 1000
    np.testing.assert_array_equal(a.map_from_camera.matrix, b.map_from_camera.matrix)


def test_uncertain_points_weigh_less() -> None:
    """Two thirds of the points are off by 0.05 m and say so: the pose must be much better than when they don't."""
    rng = np.random.default_rng(5)
    solver = PoseSolver(PoseSolver.Config(max_error_px=30.0))
    honest, silent = [], []
    for _ in range(30):
        good, bad = scene(PINHOLE, 40, rng, 0.1), scene(PINHOLE, 80, rng, 0.1, 0.05)
        joined = [np.concatenate([getattr(good, k), getattr(bad, k)]) for k in ("pixels", "scales", "points_m", "point_covariances")]
        for covariance, errors in ((joined[3], honest), (np.tile(good.point_covariances[:1], (120, 1, 1)), silent)):
            solution = solver.refine(PINHOLE, Correspondences(joined[0], joined[1], joined[2], covariance), TRUTH)
            assert isinstance(solution, Solution)
            errors.append(np.linalg.norm(solution.map_from_camera.difference(TRUTH)[:3]))
    assert np.median(honest) < 0.7 * np.median(silent)


def test_occupied_cells_counts_cells() -> None:
    assert occupied_cells(np.array([[1.0, 1.0], [2.0, 2.0], [639.0, 479.0], [640.0, 480.0]]), PINHOLE) == 2
