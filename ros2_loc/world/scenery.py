"""A town as surfaces and pictures: painted once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ros2_loc.world.atlas import Atlas
from ros2_loc.world.buildings import RoofKit, build_house
from ros2_loc.world.canvas import courses
from ros2_loc.world.district_scenery import DistrictMesh, add_day, build_district
from ros2_loc.world.ground import paint_ground
from ros2_loc.world.layout import KERB_M, Plan, TownSize
from ros2_loc.world.mesh import Mesh, MeshBuilder
from ros2_loc.world.props import PropKit, add_car, add_hedge, add_horizon, add_lamp, add_sign, add_tree
from ros2_loc.world.town import Town


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """Surfaces of a town and their pictures."""

    mesh: Mesh
    atlas: Atlas


def scenery(town: Town) -> Scenery:
    """Paints a town: seconds and about 300 MB at the default size, at once for a town that was painted before."""
    if town.land is None:
        return _scenery(town.seed, town.plan.size)
    return _district_scenery(town.seed, town.plan.size, town.day)


@lru_cache(maxsize=1)
def _district(seed: int, size: TownSize) -> DistrictMesh:
    return build_district(Town.generate(seed, size))


@lru_cache(maxsize=2)
def _district_scenery(seed: int, size: TownSize, day: int) -> Scenery:
    district = _district(seed, size)
    return Scenery(add_day(district, Town.generate(seed, size).on_day(day)), district.atlas)


@lru_cache(maxsize=2)
def _scenery(seed: int, size: TownSize) -> Scenery:
    town = Town.generate(seed, size)
    rng = np.random.default_rng([seed, 21])
    builder = MeshBuilder()
    _add_ground(builder, town.plan, rng)
    roofs = RoofKit.paint(builder, rng)
    for house in town.houses:
        build_house(builder, house, roofs, size.facade_px_per_m, rng)
    _add_furniture(builder, town, rng)
    return Scenery(*builder.build())


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


def _add_furniture(builder: MeshBuilder, town: Town, rng: np.random.Generator) -> None:
    kit = PropKit.paint(builder, rng)
    for tree in town.furniture.trees:
        add_tree(builder, tree[:2], float(tree[2]), kit, rng)
    for at, toward in town.furniture.lamps:
        add_lamp(builder, at, toward, kit)
    for at, facing in town.furniture.signs:
        add_sign(builder, at, facing, kit, rng)
    for k, (at, forward) in enumerate(town.furniture.cars):
        builder.number = k + 1
        add_car(builder, at, forward, kit, rng)
    builder.number = 0
    for a, b in town.furniture.hedges:
        add_hedge(builder, a, b, kit, rng)
