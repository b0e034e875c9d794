"""The town itself: everything that stands in it, generated from one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.world.atlas import Atlas
from ros2_loc.world.buildings import RoofKit, build_house
from ros2_loc.world.canvas import courses
from ros2_loc.world.ground import paint_ground
from ros2_loc.world.house import SHOPS, House, make_house
from ros2_loc.world.layout import KERB_M, SIDEWALK_M, Block, Lot, Plan, TownSize, make_plan
from ros2_loc.world.mesh import Mesh, MeshBuilder
from ros2_loc.world.props import PropKit, add_car, add_hedge, add_horizon, add_lamp, add_sign, add_tree

Array = NDArray[np.float64]

ORIGIN = GeoOrigin(48.5, 9.05, 340.0)
_PARK_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Town:
    """A town and all that is needed to take pictures of it.

    The map frame is ENU with its origin in the middle of the town and z = 0 on the carriageway; sidewalks lie 0.12 m higher.

    Attributes:
        seed: what it was generated from.
        plan: streets, blocks, lots.
        houses: on most of the lots; the others are small parks.
        trees_m: (N, 2) where trees stand.
        mesh, atlas: its surfaces and their pictures.
        origin: latitude, longitude and altitude of the map's origin.
    """

    seed: int
    plan: Plan
    houses: tuple[House, ...]
    trees_m: Array
    mesh: Mesh
    atlas: Atlas
    origin: GeoOrigin

    @staticmethod
    def generate(seed: int = 0, size: TownSize | None = None) -> Town:
        """A town; the same seed and size give the same one, bit by bit."""
        rng = np.random.default_rng([seed, 20])
        plan = make_plan(size or TownSize(), rng)
        builder = MeshBuilder()
        _add_ground(builder, plan, rng)
        is_park = [bool(rng.random() < _PARK_SHARE) for _ in plan.lots]
        shops = iter(np.tile(rng.permutation(SHOPS), 1 + len(plan.lots) // len(SHOPS)))
        houses = tuple(
            make_house(lot, str(next(shops)) if lot.core and rng.random() < 0.42 else "", rng)
            for lot, park in zip(plan.lots, is_park, strict=True)
            if not park
        )
        roofs = RoofKit.paint(builder, rng)
        for house in houses:
            build_house(builder, house, roofs, plan.size.facade_px_per_m, rng)
        parks = [lot for lot, park in zip(plan.lots, is_park, strict=True) if park]
        trees = _furnish(builder, plan, parks, rng)
        mesh, atlas = builder.build()
        return Town(seed, plan, houses, trees, mesh, atlas, ORIGIN)

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """East, north of the south-west corner; east, north of the north-east corner."""
        nodes = self.plan.nodes.reshape(-1, 2)
        (e0, n0), (e1, n1) = nodes.min(axis=0), nodes.max(axis=0)
        return float(e0), float(n0), float(e1), float(n1)


def _add_ground(builder: MeshBuilder, plan: Plan, rng: np.random.Generator) -> None:
    canvas = paint_ground(plan, rng)
    texture = builder.picture(canvas.image, canvas.px_per_m)
    nodes = plan.nodes.reshape(-1, 2)
    low, high = nodes.min(axis=0), nodes.max(axis=0)
    builder.plan([low, (high[0], low[1]), high, (low[0], high[1])], 0.0, texture, low)
    stone = builder.picture(courses((16, 3000), (32, 40), (150, 148, 142), (96, 94, 90), 0.08, rng), 40.0)
    for block in plan.blocks:
        builder.plan(block.kerb, KERB_M, texture, low)
        for k, a in enumerate(block.kerb):
            builder.wall(a, block.kerb[(k + 1) % len(block.kerb)], 0.0, KERB_M, stone, (float(rng.uniform(0, 8)), 0.0))
    add_horizon(builder, (low + high) / 2, float(max(high - low) / 2), rng)


def _furnish(builder: MeshBuilder, plan: Plan, parks: list[Lot], rng: np.random.Generator) -> Array:
    """Everything between the houses; returns where the trees are."""
    kit = PropKit.paint(builder, rng)
    trees: list[Array] = []
    for block in plan.blocks:
        trees += _line_sidewalk(builder, block, plan.lots, kit, rng)
    for lot in parks:
        trees += _plant_park(builder, lot, kit, rng)
    for lot in plan.lots:
        if rng.random() < 0.5:
            spot = lot.front + lot.inward * (lot.depth_m + rng.uniform(2.0, 4.0)) + lot.along * rng.uniform(-3, 3)
            if _is_free(spot, plan.lots, 1.5):
                trees.append(spot)
    for spot in trees:
        add_tree(builder, spot, float(rng.uniform(4.5, 8.5)), kit, rng)
    return np.array(trees).reshape(-1, 2)


def _line_sidewalk(builder: MeshBuilder, block: Block, lots: tuple[Lot, ...], kit: PropKit, rng: np.random.Generator) -> list[Array]:
    """Trees, lamps and signs along the kerb, hedges and cars in the gaps between houses."""
    trees: list[Array] = []
    for frontage in block.frontages:
        span = frontage.end - frontage.start
        length, along = float(np.linalg.norm(span)), span / np.linalg.norm(span)
        kerbside = frontage.start - frontage.inward * (SIDEWALK_M - 0.45)
        add_sign(builder, kerbside + along * 2.0, along, kit, rng)
        for s in np.arange(rng.uniform(4, 8), length - 3, 6.5):
            draw = rng.random()
            if draw < 0.28:
                trees.append(kerbside + along * s)
            elif draw < 0.55:
                add_lamp(builder, kerbside + along * s, -frontage.inward, kit)
        for s in np.arange(1.0, length - 3.0, 3.0):
            a = frontage.start + along * s + frontage.inward * 0.3
            b = a + along * 2.6
            if _is_free((a + b) / 2, lots, 1.6):
                add_hedge(builder, a, b, kit, rng)
                spot = (a + b) / 2 + frontage.inward * 3.4
                if rng.random() < 0.6 and _is_free(spot, lots, 2.3):
                    add_car(builder, spot, frontage.inward * rng.choice([-1.0, 1.0]), kit, rng)
    return trees


def _plant_park(builder: MeshBuilder, lot: Lot, kit: PropKit, rng: np.random.Generator) -> list[Array]:
    corners = lot.corners
    add_hedge(builder, corners[0], lot.front - lot.along * 1.2, kit, rng)
    add_hedge(builder, lot.front + lot.along * 1.2, corners[1], kit, rng)
    spots = [lot.front + lot.along * a * lot.width_m + lot.inward * d * lot.depth_m for a, d in ((-0.3, 0.45), (0.25, 0.7), (0.3, 0.25))]
    return [s + rng.uniform(-0.8, 0.8, 2) for s in spots]


def _is_free(spot: Array, lots: tuple[Lot, ...], margin_m: float) -> bool:
    for lot in lots:
        local = np.array([(spot - lot.front) @ lot.along, (spot - lot.front) @ lot.inward])
        if abs(local[0]) < lot.width_m / 2 + margin_m and -margin_m < local[1] < lot.depth_m + margin_m:
            return False
    return True
