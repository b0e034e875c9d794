"""Places by the last frames together: one corridor looks like another, ten frames in a row seldom do.

As SeqSLAM (Milford and Wyeth 2012) each hypothesis is a place where the camera is now and the way it came; its score is the mean of what
the frames on that way say. With odometry the way is known: the place's pose with the measured motion undone. Without, it is the map's
own order of places, gone at one of several steady speeds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate
from ros2_loc.errors import DataError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What retrieval said of one frame: places and how far each stands out, in deviations above the least of them."""

    stamp_s: float
    odom_from_base: Pose | None
    places: NDArray[np.int64]
    height: Array


class SequenceMatcher:
    """Remembers the last frames of one drive; not thread-safe."""

    @dataclass(frozen=True)
    class Config:
        """How many frames, how far apart, and how exactly their places must fit the way."""

        frames: int = 20
        min_step_m: float = 2.0  # travelled between frames that are remembered: standing still proves nothing twice
        min_step_s: float = 0.5  # the same where there is no odometry
        tolerance_m: float = 4.0  # one sigma of a place's distance from the way
        drift: float = 0.1  # added to it for every metre back: odometry, and the place's heading instead of the camera's
        max_turn_deg: float = 60.0  # between a place's heading and the way's
        max_gap_s: float = 10.0  # between frames, else all is forgotten
        max_speed_m_per_s: float = 60.0  # faster means that odometry was set anew
        slowest_m_per_s: float = 0.5  # without odometry
        fastest_m_per_s: float = 20.0
        num_speeds: int = 10
        max_step_of_route_m: float = 20.0  # between the map's places on one route

        def __post_init__(self) -> None:
            if self.frames < 1 or self.num_speeds < 1:
                raise ValueError("frames and num_speeds are 1 or more")
            lengths = (self.tolerance_m, self.max_gap_s, self.max_speed_m_per_s, self.slowest_m_per_s, self.max_step_of_route_m)
            if min(lengths) <= 0 or self.fastest_m_per_s < self.slowest_m_per_s or min(self.min_step_m, self.min_step_s, self.drift) < 0:
                raise ValueError("tolerances, gaps and speeds are above 0, steps and drift 0 or more, fastest not below slowest")

    def __init__(self, map_from_base: Sequence[Pose], config: Config) -> None:
        """For the places of one map, in the order in which they were driven."""
        self._config = config
        self._positions = np.array([pose.translation for pose in map_from_base], dtype=np.float64).reshape(-1, 3)
        self._rotations = np.array([pose.rotation for pose in map_from_base], dtype=np.float64).reshape(-1, 3, 3)
        self._route_m = _along_routes(self._positions, config.max_step_of_route_m)
        self._near_position = cKDTree(self._positions)
        self._near_route = cKDTree(self._route_m[:, None])
        self._speeds = np.geomspace(config.slowest_m_per_s, config.fastest_m_per_s, config.num_speeds)
        self._kept: deque[_Seen] = deque(maxlen=config.frames)
        self._last: _Seen | None = None

    @property
    def num_frames(self) -> int:
        """How many earlier frames the next one will be seen with."""
        return len(self._kept)

    def reset(self) -> None:
        """Forget all frames."""
        self._kept.clear()
        self._last = None

    def observe(self, stamp_ns: int, candidates: Sequence[Candidate], odom_from_base: Pose | None = None) -> list[Candidate]:
        """Weigh a frame's candidates by the frames before.

        Args:
            stamp_ns: of the frame; time must go on, else all earlier frames are forgotten, as after a long gap or a jump of odometry.
            candidates: of retrieval, best first; the more the better (50 or so).
            odom_from_base: odometry at the stamp.

        Returns:
            as many candidates, best first: the score is the mean over the frames, in deviations of a frame's scores. A place that the
            frames before lead to comes in even if this frame did not find it.

        Raises:
            DataError: a candidate that is no place of the map.
        """
        if any(not 0 <= c.source < len(self._positions) for c in candidates):
            raise DataError(f"a candidate is no place of this map, which has {len(self._positions)}: search its own index")
        seen = _seen(stamp_ns, candidates, odom_from_base)
        if self._last is not None and not self._goes_on(self._last, seen):
            self.reset()
        self._last = seen
        ways = [way for way in (self._way(kept, seen) for kept in self._kept) if way is not None]
        weighed = self._weigh(seen, ways)[: len(candidates)] if candidates else []
        if candidates and self._is_new(seen):
            self._kept.append(seen)
        return weighed

    def _goes_on(self, before: _Seen, now: _Seen) -> bool:
        passed_s = now.stamp_s - before.stamp_s
        if not 0 < passed_s <= self._config.max_gap_s or (before.odom_from_base is None) != (now.odom_from_base is None):
            return False
        return _travelled_m(before, now) <= self._config.max_speed_m_per_s * passed_s

    def _is_new(self, seen: _Seen) -> bool:
        if not self._kept:
            return True
        newest = self._kept[-1]
        if seen.odom_from_base is None:
            return seen.stamp_s - newest.stamp_s >= self._config.min_step_s
        return _travelled_m(newest, seen) >= self._config.min_step_m

    def _way(self, kept: _Seen, now: _Seen) -> _Way | None:
        if now.odom_from_base is None or kept.odom_from_base is None:
            return _Way(kept, None, (now.stamp_s - kept.stamp_s) * self._speeds)
        now_from_then = now.odom_from_base.inverse() @ kept.odom_from_base
        return _Way(kept, now_from_then, np.array([float(np.linalg.norm(now_from_then.translation))]))

    def _weigh(self, seen: _Seen, ways: Sequence[_Way]) -> list[Candidate]:
        places = np.unique(np.fromiter(chain(seen.places, *(self._led_to(way) for way in ways)), dtype=np.int64))
        own = np.zeros(len(places))
        own[np.searchsorted(places, seen.places)] = seen.height
        past = np.zeros((1, len(places)))
        for way in ways:
            past = past + self._agreement(way, places)
        total = (own + past.max(axis=0)) / (1 + len(ways))
        return [Candidate(int(places[i]), float(total[i])) for i in np.lexsort((places, -own, -total))]

    def _led_to(self, way: _Way) -> NDArray[np.int64]:
        """The places where the camera is now if it was at the best places of an earlier frame then."""
        then = way.seen.places[np.argsort(-way.seen.height, kind="stable")[:_LEADING]]
        if way.now_from_then is None:
            ahead = (self._route_m[then][:, None] + way.back_m).reshape(-1, 1)
            distance, place = self._near_route.query(ahead)
        else:
            motion = way.now_from_then.inverse().translation
            distance, place = self._near_position.query(self._positions[then] + self._rotations[then] @ motion)
        return np.unique(place[distance < 2 * self._config.tolerance_m]).astype(np.int64)

    def _agreement(self, way: _Way, places: NDArray[np.int64]) -> Array:
        """(S, H) how far the earlier frame stands out where hypothesis h has it, for each of S speeds."""
        seen, config = way.seen, self._config
        sigma = config.tolerance_m + config.drift * way.back_m
        if way.now_from_then is None:
            then = self._route_m[places] - way.back_m[:, None]
            squared = (then[:, :, None] - self._route_m[seen.places]) ** 2
        else:
            then_at = self._positions[places] + self._rotations[places] @ way.now_from_then.translation
            forward = self._rotations[places] @ way.now_from_then.rotation[:, 0]
            squared = np.square(then_at[:, None] - self._positions[seen.places]).sum(axis=2)[None]
            turned = forward @ self._rotations[seen.places][:, :, 0].T < np.cos(np.radians(config.max_turn_deg))
            squared = np.where(turned, np.inf, squared)
        weight = np.exp(-squared / (2 * sigma[:, None, None] ** 2))
        return np.asarray((weight * seen.height).max(axis=2))


_LEADING = 10  # places of an earlier frame that are followed to now


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """An earlier frame, the motion since (None without odometry), and how far back it lies, for each speed, m."""

    seen: _Seen
    now_from_then: Pose | None
    back_m: Array


def _seen(stamp_ns: int, candidates: Sequence[Candidate], odom_from_base: Pose | None) -> _Seen:
    scores = np.array([c.score for c in candidates], dtype=np.float64)
    spread = float(scores.std()) if len(scores) else 0.0
    height = (scores - scores.min()) / spread if spread > 0 else np.ones(len(scores))
    return _Seen(stamp_ns * 1e-9, odom_from_base, np.array([c.source for c in candidates], dtype=np.int64), height)


def _travelled_m(before: _Seen, now: _Seen) -> float:
    if before.odom_from_base is None or now.odom_from_base is None:
        return 0.0
    return float(np.linalg.norm(now.odom_from_base.translation - before.odom_from_base.translation))


def _along_routes(positions: Array, max_step_m: float) -> Array:
    """(P,) distance along the order of the places; a step that is too long begins a route far from all others."""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    far = 1e6
    return np.concatenate([np.zeros(min(1, len(positions))), np.cumsum(np.where(steps > max_step_m, far, steps))])
