"""Houses as surfaces: four painted walls, a roof with overhang, chimneys, a church."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.canvas import Rgb, courses, mottled
from ros2_loc.world.facades import Side, paint_wall
from ros2_loc.world.house import House
from ros2_loc.world.layout import KERB_M
from ros2_loc.world.mesh import MeshBuilder, Texture

Array = NDArray[np.float64]

_ROOF_PX_PER_M = 24.0
_OVERHANG_M = 0.35
_TILES: tuple[Rgb, ...] = ((156, 84, 60), (132, 66, 52), (110, 96, 92), (84, 88, 98), (168, 108, 76))


@dataclass(frozen=True, slots=True)
class RoofKit:
    """Pictures that all roofs share."""

    tiles: tuple[Texture, ...]
    gravel: Texture
    brick: Texture
    soffit: Texture

    @staticmethod
    def paint(builder: MeshBuilder, rng: np.random.Generator) -> RoofKit:
        """Paints them."""
        shape = (round(11 * _ROOF_PX_PER_M), round(16 * _ROOF_PX_PER_M))
        tiles = [courses(shape, (0.22 * _ROOF_PX_PER_M, 0.3 * _ROOF_PX_PER_M), c, _darker(c), 0.12, rng) for c in _TILES]
        gravel = mottled((400, 400), (140, 136, 130), (1, 2, 5, 50), 0.1, rng)
        brick = courses((120, 120), (8, 4), (140, 80, 64), (180, 160, 140), 0.12, rng)
        soffit = courses((64, 512), (40, 5), (112, 88, 66), (70, 54, 42), 0.08, rng)
        return RoofKit(
            tuple(builder.picture(t, _ROOF_PX_PER_M) for t in tiles),
            builder.picture(gravel, _ROOF_PX_PER_M),
            builder.picture(brick, 30.0),
            builder.picture(soffit, 30.0),
        )


def build_house(builder: MeshBuilder, house: House, kit: RoofKit, px_per_m: float, rng: np.random.Generator) -> None:
    """Adds one house."""
    _walls(builder, house, px_per_m, rng)
    add_roof(builder, house, kit, int(rng.integers(len(kit.tiles))), rng)


def add_roof(builder: MeshBuilder, house: House, kit: RoofKit, color: int, rng: np.random.Generator) -> None:
    """Adds its roof in one of the kit's colours of tiles, and a chimney unless the roof is flat."""
    tiles = kit.tiles[color % len(kit.tiles)]
    if house.roof == "flat":
        _flat_roof(builder, house, kit)
        return
    (_hip_roof if house.roof == "hip" else _gable_roof)(builder, house, tiles, kit.soffit)
    _chimney(builder, house, kit.brick, rng)


def _walls(builder: MeshBuilder, house: House, px_per_m: float, rng: np.random.Generator) -> None:
    ring, eaves = house.lot.corners, house.eaves_m
    sides: tuple[Side, ...] = ("front", "side", "back", "side")
    share = {"front": 1.0, "side": 0.75, "back": 0.5} if house.lot.core else {"front": 0.6, "side": 0.45, "back": 0.35}
    for k, side in enumerate(sides):
        a, b = ring[k], ring[(k + 1) % 4]
        width = float(np.linalg.norm(b - a))
        gabled = house.roof == ("side_gable" if side == "side" else "front_gable")
        height = house.ridge_m if gabled else eaves
        density = px_per_m * share[side]
        wall = paint_wall(house, side, width, height, density, rng)
        texture = builder.picture(wall.image, density, panes=wall.panes)
        outline = [(*a, KERB_M), (*b, KERB_M), (*b, KERB_M + eaves), (*a, KERB_M + eaves)]
        if gabled:
            outline.insert(3, (*(a + b) / 2, KERB_M + height))
        builder.polygon(outline, texture)


def _gable_roof(builder: MeshBuilder, house: House, tiles: Texture, soffit: Texture) -> None:
    ring = house.lot.corners
    if house.roof == "front_gable":
        ring = np.roll(ring, -1, axis=0)
    # the ridge runs along ring[0] -> ring[1]; eaves below it on both sides
    along = (ring[1] - ring[0]) / np.linalg.norm(ring[1] - ring[0])
    across = np.array([-along[1], along[0]])
    span = float(np.linalg.norm(ring[2] - ring[1]))
    slope = (house.ridge_m - house.eaves_m) / (span / 2)
    ends = [ring[0] - along * _OVERHANG_M, ring[1] + along * _OVERHANG_M]
    ridge = [np.append(e + across * span / 2, house.ridge_m + KERB_M + 0.03) for e in ends]
    low = house.eaves_m - slope * _OVERHANG_M + KERB_M + 0.03
    near = [np.append(e - across * _OVERHANG_M, low) for e in ends]
    far = [np.append(e + across * (span + _OVERHANG_M), low) for e in ends]
    builder.polygon([near[0], near[1], ridge[1], ridge[0]], tiles)
    builder.polygon([far[1], far[0], ridge[0], ridge[1]], tiles)
    thick = np.array([0.0, 0.0, 0.16])
    for a, b in ((near[0], near[1]), (far[1], far[0]), (near[1], ridge[1]), (ridge[1], far[1]), (far[0], ridge[0]), (ridge[0], near[0])):
        builder.polygon([a - thick, b - thick, b, a], soffit)


def _hip_roof(builder: MeshBuilder, house: House, tiles: Texture, soffit: Texture) -> None:
    ring, centre = house.lot.corners, house.lot.corners.mean(axis=0)
    ring = centre + (ring - centre) * (1 + _OVERHANG_M * np.sqrt(2) / np.linalg.norm(ring - centre, axis=1, keepdims=True))
    half = abs(house.lot.width_m - house.lot.depth_m) / 2
    axis = house.lot.along if house.lot.width_m > house.lot.depth_m else house.lot.inward
    rise = 0.75 * min(house.lot.width_m, house.lot.depth_m) / 2
    z = house.eaves_m + KERB_M
    low = [np.append(c, z - 0.1) for c in ring]
    tops = [np.append(centre + s * axis * half, z + rise) for s in (-1, 1)]
    for k in range(4):
        a, b = low[k], low[(k + 1) % 4]
        ends = [tops[int((q - np.append(centre, 0))[:2] @ axis > 0)] for q in (b, a)]
        builder.polygon([a, b, *(ends if np.abs(ends[0] - ends[1]).max() > 0.05 else ends[:1])], tiles)
        builder.polygon([a - [0, 0, 0.16], b - [0, 0, 0.16], b, a], soffit)


def _flat_roof(builder: MeshBuilder, house: House, kit: RoofKit) -> None:
    ring, z = house.lot.corners, house.eaves_m + KERB_M
    builder.polygon([np.append(c, z) for c in ring], kit.gravel)
    for k in range(4):
        a, b = ring[k], ring[(k + 1) % 4]
        out = (a - b)[::-1] * [-1, 1] / np.linalg.norm(a - b) * 0.08
        builder.wall(a + out, b + out, z - 0.25, z + 0.35, kit.soffit)


def _chimney(builder: MeshBuilder, house: House, brick: Texture, rng: np.random.Generator) -> None:
    lot = house.lot
    spot = lot.front + lot.along * rng.uniform(-0.25, 0.25) * lot.width_m + lot.inward * rng.uniform(0.35, 0.65) * lot.depth_m
    foot_m = KERB_M + 0.55 * house.eaves_m + 0.45 * house.ridge_m
    builder.box(spot, lot.along, (0.7, 0.55, 2.4), (brick, brick, brick), bottom_m=foot_m)


def _darker(rgb: Rgb) -> Rgb:
    return (int(rgb[0] * 0.6), int(rgb[1] * 0.6), int(rgb[2] * 0.6))
