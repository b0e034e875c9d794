"""A drive that leaves the map for a while: what several localizers were worth on mapped streets and off them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate
from ros2_loc.evaluation import metrics
from ros2_loc.evaluation.records import FrameResult
from ros2_loc.io.trajectories import Trajectory

Array = NDArray[np.float64]
Intervals = NDArray[np.int64]
Stamps = NDArray[np.int64]

_PLANE = np.array([0, 1, 5])  # x, y and the rotation about z in a pose's covariance
_WRONG_M = 1.0
_THREE_SIGMA = 0.9973
_SHORTEST_NS = 2_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one localizer said.

    Attributes:
        frames: in order of time.
        asked_ns: (N,) stamps at which it was asked.
        filtered: it filters over its way: its errors along one stretch are one draw, however many poses show it.
    """

    frames: tuple[FrameResult, ...]
    asked_ns: Stamps
    filtered: bool = False

    @staticmethod
    def of_localizer(frames: Sequence[FrameResult], filtered: bool = False) -> Answers:
        """Of one that says of each of its images whether it knows the pose."""
        return Answers(tuple(frames), np.array([f.stamp_ns for f in frames], np.int64), filtered)

    @staticmethod
    def at(frames: Sequence[FrameResult], stamps_ns: ArrayLike, max_gap_ns: int) -> Answers:
        """Of a filter that speaks all the time, asked at stamps: its frames nearest to each, where they are near enough."""
        have, wanted = np.array([f.stamp_ns for f in frames], np.int64), np.asarray(stamps_ns, np.int64)
        if not len(have):
            return Answers((), wanted, True)
        after = np.searchsorted(have, wanted).clip(max=len(have) - 1)
        before = (after - 1).clip(min=0)
        nearest = np.where(np.abs(have[before] - wanted) <= np.abs(have[after] - wanted), before, after)
        near = np.abs(have[nearest] - wanted) <= max_gap_ns
        return Answers(tuple(frames[i] for i in np.unique(nearest[near])), wanted, True)

    def inside(self, intervals: Intervals) -> Answers:
        """Those of the intervals (K, 2) ns."""
        return self._where(lambda stamps_ns: inside(stamps_ns, intervals))

    def outside(self, intervals: Intervals) -> Answers:
        """The others."""
        return self._where(lambda stamps_ns: ~inside(stamps_ns, intervals))

    def _where(self, chosen: Callable[[Stamps], NDArray[np.bool_]]) -> Answers:
        kept = chosen(np.array([f.stamp_ns for f in self.frames], np.int64))
        frames = tuple(f for f, k in zip(self.frames, kept, strict=True) if k)
        return Answers(frames, self.asked_ns[chosen(self.asked_ns)], self.filtered)


@dataclass(frozen=True, slots=True)
class Worth:
    """What one localizer gave on one stretch.

    Attributes:
        asked, answered: times at which a pose was wanted, and was there.
        position_m, heading_deg: errors in the plane.
        nees: of x, y and heading together (3 degrees of freedom); of a filter, its bounds are those of one sample.
        wrong_and_confident: poses off by more than 1 m whose claimed ellipse of 99.73 % leaves the truth out.
    """

    asked: int
    answered: int
    position_m: metrics.ErrorStatistics | None
    heading_deg: metrics.ErrorStatistics | None
    nees: metrics.Nees | None
    wrong_and_confident: int


def off_the_map(truth: Trajectory, places: Sequence[Pose], radius_m: float = 15.0, turn_rad: float = 1.0) -> Intervals:
    """(K, 2) ns, beginning and end of each part of the drive that no place of the map looks at.

    Args:
        truth: of the drive, map_from_base.
        places: map_from_base of the map's images.
        radius_m, turn_rad: a place farther away, or turned away by more, shows nothing of what is seen.
    """
    places_m, places_rad = np.array([p.translation[:2] for p in places]).reshape(-1, 2), np.array([p.yaw_rad for p in places])
    drive_m, drive_rad = np.array([p.translation[:2] for p in truth.poses]).reshape(-1, 2), np.array([p.yaw_rad for p in truth.poses])
    off = np.ones(len(drive_m), bool)
    if len(places_m):
        for i, near in enumerate(cKDTree(places_m).query_ball_point(drive_m, radius_m)):
            off[i] = not (np.abs(_wrapped(places_rad[near] - drive_rad[i])) < turn_rad).any()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], off, [False]]).astype(int)))
    stamps = np.asarray(truth.stamps_ns)
    parts = [(stamps[a], stamps[b - 1]) for a, b in edges.reshape(-1, 2)]
    return np.array([part for part in parts if part[1] - part[0] >= _SHORTEST_NS], np.int64).reshape(-1, 2)


def inside(stamps_ns: ArrayLike, intervals: Intervals) -> NDArray[np.bool_]:
    """(N,) which stamps lie in one of the intervals (K, 2)."""
    stamps = np.asarray(stamps_ns, np.int64)
    return np.asarray(((stamps[:, None] >= intervals[:, 0]) & (stamps[:, None] <= intervals[:, 1])).any(axis=1), bool)


def worth(answers: Answers) -> Worth:
    """Of answers with a truth."""
    pairs = [(f.estimate, f.truth) for f in answers.frames if f.estimate is not None and f.truth is not None]
    errors = np.array([_error(estimate, truth) for estimate, truth in pairs]).reshape(-1, 3)
    covariances = [estimate.covariance[np.ix_(_PLANE, _PLANE)] for estimate, _ in pairs]
    distance_m = np.hypot(errors[:, 0], errors[:, 1])
    of_pose = [_nees(e, c) for e, c in zip(errors, covariances, strict=True)]
    of_position = np.array([_nees(e[:2], c[:2, :2]) for e, c in zip(errors, covariances, strict=True)])
    wrong = (distance_m > _WRONG_M) & (of_position > metrics.chi_square_quantile(_THREE_SIGMA, 2))
    return Worth(
        asked=len(answers.asked_ns),
        answered=len(pairs),
        position_m=metrics.statistics(distance_m),
        heading_deg=metrics.statistics(np.degrees(np.abs(errors[:, 2]))),
        nees=metrics.nees(of_pose, 3, 1 if answers.filtered else None),
        wrong_and_confident=int(wrong.sum()),
    )


def _error(estimate: PoseEstimate, truth: Pose) -> Array:
    moved = estimate.map_from_base.translation - truth.translation
    return np.array([moved[0], moved[1], _wrapped(np.array(estimate.map_from_base.yaw_rad - truth.yaw_rad))])


def _nees(error: Array, covariance: Array) -> float:
    return float(error @ np.linalg.solve(covariance, error))


def _wrapped(angle_rad: Array) -> Array:
    return np.arctan2(np.sin(angle_rad), np.cos(angle_rad))
