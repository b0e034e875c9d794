"""Where movers can go in a town: lanes for wheels, sidewalks for feet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ros2_loc.errors import ConfigError
from ros2_loc.world.drive import Drive, rounded_path
from ros2_loc.world.layout import KERB_M, SIDEWALK_M, STREET_WIDTH_M
from ros2_loc.world.movers import parked_cars
from ros2_loc.world.streets import Street, StreetNetwork
from ros2_loc.world.timetable import STEP_S, Way
from ros2_loc.world.town import Town

Array = NDArray[np.float64]
Nodes = tuple[int, ...]

ROAD_CELL_M, WALK_CELL_M = 0.5, 0.15
LANE_M, TRUCK_LANE_M = -1.7, -1.5
_LATERAL_MPS2 = 2.2
_PX_PER_M = 4
_APART_M, _AHEAD_M = 0.2, 0.8  # half of what wheels keep between them, aside and ahead: they are looked at four times a second only
_SHARPEST_RAD = np.deg2rad(125.0)


class Terrain:
    """What the ground of a town is, on a raster: raised behind kerbs, and taken by houses, parked cars, trees and lamps."""

    def __init__(self, town: Town) -> None:
        rings = [block.kerb for block in town.plan.blocks]
        every = np.concatenate(rings)
        self._low = every.min(axis=0) - 5
        size = np.ceil((every.max(axis=0) + 5 - self._low) * _PX_PER_M).astype(int)
        self._kerb, self._solid = (np.zeros((int(size[1]), int(size[0])), np.uint8) for _ in range(2))
        for ring in rings:
            cv2.fillPoly(self._kerb, [self._pixels(ring)], 1)
        for house in town.houses:
            self._take(house.lot.corners, 0.35)
        for car in parked_cars(town):
            self._take(car.corners_m[[0, 2, 6, 4], :2], 0.05)
        for spot in (*(tree[:2] for tree in town.furniture.trees), *(place[:2] for place, _ in town.furniture.lamps)):
            x, y = self._pixels(np.asarray(spot)[None])[0].tolist()
            cv2.circle(self._solid, (x, y), 1, 1, -1)
        for hedge in town.furniture.hedges:
            cv2.polylines(self._solid, [self._pixels(np.array(hedge))], False, 1, 4)
        self._room_px = cv2.distanceTransform(1 - self._solid, cv2.DIST_L2, 3)

    def height_m(self, points: Array) -> Array:
        """(N,) of the ground at points (N, 2)."""
        return np.where(self._at(self._kerb, points), KERB_M, 0.0)

    def taken(self, points: Array, radius_m: float) -> NDArray[np.bool_]:
        """(N,) whether something stands within radius_m of the points (N, 2)."""
        column, row = np.clip(self._pixels(points), 0, np.array(self._solid.shape[::-1]) - 1).T
        return np.asarray(self._room_px[row, column] <= radius_m * _PX_PER_M)

    def _take(self, ring: Array, margin_m: float) -> None:
        pixels = self._pixels(ring)
        cv2.fillPoly(self._solid, [pixels], 1)
        cv2.polylines(self._solid, [pixels], True, 1, max(1, round(2 * margin_m * _PX_PER_M)))

    def _pixels(self, points: Array) -> NDArray[np.int32]:
        return np.asarray(np.rint((points - self._low) * _PX_PER_M), np.int32)

    def _at(self, mask: NDArray[np.uint8], points: Array) -> NDArray[np.bool_]:
        column, row = self._pixels(points).T
        inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
        found = np.zeros(len(points), bool)
        found[inside] = mask[row[inside], column[inside]] > 0
        return found


def street_network(town: Town) -> StreetNetwork:
    """The streets on which one can drive on without turning back.

    Raises:
        ConfigError: there are none.
    """
    plan = town.plan
    network = plan.network
    if network is None:
        nx, ny = plan.nodes.shape[:2]
        number = np.arange(nx * ny).reshape(nx, ny)
        pairs = [(number[i, j], number[i + 1, j]) for j in range(1, ny - 1) for i in range(1, nx - 2)]
        pairs += [(number[i, j], number[i, j + 1]) for i in range(1, nx - 1) for j in range(1, ny - 2)]
        streets = (Street(int(a), int(b), STREET_WIDTH_M, SIDEWALK_M, "asphalt", "none", (False, False), 0.0) for a, b in pairs)
        network = StreetNetwork(plan.nodes.reshape(-1, 2), tuple(streets))
    network = network.within(np.inf)
    if not network.streets:
        raise ConfigError("the town has no streets that form a loop, so nothing can drive there: make it larger")
    return network


def random_nodes(network: StreetNetwork, length_m: float, rng: np.random.Generator, first: Nodes = ()) -> Nodes:
    """A way over crossings of at least length_m without turning back; it goes on from `first`."""
    nodes = list(first)
    if not nodes:
        lengths = [float(np.linalg.norm(np.subtract(*network.ends(street)))) for street in network.streets]
        street = network.streets[int(rng.choice(len(lengths), p=np.array(lengths) / sum(lengths)))]
        nodes = [street.start, street.end] if rng.random() < 0.5 else [street.end, street.start]
    total = float(np.linalg.norm(np.diff(network.nodes[nodes], axis=0), axis=1).sum())
    while total < length_m:
        ahead = [n for n in network.neighbours(nodes[-1]) if n != nodes[-2]]
        gentle = [n for n in ahead if _turn_rad(network, nodes[-2], nodes[-1], n) < _SHARPEST_RAD] or ahead
        nodes.append(int(rng.choice(gentle)))
        total += float(np.linalg.norm(network.nodes[nodes[-1]] - network.nodes[nodes[-2]]))
    return tuple(nodes)


def nodes_of(network: StreetNetwork, drive: Drive) -> Nodes:
    """The crossings that a drive passes, with those behind its beginning and ahead of its end; empty where it leaves the streets."""
    poses = drive.map_from_base[::50]
    places = np.array([pose.translation[:2] for pose in poses])
    headings = np.array([pose.rotation[:2, 0] for pose in poses])
    pairs = np.array([pair for s in network.streets for pair in ((s.start, s.end), (s.end, s.start))])
    a, b = network.nodes[pairs[:, 0]], network.nodes[pairs[:, 1]]
    span = b - a
    length = np.linalg.norm(span, axis=1)
    nodes: list[int] = []
    for place, heading in zip(places, headings, strict=True):
        share = np.clip(((place - a) * span).sum(axis=1) / length**2, 0, 1)
        away = np.linalg.norm(a + share[:, None] * span - place, axis=1) + 20 * (heading @ (span / length[:, None]).T < 0.7)
        k = int(away.argmin())
        pair = pairs[k].tolist()
        if away[k] > 6.0 or nodes[-2:] == pair:
            continue
        if nodes and nodes[-1] != pair[0]:
            nodes = []
        nodes += pair if not nodes else pair[1:]
    return tuple(nodes)


def _turn_rad(network: StreetNetwork, a: int, b: int, c: int) -> float:
    one, other = network.nodes[b] - network.nodes[a], network.nodes[c] - network.nodes[b]
    return abs(float(np.arctan2(one[0] * other[1] - one[1] * other[0], one @ other)))


def lane(network: StreetNetwork, nodes: Nodes, speed_mps: float, length_m: float, width_m: float, lane_m: float = LANE_M) -> Way:
    """A way for wheels over crossings, slower in corners."""
    points, heading, curvature = rounded_path(network.nodes[list(nodes)], lane_m)
    limit_mps = np.minimum(speed_mps, np.sqrt(_LATERAL_MPS2 / np.maximum(np.abs(curvature), 1e-4)))
    every = round(ROAD_CELL_M / 0.1)
    limit = np.maximum(np.rint(limit_mps[::every] * STEP_S / ROAD_CELL_M), 1).astype(np.int64)
    radius = width_m / 2 + _APART_M
    count = max(2, int(np.ceil(length_m / width_m)) + 1)
    reach = length_m / 2 - width_m / 2 + _AHEAD_M
    return Way(points[::every], heading[::every], limit, np.linspace(-reach, reach, count), radius)


def sidewalk(network: StreetNetwork, nodes: Nodes, side: float, share: float, speed_mps: float) -> Way:
    """A way for feet beside streets, which crosses where they do.

    `side` is 1 on the left, -1 on the right; share of the sidewalk's width.
    """
    by_ends = {frozenset((s.start, s.end)): s for s in network.streets}
    streets = [by_ends[frozenset(pair)] for pair in zip(nodes[:-1], nodes[1:], strict=True)]
    points = _beside(network.nodes[list(nodes)], [side * (s.width_m / 2 + share * s.sidewalk_m) for s in streets])
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    cells = np.arange(0.0, at[-1], WALK_CELL_M)
    dense = np.column_stack([np.interp(cells, at, points[:, k]) for k in (0, 1)])
    smooth = gaussian_filter1d(dense, 0.6 / WALK_CELL_M, axis=0, mode="nearest")
    tangent = np.gradient(smooth, axis=0)
    heading = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    limit = np.full(len(smooth), max(round(speed_mps * STEP_S / WALK_CELL_M), 1), np.int64)
    return Way(smooth, heading, limit, np.zeros(1), 0.38, gain=2, brake=5)


def _beside(points: Array, offsets_m: Sequence[float]) -> Array:
    """A polyline (K, 2) moved to the left, each leg by its own distance."""
    legs = np.diff(points, axis=0)
    along = legs / np.linalg.norm(legs, axis=1, keepdims=True)
    normals = np.column_stack([-along[:, 1], along[:, 0]])
    out = [points[0] + normals[0] * offsets_m[0]]
    for k in range(1, len(legs)):
        pair = normals[k - 1 : k + 1]
        if abs(float(np.linalg.det(pair))) < 0.25:
            out += [points[k] + normals[k - 1] * offsets_m[k - 1] - along[k - 1], points[k] + normals[k] * offsets_m[k] + along[k]]
        else:
            out.append(points[k] + np.linalg.solve(pair, np.array(offsets_m[k - 1 : k + 1])))
    out.append(points[-1] + normals[-1] * offsets_m[-1])
    return np.array(out)


def free_part(way: Way, start: int, count: int, taken: Callable[[Array], NDArray[np.bool_]]) -> Way | None:
    """The way from a place on, for so many places or up to where something stands; None where that is at once.

    Args:
        taken: whether something stands at points (N, 2), or too near to them.
    """
    end = min(start + count, len(way.points_m))
    circles = way.circles(np.arange(start, end, dtype=np.float64))
    blocked = np.flatnonzero(taken(circles.reshape(-1, 2)).reshape(circles.shape[:2]).any(axis=1))
    part = slice(start, start + int(blocked[0]) if len(blocked) else end)
    if part.stop - part.start < 2:
        return None
    return Way(way.points_m[part], way.heading_rad[part], way.limit[part], way.offsets_m, way.radius_m, way.gain, way.brake)
