"""A whole district: its streets and blocks, what the blocks hold, what stands along the kerbs, and the fields around."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.district import DistrictBlock, lay_district
from ros2_loc.world.furniture import Furniture
from ros2_loc.world.land import Land, Patch, unit
from ros2_loc.world.layout import Plan, TownSize
from ros2_loc.world.quarters import Quarter, make_quarters
from ros2_loc.world.streets import Street, StreetNetwork
from ros2_loc.world.uses import draw_use, fill_block

Array = NDArray[np.float64]

_STALL_M = 5.8
_PARKED_M = 1.05  # from the kerb to the middle of a parked car
_OCCUPIED = 0.6


def settle(size: TownSize, rng: np.random.Generator) -> tuple[Plan, Land]:
    """The plan of a district and what it holds.

    Raises:
        ConfigError: a size without variety's room, see `lay_district`.
    """
    assert size.variety
    network, blocks = lay_district(size.variety, rng)
    half_m = size.variety.half_m
    quarters = make_quarters(size.variety.quarters, size.variety.patterns, half_m, rng)
    land = Land()
    _fields(land, half_m, _built(blocks, half_m), rng)
    uses: dict[int, tuple[str, Quarter]] = {}
    for block in blocks:
        middle = block.corners.mean(axis=0)
        nearest = min(quarters, key=lambda q, m=middle: float(np.linalg.norm(q.centre - m)))  # type: ignore[misc]
        if block.group in uses:
            use, quarter = uses[block.group]
            use = _beside(use, quarter, rng)
        else:
            use, quarter = uses[block.group] = draw_use(nearest, rng), nearest
        fill_block(land, block, use, quarter, rng)
    _clear(land, network, half_m)
    for street in network.streets:
        _line_street(land, network, street, rng)
    lots = tuple(house.lot for house in land.houses)
    return Plan(size, network.nodes, tuple(b.block for b in blocks), lots, network), land


def _beside(use: str, quarter: Quarter, rng: np.random.Generator) -> str:
    """What another cell of a merged block holds: houses go on, of the rest much changes, and no church stands beside a church."""
    if use == "church":
        return str(rng.choice(["park", "row", "square"]))
    if use in ("row", "detached", "park") or rng.random() < 0.4:
        return use
    other = draw_use(quarter, rng)
    return "park" if other == "church" else other


def furnish(land: Land, seed: int, day: int) -> Furniture:
    """What stands there on a day: the same trees, lamps and hedges every day, other cars in the stalls."""
    rng = np.random.default_rng([seed, 22, day])
    busy = rng.random(len(land.stalls)) < np.clip(rng.normal(_OCCUPIED, 0.08), 0.3, 0.9)
    cars = tuple((stall[:3], np.array([np.cos(stall[3]), np.sin(stall[3])])) for stall, b in zip(land.stalls, busy, strict=True) if b)
    return Furniture(tuple(land.trees), tuple(land.lamps), (), cars, tuple(land.hedges))


def _line_street(land: Land, network: StreetNetwork, street: Street, rng: np.random.Generator) -> None:
    a, b = network.ends(street)
    along, length = unit(b - a), float(np.linalg.norm(b - a))
    left = np.array([-along[1], along[0]])
    first, last = (network.radius_m(n) + 7.0 for n in (street.start, street.end))
    species = int(rng.choice([0, 1, 4], p=[0.5, 0.2, 0.3]))
    for side, parking in ((1.0, street.parking[0]), (-1.0, street.parking[1])):
        out = left * side
        if parking:
            for s in np.arange(first + _STALL_M / 2, length - last - _STALL_M / 2, _STALL_M):
                land.stall(a + along * s + out * (street.width_m / 2 - _PARKED_M), along, 0.0, rng)
        if street.trees_m:
            for s in np.arange(first, length - last, street.trees_m):
                if rng.random() < 0.88:
                    land.tree(a + along * s + out * (street.width_m / 2 + 0.8), species, rng)
        for s in np.arange(first + rng.uniform(0, 9), length - last, 28.0):
            land.lamps.append((a + along * s + out * (street.width_m / 2 + 0.45), -out))


def _fields(land: Land, half_m: float, built: Callable[[Array], bool], rng: np.random.Generator) -> None:
    """Fields, meadows and copses outside of the streets."""
    angle = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    x = -1.5 * half_m
    while x < 1.5 * half_m:
        width, y = rng.uniform(25, 70), -1.5 * half_m
        while y < 1.5 * half_m:
            depth = rng.uniform(40, 110)
            material = str(rng.choice(["meadow", "grass", "dry", "field", "soil"], p=[0.35, 0.2, 0.15, 0.2, 0.1]))
            land.fields.append(Patch(np.array([[x, y], [x + width, y], [x + width, y + depth], [x, y + depth]]) @ axes, material))
            y += depth
        x += width
    for _ in range(round(half_m**2 / 250)):
        spot = rng.uniform(-half_m + 8, half_m - 8, 2)
        if not built(spot):
            for _ in range(int(rng.integers(1, 6))):
                land.tree(np.clip(spot + rng.normal(0, 4, 2), -half_m + 2, half_m - 2), int(rng.integers(5)), rng)


def _built(blocks: tuple[DistrictBlock, ...], half_m: float) -> Callable[[Array], bool]:
    taken = Footprint(half_m)
    for block in blocks:
        taken.polygon(block.block.kerb, 18.0)
    return taken.covers


def _clear(land: Land, network: StreetNetwork, half_m: float) -> None:
    """Takes away what would stand on a carriageway, and trees and cars in houses."""
    road = Footprint(half_m)
    for street in network.streets:
        road.line(*network.ends(street), street.width_m + 0.6)
    land.houses = [house for house in land.houses if not road.touches(house.lot.corners)]
    for house in land.houses:
        road.polygon(house.lot.corners, 1.3)
    land.trees = [tree for tree in land.trees if not road.covers(tree[:2])]
    land.stalls = [stall for stall in land.stalls if not road.covers(stall[:2])]
    land.hedges = [ends for ends in land.hedges if not road.touches(np.linspace(*ends, 5))]


class Footprint:
    """What is taken of a square around the origin, half a metre per pixel."""

    def __init__(self, half_m: float) -> None:
        self._half_m = half_m
        self._mask = np.zeros((round(4 * half_m) + 4,) * 2, np.uint8)

    def line(self, a: Array, b: Array, width_m: float) -> None:
        """Takes a strip."""
        p, q = (tuple(v) for v in self._pixels(np.array([a, b])).tolist())
        cv2.line(self._mask, p, q, 1, max(1, round(2 * width_m)))

    def polygon(self, ring: Array, margin_m: float) -> None:
        """Takes a polygon and what lies within about margin_m of it."""
        pixels = self._pixels(ring)
        cv2.fillPoly(self._mask, [pixels], 1)
        cv2.polylines(self._mask, [pixels], True, 1, max(1, round(4 * margin_m)))

    def covers(self, point: Array) -> bool:
        """Whether a point (2,) is taken."""
        return self.touches(point[None])

    def touches(self, points: Array) -> bool:
        """Whether any of the points (N, 2) is taken."""
        x, y = np.clip(self._pixels(points), 0, len(self._mask) - 1).T
        return bool(self._mask[y, x].any())

    def _pixels(self, points: Array) -> NDArray[np.int32]:
        return np.asarray(np.rint((points + self._half_m) * 2), np.int32)
