"""When a mover is where on its way: as fast as it may, never where another one is. Search over time, place and speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

STEP_S = 0.5
_HALVES = 2  # moments at which places are checked in every step


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """Where a mover can go.

    Attributes:
        points_m: (S, 2) places in equal distances.
        heading_rad: (S,) continuous.
        limit: (S,) highest speed there, in places per step.
        offsets_m, radius_m: circles along its length that cover the mover, with the distance that it keeps.
        gain, brake: by how much its speed rises or falls in a step, in places per step.
    """

    points_m: Array
    heading_rad: Array
    limit: NDArray[np.int64]
    offsets_m: Array
    radius_m: float
    gain: int = 1
    brake: int = 2

    def circles(self, at: Array) -> Array:
        """(N, C, 2) middles of the circles when it is at these places (N,), which may lie between two."""
        number = np.arange(len(self.points_m))
        x, y, yaw = (np.interp(at, number, column) for column in (*self.points_m.T, self.heading_rad))
        along = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        return np.asarray(np.column_stack([x, y])[:, None] + self.offsets_m[:, None] * along[:, None], np.float64)


class Occupancy:
    """Circles that movers take at every half step of a span of time."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._places: list[Array] = []
        self._radii: list[Array] = []
        self._moment: list[NDArray[np.int64]] = []

    def take(self, circles: Array, radius_m: float) -> None:
        """circles (2 steps + 1, C, 2) of one mover at every half step."""
        moments, count = circles.shape[:2]
        self._places.append(circles.reshape(-1, 2))
        self._radii.append(np.full(moments * count, radius_m))
        self._moment.append(np.repeat(np.arange(moments), count))

    def blocks(self, way: Way) -> Mask:
        """(2 steps + 1, S): at which moments which places of a way are taken."""
        blocked = np.zeros((_HALVES * self.steps + 1, len(way.points_m)), bool)
        if not self._places:
            return blocked
        places, radii, moments = (np.concatenate(part) for part in (self._places, self._radii, self._moment))
        own = way.circles(np.arange(len(way.points_m), dtype=np.float64))
        tree = cKDTree(own.reshape(-1, 2))
        distance, _ = tree.query(places, distance_upper_bound=way.radius_m + float(radii.max()))
        near = np.flatnonzero(distance < way.radius_m + radii)
        for k, found in zip(near, tree.query_ball_point(places[near], way.radius_m + radii[near]), strict=True):
            blocked[moments[k], np.asarray(found) // own.shape[1]] = True
        return blocked


def timetable(way: Way, start: int, occupancy: Occupancy) -> Array | None:
    """Places (2 steps + 1,) on its way at every half step: the farthest that it comes without touching; None where it finds no way."""
    blocked = occupancy.blocks(way)
    if blocked[0, start]:
        return None
    fastest = int(way.limit.max())
    reached = np.zeros((occupancy.steps + 1, len(way.points_m), fastest + 1), bool)
    reached[0, start, : int(way.limit[start]) + 1] = True
    for step in range(occupancy.steps):
        for speed in range(fastest + 1):
            before = reached[step, :, max(0, speed - way.gain) : speed + way.brake + 1].any(axis=1)
            after = np.zeros_like(before)
            after[speed:] = before[: len(before) - speed]
            half = np.zeros_like(before)
            low, high = speed // 2, speed - speed // 2
            half[speed:] = (blocked[2 * step + 1, high:] | blocked[2 * step + 1, low : len(before) - (high - low)])[: len(before) - speed]
            reached[step + 1, :, speed] = after & ~half & ~blocked[2 * step + 2] & (way.limit >= speed)
    return _backward(way, reached) if reached[-1].any() else None


def _backward(way: Way, reached: Mask) -> Array:
    """From the farthest end back to the beginning, with as few changes of speed as it goes."""
    place = int(np.flatnonzero(reached[-1].any(axis=1))[-1])
    speed = int(np.flatnonzero(reached[-1, place])[-1])
    places = [float(place)]
    for step in range(len(reached) - 2, -1, -1):
        places.append(place - speed / 2)
        place -= speed
        places.append(float(place))
        low = max(0, speed - way.gain)
        choices = low + np.flatnonzero(reached[step, place, low : speed + way.brake + 1])
        speed = int(choices[np.abs(choices - speed).argmin()])
    return np.array(places[::-1])
