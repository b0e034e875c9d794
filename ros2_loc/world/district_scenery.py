"""The surfaces of a district, made fast: few painted walls that all houses share, and trees, cars and lamps that are copies of a few."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.atlas import Atlas
from ros2_loc.world.buildings import RoofKit, add_roof
from ros2_loc.world.canvas import Image, Rgb, courses, foliage, mottled
from ros2_loc.world.district_ground import paint_district
from ros2_loc.world.facades import Side, paint_wall
from ros2_loc.world.house import GABLE_SLOPE, House
from ros2_loc.world.layout import KERB_M, Plan
from ros2_loc.world.mesh import Mesh, MeshBuilder, Texture
from ros2_loc.world.props import PropKit, add_car, add_horizon, add_lamp
from ros2_loc.world.quarters import BAY_M
from ros2_loc.world.town import Town

Array = NDArray[np.float64]

_BAYS = 5
_ROOF_PX_PER_M = 6.0
_LEAF_PX_PER_M = 12.0
_LEAVES = 170
_SHAPES = 4  # trees of each species
_DAYS = 4  # tints of leaves
_TILES: tuple[Rgb, ...] = (
    (164, 84, 58), (140, 70, 54), (112, 96, 90), (86, 88, 96), (176, 112, 76), (124, 58, 46), (96, 74, 62), (70, 72, 80),
)  # fmt: skip
_FLATS: tuple[Rgb, ...] = ((140, 136, 130), (96, 96, 98), (196, 194, 188), (118, 128, 92), (164, 150, 132), (70, 72, 76))
_CROWNS: tuple[Rgb, ...] = ((98, 124, 66), (118, 138, 74), (62, 90, 62), (138, 146, 82), (84, 114, 58))
_AUTUMN: Rgb = (168, 124, 48)


@dataclass(frozen=True, slots=True, eq=False)
class DistrictMesh:
    """What stands there every day, and all that is needed to add a day's trees and cars.

    Attributes:
        fixed: ground, houses, hedges, lamps.
        atlas: all pictures; corners (N, 2) texels where each of them lies.
        pictures: the builder's pictures, for parts that are added later.
        kit: of cars and lamps; crowns: pictures of leaves by day, then by species; bark of trunks.
    """

    fixed: Mesh
    atlas: Atlas
    corners: NDArray[np.float32]
    builder: MeshBuilder
    kit: PropKit
    crowns: tuple[tuple[Texture, ...], ...]


def build_district(town: Town) -> DistrictMesh:
    """Paints and builds what is the same every day. Seconds."""
    assert town.land
    rng = np.random.default_rng([town.seed, 21])
    builder = MeshBuilder()
    _add_ground(builder, town, rng)
    _add_houses(builder, town, rng)
    kit = PropKit.paint(builder, rng)
    crowns = tuple(tuple(_crown(builder, rgb, day / _DAYS, rng) for rgb in _CROWNS) for day in range(_DAYS))
    _add_lamps(builder, town, kit)
    for a, b in town.furniture.hedges:
        length = float(np.linalg.norm(b - a))
        if length > 0.5:
            green = rng.random() < 0.7
            texture = (kit.hedge if green else kit.planks,) * 3
            builder.box((a + b) / 2, b - a, (length, 0.8 if green else 0.15, rng.uniform(0.9, 1.6)), texture, bottom_m=KERB_M)
    atlas, corners = builder.pack()
    return DistrictMesh(builder.mesh(corners), atlas, corners, builder, kit, crowns)


def add_day(district: DistrictMesh, town: Town) -> Mesh:
    """All surfaces of the district on the town's day."""
    rng = np.random.default_rng([town.seed, 23])
    builder = district.builder.part()
    _add_trees(builder, town, district, rng)
    _add_cars(builder, town, district.kit)
    return district.fixed.joined(builder.mesh(district.corners))


def _add_ground(builder: MeshBuilder, town: Town, rng: np.random.Generator) -> None:
    plan: Plan = town.plan
    assert town.land
    canvas = paint_district(plan, town.land, rng)
    texture = builder.picture(canvas.image, canvas.px_per_m)
    low = np.array([canvas.x0_m, canvas.y0_m])
    half = -float(low[0])
    builder.plan([low, (half, -half), (half, half), (-half, half)], 0.0, texture, low)
    stone = builder.picture(mottled((8, 512), (160, 158, 150), (1, 2), 0.06, rng), 20.0)
    for block in plan.blocks:
        builder.plan(block.kerb, KERB_M, texture, low)
        for k, a in enumerate(block.kerb):
            b = block.kerb[(k + 1) % len(block.kerb)]
            for p, q in _pieces(a, b, 24.0):
                builder.wall(p, q, 0.0, KERB_M, stone)
    add_horizon(builder, np.zeros(2), half, rng)


def _pieces(a: Array, b: Array, longest_m: float) -> list[tuple[Array, Array]]:
    count = max(1, int(np.ceil(np.linalg.norm(b - a) / longest_m - 1e-6)))
    points = a + (b - a) * np.linspace(0, 1, count + 1)[:, None]
    return list(zip(points[:-1], points[1:], strict=True))


def _add_houses(builder: MeshBuilder, town: Town, rng: np.random.Generator) -> None:
    kits = _roof_kits(builder, rng)
    walls: dict[tuple[int | None, int, Side], Texture] = {}
    for house in town.houses:
        _walls(builder, house, walls, town.plan.size.facade_px_per_m, rng)
        assert house.tiles is not None
        add_roof(builder, house, kits[house.tiles % len(kits)], house.tiles, rng)
        if house.roof == "flat":
            _on_flat_roof(builder, house, kits[0], rng)


def _walls(
    builder: MeshBuilder, house: House, painted: dict[tuple[int | None, int, Side], Texture], px_per_m: float, rng: np.random.Generator
) -> None:
    """Four walls out of pictures of five bays; each wall shows whole bays."""
    sides: tuple[Side, ...] = ("front", "side", "back", "side")
    for k, side in enumerate(sides):
        a, b = house.lot.corners[k], house.lot.corners[(k + 1) % 4]
        kind: Side = "front" if side == "front" else "back"
        key = (house.pattern, house.floors, kind)
        if key not in painted:
            painted[key] = _paint_pattern(builder, house, kind, px_per_m, rng)
        gabled = house.roof == ("side_gable" if side == "side" else "front_gable")
        top = KERB_M + house.eaves_m
        for p, q in _pieces(a, b, _BAYS * BAY_M):
            bays = round(float(np.linalg.norm(q - p)) / BAY_M)
            builder.wall(p, q, KERB_M, top, painted[key], (BAY_M * float(rng.integers(max(_BAYS - bays, 0) + 1)), 0.0))
        if gabled:
            outline = [(*a, top), (*b, top), (*(a + b) / 2, KERB_M + house.ridge_m)]
            builder.polygon(outline, painted[key], offset_m=(0.0, house.eaves_m))


def _paint_pattern(builder: MeshBuilder, house: House, side: Side, px_per_m: float, rng: np.random.Generator) -> Texture:
    width = _BAYS * BAY_M
    fine = 2 * px_per_m
    height = np.ceil((house.eaves_m + GABLE_SLOPE * width / 2 + 0.5) * px_per_m) / px_per_m
    wall = paint_wall(replace(house, bays=_BAYS, roof="flat"), side, width, float(height), fine, rng)
    coarse = cv2.resize(wall.image, (round(width * px_per_m), round(height * px_per_m)), interpolation=cv2.INTER_AREA)
    return builder.picture(np.asarray(coarse, np.uint8), px_per_m, panes=wall.panes)


def _roof_kits(builder: MeshBuilder, rng: np.random.Generator) -> list[RoofKit]:
    """A kit for each kind of flat roof; all have the same tiles, bricks and soffits."""
    d = _ROOF_PX_PER_M
    shape = (round(14 * d), round(60 * d))
    tiles = tuple(builder.picture(mottled(shape, rgb, (1, 1.5, 4, 30), 0.09, rng), d) for rgb in _TILES)
    flats = [builder.picture(mottled((round(34 * d), round(56 * d)), rgb, (1, 3, 12, 60), 0.07, rng), d) for rgb in _FLATS]
    brick = builder.picture(courses((60, 60), (4, 2), (140, 80, 64), (180, 160, 140), 0.12, rng), 15.0)
    soffit = builder.picture(mottled((6, round(60 * d)), (112, 92, 72), (1, 4), 0.06, rng), d)
    return [RoofKit(tiles, flat, brick, soffit) for flat in flats]


def _on_flat_roof(builder: MeshBuilder, house: House, kit: RoofKit, rng: np.random.Generator) -> None:
    """Lift houses, skylights, machines."""
    lot = house.lot
    for _ in range(1 + int(lot.width_m * lot.depth_m / 120)):
        size = rng.uniform([1.2, 1.2, 0.5], [4.0, 3.0, 1.8])
        along = rng.uniform(-0.5, 0.5) * (lot.width_m - 6)
        spot = lot.front + lot.along * along + lot.inward * rng.uniform(3, max(lot.depth_m - 3, 3.1))
        texture = (kit.soffit, kit.soffit, kit.tiles[int(rng.choice([2, 3]))])
        builder.box(spot, lot.along, (float(size[0]), float(size[1]), float(size[2])), texture, bottom_m=house.eaves_m + KERB_M)


def _crown(builder: MeshBuilder, rgb: Rgb, turned: float, rng: np.random.Generator) -> Texture:
    evergreen = rgb == _CROWNS[2]
    share = 0.0 if evergreen else 0.55 * turned
    r, g, b = (int(c * (1 - share) + a * share) for c, a in zip(rgb, _AUTUMN, strict=True))
    image: Image = foliage((96, 96), (r, g, b), 2.0, rng)
    return builder.picture(image, _LEAF_PX_PER_M, plant=True)


def _tree_part(builder: MeshBuilder, species: int, leaves: Texture, bark: Texture, rng: np.random.Generator) -> MeshBuilder:
    """A tree 10 m high: a trunk, and leaves in large pieces."""
    part = builder.part()
    trunk, middle, size = _FORMS[species]
    part.box((0.0, 0.0), (1.0, 0.0), (0.42, 0.42, trunk), (bark,) * 3)
    out = rng.normal(size=(_LEAVES, 3))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    reach = rng.uniform(0.3, 1.0, (_LEAVES, 1)) ** 0.6
    centres = out * reach * size
    if species == 2:  # a cone
        centres[:, :2] *= (0.55 - 0.5 * centres[:, 2:] / size[2]) * 1.5
    else:
        centres += rng.normal(0, 0.3, (6, 3))[rng.integers(6, size=_LEAVES)] * size * 0.5
    triangles = centres[:, None] + rng.normal(0, 1, (_LEAVES, 3, 3)) * 0.6 + [0, 0, middle]
    shading = centres / size + rng.normal(0, 0.25, (_LEAVES, 3))
    shading /= np.linalg.norm(shading, axis=1, keepdims=True)
    part.scatter(triangles, leaves, shading, rng)
    return part


# height of the trunk, of the crown's middle, and half axes of the crown, of a tree 10 m high
_FORMS: tuple[tuple[float, float, tuple[float, float, float]], ...] = (
    (4.5, 6.4, (2.9, 2.9, 2.9)), (3.0, 5.6, (1.3, 1.3, 4.2)), (2.5, 5.4, (2.2, 2.2, 4.2)),
    (4.0, 6.4, (3.6, 3.6, 2.8)), (4.0, 6.2, (3.9, 3.9, 3.2)),
)  # fmt: skip


def _add_trees(builder: MeshBuilder, town: Town, district: DistrictMesh, rng: np.random.Generator) -> None:
    trees = np.array(town.furniture.trees).reshape(-1, 4)
    shape = rng.integers(_SHAPES, size=len(trees))
    yaw = rng.uniform(0, 2 * np.pi, len(trees))
    for species, leaves in enumerate(district.crowns[town.day % _DAYS]):
        for k in range(_SHAPES):
            part = _tree_part(builder, species, leaves, district.kit.bark, rng)
            chosen = (trees[:, 3] == species) & (shape == k)
            at = np.column_stack([trees[chosen, :2], np.full(chosen.sum(), KERB_M - 0.1)])
            builder.place(part, at, yaw[chosen], trees[chosen, 2] / 10.0)


def _add_cars(builder: MeshBuilder, town: Town, kit: PropKit) -> None:
    rng = np.random.default_rng([town.seed, 24, town.day])
    cars = town.furniture.cars
    at = np.array([c[0] for c in cars]).reshape(-1, 3) - [0, 0, KERB_M]
    yaw = np.array([np.arctan2(c[1][1], c[1][0]) for c in cars])
    color, size = rng.integers(len(kit.cars), size=len(cars)), rng.choice([0.92, 1.0, 1.08], len(cars))
    for k in range(len(kit.cars)):
        part = builder.part()
        add_car(part, np.zeros(2), np.array([1.0, 0.0]), replace(kit, cars=(kit.cars[k],)), rng)
        builder.place(part, at[color == k], yaw[color == k], size[color == k], np.flatnonzero(color == k) + 1)


def _add_lamps(builder: MeshBuilder, town: Town, kit: PropKit) -> None:
    part = builder.part()
    add_lamp(part, np.zeros(2), np.array([1.0, 0.0]), kit)
    lamps = town.furniture.lamps
    at = np.array([(*place, 0.0) for place, _ in lamps]).reshape(-1, 3)
    builder.place(part, at, [np.arctan2(way[1], way[0]) for _, way in lamps])
