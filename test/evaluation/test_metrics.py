"""Metrics against evo's numbers and against what statistics says."""

from __future__ import annotations

import numpy as np
import pytest
from evo.core import metrics as evo_metrics
from evo.core.trajectory import PosePath3D
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate
from ros2_loc.evaluation import metrics
from ros2_loc.evaluation.metrics import Consistency


def trajectories(seed: int, count: int = 60) -> tuple[list[Pose], list[Pose]]:
    rng = np.random.default_rng(seed)
    truth = [Pose(so3_exp(rng.uniform(-1, 1, 3)), rng.uniform(-20, 20, 3))]
    for _ in range(count - 1):
        truth.append(truth[-1] @ Pose(so3_exp(rng.normal(0, 0.1, 3)), np.array([rng.uniform(0, 2), 0.1, 0.0])))
    return [t.perturbed(np.r_[rng.normal(0, 0.1, 3), rng.normal(0, 0.05, 3)]) for t in truth], truth


def as_evo(poses: list[Pose]) -> PosePath3D:
    return PosePath3D(poses_se3=[np.vstack([np.column_stack([p.rotation, p.translation]), [0, 0, 0, 1]]) for p in poses])


def assert_equal(ours: metrics.ErrorStatistics | None, theirs: dict[str, float]) -> None:
    assert ours is not None
    for name in ("rmse", "mean", "median", "std", "min", "max"):
        assert getattr(ours, name) == pytest.approx(theirs[name], rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("seed", [0, 1])
def test_absolute_trajectory_error_is_that_of_evo(seed: int) -> None:
    estimated, truth = trajectories(seed)
    translation, rotation = metrics.absolute_trajectory_error(estimated, truth)
    for ours, relation in ((translation, "translation_part"), (rotation, "rotation_angle_deg")):
        ape = evo_metrics.APE(evo_metrics.PoseRelation[relation])
        ape.process_data((as_evo(truth), as_evo(estimated)))
        assert_equal(ours, ape.get_all_statistics())


@pytest.mark.parametrize(("delta", "unit"), [(1, "frames"), (7, "frames"), (5.0, "meters")])
def test_relative_trajectory_error_is_that_of_evo(delta: float, unit: str) -> None:
    estimated, truth = trajectories(2)
    pairs = metrics.pairs_by_frames(len(truth), int(delta)) if unit == "frames" else metrics.pairs_by_distance(estimated, delta)
    translation, rotation = metrics.relative_trajectory_error(estimated, truth, pairs)
    for ours, relation in ((translation, "translation_part"), (rotation, "rotation_angle_deg")):
        rpe = evo_metrics.RPE(evo_metrics.PoseRelation[relation], delta=delta, delta_unit=evo_metrics.Unit[unit])
        rpe.process_data((as_evo(truth), as_evo(estimated)))
        assert_equal(ours, rpe.get_all_statistics())
        assert ours.count == len(pairs)


def test_recall_counts_both_thresholds_and_the_rejected() -> None:
    errors_m, errors_rad = np.array([0.04, 0.2, 0.04, 9.0]), np.radians([0.1, 0.1, 3.0, 0.1])
    assert metrics.recall(errors_m, errors_rad, 0.05, 5.0) == 0.5
    assert metrics.recall(errors_m, errors_rad, 0.25, 2.0) == 0.5
    assert metrics.recall(errors_m, errors_rad, 0.25, 2.0, total=10) == 0.2
    assert metrics.recall([], [], 0.25, 2.0) is None


def test_wrong_and_confident_needs_both() -> None:
    assert metrics.wrong_and_confident([0.9, 1.1, 1.1, 50.0], [0.1, 0.1, 0.4, 0.29]).tolist() == [False, True, False, True]


def covariance(rng: np.random.Generator) -> np.ndarray:
    a = rng.normal(size=(6, 6)) * 0.3 + np.eye(6)
    s = np.diag([0.1, 0.2, 0.05, 0.01, 0.004, 0.006])
    c = s @ a @ a.T @ s
    return 0.5 * (c + c.T)


def sampled(scale: float, count: int = 400) -> tuple[list[PoseEstimate], list[Pose]]:
    """Estimates whose covariance is that of truth = estimate.perturbed(d) times scale squared."""
    rng = np.random.default_rng(5)
    estimates, truth = [], []
    for _ in range(count):
        c = covariance(rng)
        pose = Pose(so3_exp(rng.uniform(-1, 1, 3)), rng.uniform(-9, 9, 3))
        estimates.append(PoseEstimate(0, pose, c, 50, "test"))
        truth.append(pose.perturbed(scale * rng.multivariate_normal(np.zeros(6), c)))
    return estimates, truth


@pytest.mark.parametrize(
    ("scale", "verdict"), [(1.0, Consistency.CONSISTENT), (1.3, Consistency.OVERCONFIDENT), (0.7, Consistency.CONSERVATIVE)]
)
def test_nees_tells_true_covariances_from_others(scale: float, verdict: Consistency) -> None:
    values = metrics.nees_values(*sampled(scale))
    for name, dof in (("pose", 6), ("position", 3), ("rotation", 3)):
        result = metrics.nees(values[name], dof)
        assert result is not None and result.verdict is verdict
        assert result.mean == pytest.approx(dof * scale**2, rel=0.12)


def test_nees_bounds_are_those_of_the_textbook() -> None:
    """Bar-Shalom et al., example 5.4.2: 50 runs of 2 degrees of freedom: [1.5, 2.6]."""
    result = metrics.nees(np.full(50, 2.0), 2)
    assert result is not None and (round(result.lower, 1), round(result.upper, 1)) == (1.5, 2.6)
    assert metrics.chi_square_quantile(0.999, 6) == pytest.approx(22.458, abs=1e-3)
    assert metrics.nees([], 6) is None and metrics.nees([5.0], 6).verdict is Consistency.UNKNOWN


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_nees_does_not_depend_on_the_axes_of_the_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, pose = covariance(rng), Pose(so3_exp(rng.uniform(-2, 2, 3)), rng.uniform(-5, 5, 3))
    truth = pose.perturbed(rng.multivariate_normal(np.zeros(6), c))
    turn = Pose(so3_exp(rng.uniform(-2, 2, 3)), np.zeros(3))
    j = np.kron(np.eye(2), turn.rotation)
    turned = j @ c @ j.T
    first = metrics.nees_values([PoseEstimate(0, pose, c, 9, "a")], [truth])
    second = metrics.nees_values([PoseEstimate(0, turn @ pose, 0.5 * (turned + turned.T), 9, "a")], [turn @ truth])
    for name in first:
        assert first[name] == pytest.approx(second[name], rel=1e-6)


def test_latency_is_of_frames_in_which_the_stage_ran() -> None:
    times = [{"extract": 0.1, "solve": 0.02}, {"extract": 0.3}, {"extract": 0.2, "solve": 0.04}, {}]
    result = metrics.latencies(times)
    assert list(result) == ["extract", "solve", "total"]
    assert result["extract"].median_s == pytest.approx(0.2) and result["solve"].median_s == pytest.approx(0.03)
    assert result["total"].median_s == pytest.approx(0.24) and result["total"].max_s == pytest.approx(0.3)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 estimates"):
        metrics.pose_errors([Pose.identity()] * 2, [Pose.identity()])
