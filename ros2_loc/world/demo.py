"""The town and the two drives of `ros2-loc demo`: the second takes a way around that the first one never saw."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError
from ros2_loc.world.domains import domain_light
from ros2_loc.world.drive import Drive, Vehicle, make_drive
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording
from ros2_loc.world.sensors import OdometryNoise
from ros2_loc.world.streets import StreetNetwork
from ros2_loc.world.town import Town
from ros2_loc.world.traffic import Traffic

Array = NDArray[np.float64]
Nodes = tuple[int, ...]

_START_NS = 1_700_000_000_000_000_000
_DAY_NS = 86_400_000_000_000
_EXTENT_M = 300.0
_BEFORE_M, _AROUND_M, _AFTER_M = 110.0, 220.0, 60.0  # of the second drive: on mapped streets, off them, on them again
_MARGIN_M = 12.0  # the first drive begins earlier and ends later
_SHARPEST_RAD = np.deg2rad(125.0)
_SIDEWAYS_RAD = np.deg2rad(40.0)  # by less than this the way around begins straight on, and sees houses that are in the map


@dataclass(frozen=True, slots=True, eq=False)
class DemoDrives:
    """A drive on a clear afternoon, and another (on a hazy morning) that keeps further left and takes a way around.

    Attributes:
        mapping, localization: the drives.
        around_m: (2,) metres driven at which the second one leaves the streets of the first, and is back on them.
    """

    mapping: Recording
    localization: Recording
    around_m: Array


@dataclass(frozen=True, slots=True)
class Ways:
    """Nodes of the first drive, and of the way around that the second takes from `first[leave]` to `first[back]`."""

    first: Nodes
    leave: int
    back: int
    around: Nodes

    @property
    def second(self) -> Nodes:
        """Nodes of the second drive."""
        return (*self.first[: self.leave], *self.around, *self.first[self.back + 1 :])


def demo_town(seed: int) -> Town:
    """A small district, painted finely enough for features. Nearly every house has walls of its own: of twins a picture tells no place."""
    size = TownSize.district(_EXTENT_M, patterns=1000, quarters=4)
    return Town.generate(seed, replace(size, facade_px_per_m=20.0, ground_px_per_m=10.0))


@lru_cache(maxsize=2)
def demo_drives(town: Town, domain: str = "morning", density: float = 0.0) -> DemoDrives:
    """Both drives through a district, the second in a domain of `world.domains`; each amid other traffic of this density, 0 for none.

    Raises:
        ConfigError: no district, one whose streets leave no way around, no such domain, or a negative density.
    """
    if town.plan.network is None:
        raise ConfigError("the demo's drives need a district: make the town with demo_town(seed)")
    network = town.plan.network.within(float(town.plan.size.extent_m[0]) / 2)
    ways = plan_ways(network)
    before, after = (_length_m(network, part) for part in (ways.first[: ways.leave + 1], ways.first[ways.back :]))
    first = _trimmed(network.nodes[list(ways.first)], before - _BEFORE_M - _MARGIN_M, after - _AFTER_M - _MARGIN_M)
    second = _trimmed(network.nodes[list(ways.second)], before - _BEFORE_M, after - _AFTER_M)
    mapping = make_drive(first, Vehicle(speed_mps=7.0, lane_m=-1.6), _START_NS, seed=town.seed + 1)
    localization = make_drive(second, Vehicle(speed_mps=10.0, lane_m=-1.0), _START_NS + _DAY_NS, seed=town.seed + 2)
    noise = OdometryNoise(along_m=0.15, across_m=0.04, yaw_rad=0.015)  # wheels alone: off the map it drifts by metres
    seed, light = town.seed, domain_light(domain)
    one, other = (Traffic.generate(town, k, density=density, drive=d) if density else None for k, d in enumerate((mapping, localization)))
    return DemoDrives(
        Recording(town, mapping, Light.afternoon(), image_rate_hz=5 / 3, seed=seed + 1, traffic=one),
        Recording(town, localization, light, image_rate_hz=3.0, odometry_noise=noise, seed=seed + 2, traffic=other),
        _driven_m(localization, network.nodes[[ways.first[ways.leave], ways.first[ways.back]]]),
    )


def plan_ways(network: StreetNetwork) -> Ways:
    """The ways whose parts are nearest to the lengths that a demonstration wants.

    Raises:
        ConfigError: there are none.
    """
    streets = _Streets(network)
    candidates = (ways for first in streets.paths() for ways in streets.with_way_around(first))
    best = min(candidates, key=streets.cost, default=None)
    if best is None:
        raise ConfigError("the streets of this district leave no way around; choose another seed")
    return best


class _Streets:
    """A network as the planner asks it: legs[a][b] is the length in m of the street from node a to node b."""

    def __init__(self, network: StreetNetwork) -> None:
        self._at: dict[int, tuple[float, float]] = {n: (float(network.nodes[n][0]), float(network.nodes[n][1])) for n in network.used}
        self._legs = {n: {m: math.dist(self._at[n], self._at[m]) for m in network.neighbours(n)} for n in network.used}

    def length_m(self, nodes: Nodes) -> float:
        """Of a way."""
        return sum(self._legs[a][b] for a, b in pairwise(nodes))

    def turn_rad(self, a: int, b: int, c: int) -> float:
        """How far one turns at b, coming from a and going to c."""
        (ax, ay), (bx, by), (cx, cy) = (self._at[n] for n in (a, b, c))
        turn = math.atan2(cy - by, cx - bx) - math.atan2(by - ay, bx - ax)
        return abs(math.remainder(turn, math.tau))

    def paths(self) -> Iterator[Nodes]:
        """Ways without turning back that pass no node twice, just long enough for the first drive."""
        enough_m = _BEFORE_M + 40.0 + _AFTER_M
        waiting: list[Nodes] = [(node,) for node in self._legs]
        while waiting:
            path = waiting.pop()
            length = self.length_m(path)
            if length > enough_m:
                yield path
            if length < enough_m + 120.0:
                waiting += [(*path, n) for n in self._legs[path[-1]] if n not in path and self._is_gentle((*path[-2:], n))]

    def with_way_around(self, first: Nodes) -> Iterator[Ways]:
        """Each pair of nodes at which a second drive may leave the first one and be back."""
        reached_m = [self.length_m(first[: k + 1]) for k in range(len(first))]
        for leave in range(1, len(first) - 1):
            if not 0.7 * _BEFORE_M < reached_m[leave] < 1.8 * _BEFORE_M:
                continue
            for back in range(leave + 1, len(first) - 1):
                if reached_m[-1] - reached_m[back] < 0.8 * _AFTER_M:
                    break
                around = self._shortest(first[leave], first[back], {*first} - {first[leave], first[back]})
                if around and self._is_gentle((first[leave - 1], *around, first[back + 1])):
                    yield Ways(first, leave, back, around)

    def cost(self, ways: Ways) -> float:
        """Metres by which the parts miss their lengths; a way around that begins straight on costs as well."""
        first, leave, back = ways.first, ways.leave, ways.back
        straight = self.turn_rad(first[leave - 1], *ways.around[:2]) < _SIDEWAYS_RAD
        missing_m = max(_BEFORE_M + _MARGIN_M - self.length_m(first[: leave + 1]), 0.0)
        missing_m += max(_AFTER_M + _MARGIN_M - self.length_m(first[back:]), 0.0)
        between_m = self.length_m(first[leave : back + 1])
        return missing_m + abs(self.length_m(ways.around) - _AROUND_M) + 0.3 * between_m + (80.0 if straight else 0.0)

    def _shortest(self, start: int, end: int, taken: set[int]) -> Nodes:
        """A way of two legs or more around the nodes that are taken (Dijkstra); empty where there is none."""
        waiting: list[tuple[float, Nodes]] = [(0.0, (start,))]
        done: set[int] = set()
        while waiting:
            length, way = heappop(waiting)
            if way[-1] == end:
                return way
            if way[-1] in done or length > 2 * _AROUND_M:
                continue
            done.add(way[-1])
            for node, leg in self._legs[way[-1]].items():
                if node not in taken and node not in done and (way[-1], node) != (start, end):
                    heappush(waiting, (length + leg, (*way, node)))
        return ()

    def _is_gentle(self, nodes: Nodes) -> bool:
        return all(self.turn_rad(*nodes[k : k + 3]) < _SHARPEST_RAD for k in range(len(nodes) - 2))


def _length_m(network: StreetNetwork, nodes: Nodes) -> float:
    return float(np.linalg.norm(np.diff(network.nodes[list(nodes)], axis=0), axis=1).sum())


def _driven_m(drive: Drive, places_m: Array) -> Array:
    """(N,) metres driven up to where the drive is nearest to each of the places (N, 2)."""
    path = np.array([pose.translation[:2] for pose in drive.map_from_base[::10]])
    driven = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    return np.array([driven[np.linalg.norm(path - place, axis=1).argmin()] for place in places_m])


def _trimmed(points: Array, begin_m: float, end_m: float) -> Array:
    """The polyline less so much at its ends, where that is positive."""
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    low, high = max(begin_m, 0.0), at[-1] - max(end_m, 0.0)
    first, last = ([np.interp(place, at, points[:, k]) for k in (0, 1)] for place in (low, high))
    return np.vstack([first, points[(at > low) & (at < high)], last])
