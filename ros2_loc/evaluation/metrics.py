"""How far poses are from the truth, and whether their covariances say so. Pure functions of arrays and poses.

Absolute and relative trajectory errors are those of `evo` (Grupp, github.com/MichaelGrupp/evo) without alignment: an estimate in the map
frame is compared in the map frame. NEES and its bounds: Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and
Navigation", section 5.4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv

from ros2_loc.core.pose import Pose, rotation_angle_rad
from ros2_loc.core.types import PoseEstimate

Array = NDArray[np.float64]

RECALL_THRESHOLDS: tuple[tuple[float, float], ...] = ((0.05, 5.0), (0.1, 0.5), (0.25, 2.0), (0.5, 5.0), (5.0, 10.0))  # m, degrees
_MIN_NEES_SAMPLES = 2


@dataclass(frozen=True, slots=True)
class ErrorStatistics:
    """Of one kind of error, in its unit: evo's `rmse`, `mean`, `median`, `std`, `min`, `max`; the 95th percentile; how many."""

    rmse: float
    mean: float
    median: float
    std: float
    min: float
    p95: float
    max: float
    count: int


class Consistency(str, Enum):
    """What the mean NEES says about claimed covariances."""

    CONSISTENT = "consistent"
    CONSERVATIVE = "conservative"  # errors are smaller than claimed
    OVERCONFIDENT = "overconfident"  # errors are larger than claimed
    UNKNOWN = "unknown"  # too few samples


@dataclass(frozen=True, slots=True)
class Nees:
    """Normalized estimation error squared: its mean, the bounds that hold it with 95 % when covariances are true, and the verdict."""

    mean: float
    lower: float
    upper: float
    degrees_of_freedom: int
    count: int
    verdict: Consistency


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one stage, s, over the `count` frames in which it ran."""

    median_s: float
    p95_s: float
    max_s: float
    count: int


def statistics(errors: ArrayLike) -> ErrorStatistics | None:
    """Statistics of errors (N,), None when there are none."""
    e = np.asarray(errors, dtype=np.float64)
    if e.size == 0:
        return None
    return ErrorStatistics(
        rmse=float(np.sqrt(np.mean(e**2))),
        mean=float(e.mean()),
        median=float(np.median(e)),
        std=float(e.std()),
        min=float(e.min()),
        p95=float(np.percentile(e, 95)),
        max=float(e.max()),
        count=int(e.size),
    )


def pose_errors(estimated: Sequence[Pose], truth: Sequence[Pose]) -> tuple[Array, Array]:
    """(N,) distances in m and (N,) angles in rad between poses pair by pair."""
    _same_length(estimated, truth)
    distances_m = [float(np.linalg.norm(e.translation - t.translation)) for e, t in zip(estimated, truth, strict=True)]
    angles_rad = [rotation_angle_rad(t.rotation.T @ e.rotation) for e, t in zip(estimated, truth, strict=True)]
    return np.array(distances_m), np.array(angles_rad)


def absolute_trajectory_error(estimated: Sequence[Pose], truth: Sequence[Pose]) -> tuple[ErrorStatistics | None, ErrorStatistics | None]:
    """Translation in m and rotation in degrees: evo's APE `translation_part` and `rotation_angle_deg`, not aligned."""
    distances_m, angles_rad = pose_errors(estimated, truth)
    return statistics(distances_m), statistics(np.degrees(angles_rad))


def relative_trajectory_error(
    estimated: Sequence[Pose], truth: Sequence[Pose], pairs: Sequence[tuple[int, int]]
) -> tuple[ErrorStatistics | None, ErrorStatistics | None]:
    """Translation in m and rotation in degrees of the motion between pairs of poses: evo's RPE of the same pairs.

    Args:
        pairs: indices, from `pairs_by_frames` or `pairs_by_distance`.
    """
    _same_length(estimated, truth)
    motions = [(estimated[i].inverse() @ estimated[j], truth[i].inverse() @ truth[j]) for i, j in pairs]
    errors = [t.inverse() @ e for e, t in motions]
    translations_m = [float(np.linalg.norm(e.translation)) for e in errors]
    return statistics(translations_m), statistics([np.degrees(rotation_angle_rad(e.rotation)) for e in errors])


def pairs_by_frames(count: int, delta: int = 1) -> list[tuple[int, int]]:
    """Consecutive pairs (0, delta), (delta, 2 delta), … of `count` poses; evo's `Unit.frames`."""
    ids = range(0, count, delta)
    return list(pairwise(ids))


def pairs_by_distance(poses: Sequence[Pose], delta_m: float) -> list[tuple[int, int]]:
    """Consecutive pairs at least `delta_m` apart along the path of the poses; evo's `Unit.meters`."""
    ids, path_m = [0], 0.0
    for i in range(1, len(poses)):
        path_m += float(np.linalg.norm(poses[i].translation - poses[i - 1].translation))
        if path_m >= delta_m:
            ids.append(i)
            path_m = 0.0
    return list(pairwise(ids))


def recall(errors_m: ArrayLike, errors_rad: ArrayLike, threshold_m: float, threshold_deg: float, total: int | None = None) -> float | None:
    """Fraction of `total` (default: of the errors given) that is within both thresholds; None of none."""
    e_m, e_rad = np.asarray(errors_m, dtype=np.float64), np.asarray(errors_rad, dtype=np.float64)
    total = e_m.size if total is None else total
    within = (e_m <= threshold_m) & (np.degrees(e_rad) <= threshold_deg)
    return float(within.sum() / total) if total else None


def nees_values(estimates: Sequence[PoseEstimate], truth: Sequence[Pose]) -> dict[str, Array]:
    """Normalized estimation errors squared (N,): "pose" (6 degrees of freedom), "position" and "rotation" (3 each, marginals)."""
    _same_length(estimates, truth)
    values = {"pose": np.empty(len(truth)), "position": np.empty(len(truth)), "rotation": np.empty(len(truth))}
    for i, (estimate, true_pose) in enumerate(zip(estimates, truth, strict=True)):
        d, c = true_pose.difference(estimate.map_from_base), estimate.covariance
        for name, part in (("pose", slice(0, 6)), ("position", slice(0, 3)), ("rotation", slice(3, 6))):
            values[name][i] = d[part] @ np.linalg.solve(c[part, part], d[part])
    return values


def nees(values: ArrayLike, degrees_of_freedom: int, independent: int | None = None) -> Nees | None:
    """Mean of NEES values (N,) against the 95 % interval of the mean of N independent chi-square variables; None of none.

    `independent`: how many of them are, where errors repeat each other; N when it is None.
    """
    v = np.asarray(values, dtype=np.float64)
    if v.size == 0:
        return None
    n = min(independent or v.size, v.size)
    lower, upper = (chi_square_quantile(p, degrees_of_freedom * n) / n for p in (0.025, 0.975))
    mean = float(v.mean())
    verdict = Consistency.OVERCONFIDENT if mean > upper else Consistency.CONSERVATIVE if mean < lower else Consistency.CONSISTENT
    return Nees(mean, lower, upper, degrees_of_freedom, int(v.size), verdict if v.size >= _MIN_NEES_SAMPLES else Consistency.UNKNOWN)


def chi_square_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The value that a chi-square variable stays below with this probability."""
    return 2.0 * float(gammaincinv(0.5 * degrees_of_freedom, probability))


def wrong_and_confident(errors_m: ArrayLike, sigmas_m: ArrayLike, error_m: float = 1.0, sigma_m: float = 0.3) -> NDArray[np.bool_]:
    """(N,) True where the error is above `error_m` though the claimed standard deviation is below `sigma_m`: what must never happen."""
    return (np.asarray(errors_m) > error_m) & (np.asarray(sigmas_m) < sigma_m)


def latencies(stage_s: Sequence[dict[str, float]]) -> dict[str, Latency]:
    """Latency per stage over the frames in which it ran, and of their sum as "total"; stages in the order of first appearance."""
    stages: dict[str, list[float]] = {}
    for times in stage_s:
        for name, seconds in times.items():
            stages.setdefault(name, []).append(seconds)
    if stages:
        stages["total"] = [sum(times.values()) for times in stage_s if times]
    return {name: Latency(float(np.median(s)), float(np.percentile(s, 95)), float(np.max(s)), len(s)) for name, s in stages.items()}


def _same_length(first: Sequence[object], second: Sequence[object]) -> None:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} estimates can't be compared with {len(second)} true poses")
