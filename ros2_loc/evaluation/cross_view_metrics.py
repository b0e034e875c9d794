"""How good cross-view retrieval and its filter are. Pure functions of arrays.

Recall and its two tests are those of the paper (CVLNet, sections 4 and 5): Test-1 keeps the nearest tile of each query in its database,
Test-2 all tiles of the area. A query counts when one of the best k lies within a radius of where it was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.evaluation.metrics import Nees, chi_square_quantile, nees

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

RECALL_AT: tuple[int, ...] = (1, 5, 10, 100)
RADII_M: tuple[float, ...] = (10.0, 25.0)
ARRIVED_M = 10.0  # a run has found its place when its answer is this near
STALE_M = 15.0  # an answer this far back is none
HOLDS_M = 16.0  # a tile whose centre is this near holds the place within its shifts, up to their corners (3.5 cells of 3.2 m)
FILTER_DISTANCES_M: tuple[float, ...] = (50.0, 100.0, 200.0)
_THREE_SIGMA = 0.9973  # of one dimension; the ellipse of the same probability is used in two


@dataclass(frozen=True, slots=True)
class Displacement:
    """Distances of `count` positions from the truth, m: median and 90th percentile along, across the driving direction, and in all."""

    longitudinal_median_m: float
    longitudinal_p90_m: float
    lateral_median_m: float
    lateral_p90_m: float
    total_median_m: float
    total_p90_m: float
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class RunTrack:
    """What a filter said on its way, one row per frame that was judged.

    Attributes:
        travelled_m: (F,) true way since the start, not decreasing.
        accepted: (F,) whether a pose was given.
        error_m: (F,) distance of the answer to the truth: of the pose, or of the strongest mode where none was given; inf without either.
        nees: (F,) squared 2-D position error over the claimed covariance, NaN where no pose was given.
    """

    travelled_m: Array
    accepted: Bools
    error_m: Array
    nees: Array

    def __post_init__(self) -> None:
        shapes = {np.shape(a) for a in (self.travelled_m, self.accepted, self.error_m, self.nees)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"a track has four arrays of one length, got {sorted(shapes)}")


@dataclass(frozen=True, slots=True)
class FilterMetrics:
    """Of several runs.

    Attributes:
        runs: how many.
        within: at each of `FILTER_DISTANCES_M` the share of runs whose answer is a pose within `ARRIVED_M` of the truth.
        mode_within: the same for the strongest mode, whether the filter dared to give it as a pose or not.
        runs_wrong, poses_wrong: confidently wrong ones, see `confidently_wrong`.
        poses: given in all.
        coverage: share of poses whose truth lies in the claimed 95 % ellipse; None without poses.
        nees: of poses, 2 degrees of freedom.
        first_fix_m: (25 %, median, 75 %) way up to the first pose, over runs that gave one.
        never: runs that gave none.
        error_median_m, error_p90_m: of poses.
    """

    runs: int
    within: tuple[float, ...]
    mode_within: tuple[float, ...]
    runs_wrong: int
    poses_wrong: int
    poses: int
    coverage: float | None
    nees: Nees | None
    first_fix_m: tuple[float, float, float] | None
    never: int
    error_median_m: float | None
    error_p90_m: float | None


def nearest(points_m: ArrayLike, centres_m: ArrayLike) -> tuple[NDArray[np.int64], Array]:
    """(Q,) index of the tile whose centre is nearest to each point (Q, 2), and (Q,) its distance in m; the first of equally near ones."""
    distances = distances_m(points_m, centres_m)
    index = distances.argmin(axis=1)
    return index, distances[np.arange(len(index)), index]


def distances_m(points_m: ArrayLike, centres_m: ArrayLike) -> Array:
    """(Q, T) distances between points (Q, 2) and positions of tiles (T, 2), or (Q, T, 2) where they differ by query."""
    points, centres = np.asarray(points_m, dtype=np.float64), np.asarray(centres_m, dtype=np.float64)
    return np.asarray(np.linalg.norm(centres - points[:, None, :], axis=-1))


def ranks(scores: ArrayLike, hits: ArrayLike) -> NDArray[np.int64]:
    """Rank of the best tile that is a hit, 0 the first; the number of tiles where none is.

    Equal scores count against: a network that says the same of every tile knows nothing. A score that is not finite is the worst.

    Args:
        scores: (Q, T), higher is better.
        hits: (Q, T) bool.
    """
    s, h = np.asarray(scores, dtype=np.float64), np.asarray(hits, dtype=bool)
    s = np.where(np.isfinite(s), s, -np.inf)
    best = np.where(h, s, -np.inf).max(axis=1, initial=-np.inf)
    rank = ((s >= best[:, None]) & ~h).sum(axis=1)
    return np.where(h.any(axis=1), rank, s.shape[1]).astype(np.int64)


def recall_at(rank: ArrayLike, k: int) -> float | None:
    """Share of queries (Q,) with a hit among the first k; None of none."""
    r = np.asarray(rank)
    return float((r < k).mean()) if r.size else None


def in_driving_frame(error_m: ArrayLike, yaw_rad: ArrayLike) -> Array:
    """(N, 2) errors east, north as (N, 2) longitudinal (forward), lateral (left) of a vehicle that drives at yaw (N,), 0 east, CCW."""
    e, yaw = np.asarray(error_m, dtype=np.float64).reshape(-1, 2), np.asarray(yaw_rad, dtype=np.float64)
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([cos * e[:, 0] + sin * e[:, 1], -sin * e[:, 0] + cos * e[:, 1]], axis=1)


def displacement(error_m: ArrayLike) -> Displacement | None:
    """Statistics of errors (N, 2) longitudinal, lateral; None of none."""
    e = np.abs(np.asarray(error_m, dtype=np.float64).reshape(-1, 2))
    if len(e) == 0:
        return None
    forward, left, total = (np.percentile(part, (50, 90)).tolist() for part in (e[:, 0], e[:, 1], np.hypot(e[:, 0], e[:, 1])))
    return Displacement(forward[0], forward[1], left[0], left[1], total[0], total[1], len(e))


def position_nees(error_m: ArrayLike, covariance: ArrayLike) -> float:
    """Squared error (2,) over its claimed covariance (2, 2)."""
    e = np.asarray(error_m, dtype=np.float64)
    return float(e @ np.linalg.solve(np.asarray(covariance, dtype=np.float64), e))


def confidently_wrong(track: RunTrack) -> Bools:
    """(F,) True where a pose was given that is off by more than `ARRIVED_M` and whose claimed 99.73 % ellipse leaves the truth out.

    An error within the claim is no lie, however large; an error below `ARRIVED_M` is too small to lead anyone astray.
    """
    return track.accepted & (track.error_m > ARRIVED_M) & (track.nees > chi_square_quantile(_THREE_SIGMA, 2))


def within_after(track: RunTrack, distance_m: float, accepted_only: bool) -> bool:
    """Whether the newest answer after this way is within `ARRIVED_M`; a run without an answer on the last `STALE_M` has not arrived."""
    earlier = np.flatnonzero(track.travelled_m <= distance_m)
    if len(earlier) == 0 or track.travelled_m[earlier[-1]] < distance_m - STALE_M:
        return False
    i = int(earlier[-1])
    return bool(track.error_m[i] <= ARRIVED_M and (track.accepted[i] or not accepted_only))


def filter_metrics(tracks: Sequence[RunTrack]) -> FilterMetrics:
    """The numbers of several runs.

    Raises:
        ValueError: no runs.
    """
    if not tracks:
        raise ValueError("there are no runs to judge")
    wrong = [confidently_wrong(t) for t in tracks]
    given = np.concatenate([t.nees[t.accepted] for t in tracks])
    errors = np.concatenate([t.error_m[t.accepted] for t in tracks])
    first = [float(t.travelled_m[t.accepted][0]) for t in tracks if t.accepted.any()]
    return FilterMetrics(
        runs=len(tracks),
        within=tuple(_share(tracks, d, accepted_only=True) for d in FILTER_DISTANCES_M),
        mode_within=tuple(_share(tracks, d, accepted_only=False) for d in FILTER_DISTANCES_M),
        runs_wrong=sum(bool(w.any()) for w in wrong),
        poses_wrong=sum(int(w.sum()) for w in wrong),
        poses=len(given),
        coverage=float((given <= chi_square_quantile(0.95, 2)).mean()) if len(given) else None,
        nees=nees(given, 2),
        first_fix_m=tuple(np.percentile(first, (25, 50, 75)).tolist()) if first else None,
        never=len(tracks) - len(first),
        error_median_m=float(np.median(errors)) if len(errors) else None,
        error_p90_m=float(np.percentile(errors, 90)) if len(errors) else None,
    )


def _share(tracks: Sequence[RunTrack], distance_m: float, accepted_only: bool) -> float:
    return float(np.mean([within_after(t, distance_m, accepted_only) for t in tracks]))
