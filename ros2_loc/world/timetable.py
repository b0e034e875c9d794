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

    @property
    def spacing_m(self) -> float:
        """Between its places."""
        return max(float(np.linalg.norm(self.points_m[1] - self.points_m[0])), 1e-3)

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
        self._places = np.empty((0, 2))
        self._radii = np.empty(0)
        self._moment = np.empty(0, np.int64)
        self._widest = 0.0

    def take(self, circles: Array, radius_m: float) -> None:
        """circles (2 steps + 1, C, 2) of one mover at every half step."""
        moments, count = circles.shape[:2]
        self._places = np.concatenate([self._places, circles.reshape(-1, 2)])
        self._radii = np.concatenate([self._radii, np.full(moments * count, radius_m)])
        self._moment = np.concatenate([self._moment, np.repeat(np.arange(moments), count)])
        self._widest = max(self._widest, radius_m)

    def blocks(self, way: Way) -> Mask:
        """(2 steps + 1, S): at which moments which places of a way are taken."""
        blocked = np.zeros((_HALVES * self.steps + 1, len(way.points_m)), bool)
        own = way.circles(np.arange(len(way.points_m), dtype=np.float64))
        rows = self._about(own.reshape(-1, 2), way.radius_m + self._widest)
        if not len(rows):
            return blocked
        tree, reach = cKDTree(own.reshape(-1, 2)), way.radius_m + self._radii[rows]
        distance, nearest = tree.query(self._places[rows], distance_upper_bound=float(reach.max()))
        # nothing can be met farther on than the mover may have come by then; the places about the nearest one are a span of them
        come = int(way.limit.max()) * (self._moment[rows] / _HALVES + 1) + 2 * reach / way.spacing_m
        is_near = (distance < reach) & (nearest // own.shape[1] <= come)
        rows, reach = rows[is_near], reach[is_near]
        found = tree.query_ball_point(self._places[rows], reach)
        counts = [len(some) for some in found]
        if sum(counts):
            blocked[np.repeat(self._moment[rows], counts), np.concatenate(found).astype(np.int64) // own.shape[1]] = True
        return blocked

    def _about(self, points: Array, reach_m: float) -> NDArray[np.int64]:
        """The rows whose circles may come so near to one of the points (N, 2)."""
        cell = max(reach_m, 1.0)
        low = points.min(axis=0) - 2 * cell
        size = np.ceil((points.max(axis=0) + 2 * cell - low) / cell).astype(int) + 1
        grid = np.zeros(size, bool)
        column, row = ((points - low) / cell).astype(int).T
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                grid[column + dx, row + dy] = True
        at = (self._places - low) / cell
        inside = np.flatnonzero(((at >= 0) & (at < size)).all(axis=1))
        column, row = at[inside].astype(int).T
        return np.asarray(inside[grid[column, row]])


def timetable(way: Way, start: int, occupancy: Occupancy) -> Array | None:
    """Places (2 steps + 1,) on its way at every half step: the farthest that it comes without touching; None where it finds no way."""
    blocked = occupancy.blocks(way)
    if blocked[0, start]:
        return None
    fastest, count = int(way.limit.max()), len(way.points_m)
    free, allowed = ~blocked, way.limit >= np.arange(fastest + 1)[:, None]
    reached = np.zeros((occupancy.steps + 1, fastest + 1, count), bool)
    reached[0, : int(way.limit[start]) + 1, start] = True
    for step in range(occupancy.steps):
        before, after = reached[step], reached[step + 1]
        half, whole = free[2 * step + 1], free[2 * step + 2]
        for speed in range(min(fastest, count - 1) + 1):
            left, low = count - speed, speed // 2
            high = speed - low
            fitting = before[max(0, speed - way.gain) : speed + way.brake + 1, :left].any(axis=0)
            after[speed, speed:] = fitting & half[low : low + left] & half[high : high + left]
        after &= whole & allowed
        if not after.any():
            return None
    return _backward(way, reached)


def _backward(way: Way, reached: Mask) -> Array:
    """From the farthest end back to the beginning, with as few changes of speed as it goes."""
    place = int(np.flatnonzero(reached[-1].any(axis=0))[-1])
    speed = int(np.flatnonzero(reached[-1, :, place])[-1])
    places = [float(place)]
    for step in range(len(reached) - 2, -1, -1):
        places.append(place - speed / 2)
        place -= speed
        places.append(float(place))
        low = max(0, speed - way.gain)
        choices = low + np.flatnonzero(reached[step, low : speed + way.brake + 1, place])
        speed = int(choices[np.abs(choices - speed).argmin()])
    return np.array(places[::-1])
