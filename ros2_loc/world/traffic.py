"""Traffic: who drives, walks and cycles through a town, and where each of them is at any moment. Nobody touches anybody, nor a house."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.world.drive import Drive
from ros2_loc.world.movers import PlacedMover, mover_size
from ros2_loc.world.streets import StreetNetwork
from ros2_loc.world.timetable import STEP_S, Occupancy, Way, timetable
from ros2_loc.world.town import Town
from ros2_loc.world.ways import (
    LANE_M,
    ROAD_CELL_M,
    TRUCK_LANE_M,
    WALK_CELL_M,
    Nodes,
    Terrain,
    free_part,
    lane,
    nodes_of,
    random_nodes,
    sidewalk,
    street_network,
)

Array = NDArray[np.float64]

_STREET_PER_VEHICLE_M, _STREET_PER_PERSON_M, _STREET_PER_CYCLIST_M = 45.0, 22.0, 160.0  # at a density of 1
_ALONG_PER_S = 0.5  # vehicles that share the way of the drive, each second
_TRUCKS, _STANDING = 0.13, 0.15
_EGO_M = (4.6, 2.0)
_TRIES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Where one mover is: `at_s` (N,) seconds from the beginning; poses (N, 4) x, y, z, yaw (continuous); metres travelled (N,)."""

    id: int
    label: str
    look: int
    at_s: Array
    poses: Array
    travelled_m: Array

    def at(self, time_s: float) -> PlacedMover:
        """The mover at a time."""
        x, y, z, yaw = (float(np.interp(time_s, self.at_s, column)) for column in self.poses.T)
        travelled, before, after = (float(np.interp(time_s + d, self.at_s, self.travelled_m)) for d in (0, -0.5, 0.5))
        braking = travelled - before > after - travelled + 0.2 or after - before < 0.1
        walked = travelled if after - before > 0.15 or self.label != "person" else -1.0
        pose = Pose(so3_exp([0.0, 0.0, yaw]), np.array([x, y, z]))
        return PlacedMover(self.id, self.label, pose, look=self.look, travelled_m=walked, braking=braking)


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """All that moves in a town during a span of time.

    Attributes:
        start_ns, end_ns: the span.
        tracks: of each mover; their numbers begin above those of the town's parked cars.
    """

    start_ns: int
    end_ns: int
    tracks: tuple[Track, ...]

    @staticmethod
    def generate(
        town: Town,
        seed: int = 0,
        *,
        density: float = 1.0,
        drive: Drive | None = None,
        start_ns: int = 0,
        duration_s: float = 10.0,
    ) -> Traffic:
        """Traffic of a town; the same arguments give the same one.

        Args:
            density: of everybody; 1 is a busy street (a vehicle every 45 m, a person every 22 m), 3 is full.
            drive: of the own car. Traffic lasts as long and makes room for it; more vehicles go before, behind and towards it.
            start_ns, duration_s: the span where there is no drive.

        Raises:
            ConfigError: a density or a duration that is not positive, or a town without streets.
        """
        if not density > 0 or not duration_s > 0:
            raise ConfigError(f"traffic needs a positive density and duration, got {density} and {duration_s}")
        if drive is not None:
            start_ns, duration_s = int(drive.stamps_ns[0]), drive.duration_s
        planner = _Planner(town, int(np.ceil(duration_s / STEP_S)) + 1, np.random.default_rng([town.seed, town.day, seed, 73]))
        if drive is not None:
            planner.take(drive)
        planner.fill(density)
        return Traffic(start_ns, start_ns + round(duration_s * 1e9), tuple(planner.tracks))

    def at(self, stamp_ns: int) -> tuple[PlacedMover, ...]:
        """Everybody at a time of the span.

        Raises:
            ConfigError: a time outside of it.
        """
        if not self.start_ns <= stamp_ns <= self.end_ns:
            raise ConfigError(f"stamp {stamp_ns} is outside of the traffic's span, {self.start_ns} to {self.end_ns}")
        return tuple(track.at((stamp_ns - self.start_ns) * 1e-9) for track in self.tracks)


class _Planner:
    """Plans one mover after the other; who comes later gives way."""

    def __init__(self, town: Town, steps: int, rng: np.random.Generator) -> None:
        self.tracks: list[Track] = []
        self._network: StreetNetwork = street_network(town)
        self._terrain = Terrain(town)
        self._taken = Occupancy(steps)
        self._rng = rng
        self._first = len(town.furniture.cars) + 1
        self._ego: Nodes = ()
        self._seconds = steps * STEP_S

    def take(self, drive: Drive) -> None:
        """Makes room for the own car."""
        moments = np.arange(2 * self._taken.steps + 1) * STEP_S / 2
        stamps = np.minimum(drive.stamps_ns[0] + (moments * 1e9).astype(np.int64), drive.stamps_ns[-1])
        poses = [drive.at(int(stamp)) for stamp in stamps]
        offsets = np.linspace(-0.5, 0.5, 5) * _EGO_M[0]
        circles = [[pose.translation[:2] + pose.rotation[:2, 0] * x for x in offsets] for pose in poses]
        self._taken.take(np.array(circles), _EGO_M[1] / 2 + 0.2)
        self._ego = nodes_of(self._network, drive)

    def fill(self, density: float) -> None:
        """People first, since all others wait for them."""
        streets_m = sum(float(np.linalg.norm(np.subtract(*self._network.ends(street)))) for street in self._network.streets)
        for _ in range(round(density * streets_m / _STREET_PER_PERSON_M)):
            self._walker()
        if len(self._ego) > 1:
            for k in range(round(density * _ALONG_PER_S * self._seconds)):
                beyond = random_nodes(self._network, self._length_m(self._ego) + 60.0, self._rng, self._ego)
                self._driver(beyond[::-1] if k % 3 else beyond)
        for _ in range(round(density * streets_m / _STREET_PER_CYCLIST_M)):
            self._cyclist()
        for _ in range(round(density * streets_m / _STREET_PER_VEHICLE_M)):
            self._driver(None)

    def _cut(self, nodes: Nodes) -> Nodes:
        """The rest of a way from any of its streets on, long ones more often."""
        lengths = np.linalg.norm(np.diff(self._network.nodes[list(nodes)], axis=0), axis=1)
        return nodes[int(self._rng.choice(len(lengths), p=lengths / lengths.sum())) :]

    def _driver(self, along: Nodes | None) -> None:
        label = "truck" if self._rng.random() < _TRUCKS else "car"
        look, speed = self._look(), float(self._rng.uniform(7.0, 11.0))
        length, width, _ = mover_size(label, look)
        for _ in range(_TRIES):
            begun = self._cut(along) if along else ()
            nodes = random_nodes(self._network, speed * self._seconds + 120, self._rng, begun)
            way = lane(self._network, nodes, speed, length, width, TRUCK_LANE_M if label == "truck" else LANE_M)
            if self._settle(label, look, way, self._start(nodes, ROAD_CELL_M), ROAD_CELL_M, width / 2):
                return

    def _cyclist(self) -> None:
        look, speed = self._look(), float(self._rng.uniform(3.5, 6.0))
        for _ in range(_TRIES):
            nodes = self._anywhere(speed * self._seconds + 20)
            half = min(street.width_m for street in self._network.streets) / 2
            way = lane(self._network, nodes, speed, 1.8, 0.7, -half + 0.7)
            if self._settle("cyclist", look, way, self._start(nodes, ROAD_CELL_M), ROAD_CELL_M, 0.3):
                return

    def _walker(self) -> None:
        look, speed = self._look(), float(self._rng.uniform(0.9, 1.7))
        for _ in range(_TRIES):
            nodes = self._anywhere(speed * self._seconds + 20)
            way = sidewalk(self._network, nodes, float(self._rng.choice([-1, 1])), float(self._rng.uniform(0.25, 0.8)), speed)
            if self._rng.random() < _STANDING:
                turned = way.heading_rad + self._rng.uniform(0, 2 * np.pi)
                way = Way(way.points_m, turned, np.zeros_like(way.limit), way.offsets_m, way.radius_m)
            start = self._start(nodes, WALK_CELL_M)
            begins_raised = self._terrain.height_m(way.points_m[start : start + 1]).any()  # no sidewalk lies where the town ends
            if begins_raised and self._settle("person", look, way, start, WALK_CELL_M, 0.25):
                return

    def _settle(self, label: str, look: int, way: Way, start: int, cell_m: float, clearance_m: float) -> bool:
        """Whether the mover found its place and time."""
        start = min(start, len(way.points_m) - 2)
        reach = int(way.limit.max()) * self._taken.steps + 2
        free = free_part(way, start, reach, lambda points: self._terrain.taken(points, clearance_m))
        places = timetable(free, 0, self._taken) if free else None
        if free is None or places is None:
            return False
        self._taken.take(free.circles(places), free.radius_m)
        number = np.arange(len(free.points_m))
        x, y, yaw = (np.interp(places, number, column) for column in (*free.points_m.T, free.heading_rad))
        z = self._terrain.height_m(np.column_stack([x, y]))
        at_s = np.arange(len(places)) * STEP_S / 2
        self.tracks.append(
            Track(self._first + len(self.tracks), label, look, at_s, np.column_stack([x, y, z, yaw]), (places - places[0]) * cell_m)
        )
        return True

    def _anywhere(self, length_m: float) -> Nodes:
        return random_nodes(self._network, length_m, self._rng)

    def _start(self, nodes: Nodes, cell_m: float) -> int:
        """Anywhere on the first street."""
        return int(self._rng.uniform() * self._length_m(nodes[:2]) / cell_m)

    def _look(self) -> int:
        return int(self._rng.integers(2**31))

    def _length_m(self, nodes: Nodes) -> float:
        return float(np.linalg.norm(np.diff(self._network.nodes[list(nodes)], axis=0), axis=1).sum())
