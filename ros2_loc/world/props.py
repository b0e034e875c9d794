"""What stands around: trees, hedges, parked cars, lamps, street signs, and the hills on the horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.canvas import Canvas, Rgb, courses, foliage, mottled
from ros2_loc.world.layout import KERB_M
from ros2_loc.world.mesh import MeshBuilder, Texture

Array = NDArray[np.float64]

_LEAVES: tuple[Rgb, ...] = ((78, 112, 48), (96, 124, 50), (66, 100, 54), (126, 122, 48), (150, 108, 50))
_CAR_COLORS: tuple[Rgb, ...] = ((170, 30, 30), (30, 60, 130), (200, 200, 204), (40, 44, 48), (228, 226, 220), (60, 100, 80), (196, 150, 50))
_SIGN_NAMES = ("MILL ST", "CHURCH RD", "STATION", "HIGH ST", "PARK LANE", "RIVER RD", "MARKET SQ", "SCHOOL ST", "ELM ROW", "BRIDGE ST")


@dataclass(frozen=True, slots=True)
class PropKit:
    """Pictures that props share."""

    leaves: tuple[Texture, ...]
    bark: Texture
    hedge: Texture
    planks: Texture
    metal: Texture
    glass: Texture
    cars: tuple[tuple[Texture, Texture, Texture], ...]
    signs: tuple[Texture, ...]

    @staticmethod
    def paint(builder: MeshBuilder, rng: np.random.Generator) -> PropKit:
        """Paints them."""
        leaves = [foliage((160, 160), c, 3.5, rng) for c in _LEAVES]
        bark = np.ascontiguousarray(courses((60, 200), (26, 3), (96, 78, 60), (58, 46, 36), 0.15, rng).swapaxes(0, 1))
        return PropKit(
            leaves=tuple(builder.picture(x, 40.0, plant=True) for x in leaves),
            bark=builder.picture(bark, 40.0),
            hedge=builder.picture(foliage((60, 600), (70, 96, 48), 3.0, rng), 30.0, plant=True),
            planks=builder.picture(
                np.ascontiguousarray(courses((600, 60), (60, 4), (150, 116, 80), (90, 66, 46), 0.1, rng).swapaxes(0, 1)), 30.0
            ),
            metal=builder.picture(mottled((128, 32), (84, 90, 92), (1, 8), 0.06, rng), 30.0),
            glass=builder.picture(mottled((64, 96), (50, 60, 70), (30,), 0.3, rng), 40.0),
            cars=tuple(_car_pictures(builder, c, rng) for c in _CAR_COLORS),
            signs=tuple(builder.picture(_sign_picture(name), 60.0) for name in _SIGN_NAMES),
        )


def add_tree(builder: MeshBuilder, at: Array, height_m: float, kit: PropKit, rng: np.random.Generator, leaves: int = 1100) -> None:
    """A trunk and a crown of loose clusters of leaves around a few dark cores."""
    texture = kit.leaves[int(rng.choice(len(kit.leaves), p=[0.3, 0.25, 0.25, 0.12, 0.08]))]
    trunk, radius = height_m * 0.42, height_m * 0.024 + 0.05
    angles = np.linspace(0, 2 * np.pi, 7)
    ring = at + radius * np.column_stack([np.cos(angles), np.sin(angles)])
    for k in range(6):
        builder.wall(ring[k], ring[k + 1], KERB_M - 0.05, trunk + 0.8, kit.bark, (0.2 * k, 0.0))
    crown = np.array([*at, KERB_M + height_m * 0.66])
    size = np.array([0.27, 0.27, 0.33]) * height_m
    lobes = crown + rng.normal(0, 0.42, (7, 3)) * size
    lobe = rng.integers(len(lobes), size=leaves)
    out = rng.normal(size=(leaves, 3))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    centres = lobes[lobe] + out * size * 0.62 * rng.uniform(0.35, 1.0, (leaves, 1)) ** 0.5
    spread = rng.normal(0, 1, (leaves, 3, 3)) * height_m * 0.026
    shading = centres - crown + rng.normal(0, 0.25, (leaves, 3)) * size
    shading /= np.linalg.norm(shading, axis=1, keepdims=True)
    builder.scatter(centres[:, None] + spread, texture, shading, rng)


def add_hedge(builder: MeshBuilder, a: Array, b: Array, kit: PropKit, rng: np.random.Generator) -> None:
    """A hedge or a fence of planks from a to b, at most 20 m."""
    length = float(np.linalg.norm(b - a))
    if length < 0.5:
        return
    green = rng.random() < 0.6
    texture = kit.hedge if green else kit.planks
    builder.box((a + b) / 2, b - a, (length, 0.6 if green else 0.08, rng.uniform(0.9, 1.4)), (texture,) * 3, bottom_m=KERB_M)


def add_car(builder: MeshBuilder, at: Array, forward: Array, kit: PropKit, rng: np.random.Generator) -> None:
    """A parked car: body and cabin."""
    side, end, top = kit.cars[int(rng.integers(len(kit.cars)))]
    f = forward / np.linalg.norm(forward)
    left = np.array([-f[1], f[0]])
    profile = [(-2.05, 0.28), (2.05, 0.28), (2.1, 0.75), (1.2, 0.95), (0.55, 1.45), (-1.35, 1.45), (-1.95, 0.95), (-2.1, 0.8)]
    rows = [[np.array([*(at + f * x + left * y), KERB_M + z]) for x, z in profile] for y in (-0.85, 0.85)]
    forward3 = np.array([*f, 0.0])
    foot = np.array([*(at - f * 2.1), KERB_M])
    builder.polygon(rows[0], side, along=forward3, start=foot - 0.85 * np.array([*left, 0]))
    builder.polygon(rows[1][::-1], side, along=-forward3, start=foot + 4.2 * forward3 + 0.85 * np.array([*left, 0]))
    skins = (top, end, top, kit.glass, top, kit.glass, top)
    for k, skin in enumerate(skins):
        builder.polygon([rows[0][k], rows[1][k], rows[1][k + 1], rows[0][k + 1]], skin)
    rear = [rows[1][0], rows[0][0], rows[0][-1], rows[1][-1]]
    builder.polygon(rear, end)


def add_lamp(builder: MeshBuilder, at: Array, toward: Array, kit: PropKit) -> None:
    """A street lamp whose arm reaches over the street."""
    m = (kit.metal,) * 3
    builder.box(at, toward, (0.12, 0.12, 5.2), m, bottom_m=KERB_M)
    builder.box(at + toward * 0.55, toward, (1.2, 0.08, 0.08), m, bottom_m=5.2)
    builder.box(at + toward * 1.1, toward, (0.5, 0.24, 0.14), m, bottom_m=5.1)


def add_sign(builder: MeshBuilder, at: Array, facing: Array, kit: PropKit, rng: np.random.Generator) -> None:
    """A street name on a post, readable from the side that `facing` points to."""
    builder.box(at, facing, (0.07, 0.07, 2.7), (kit.metal,) * 3, bottom_m=KERB_M)
    plate = kit.signs[int(rng.integers(len(kit.signs)))]
    right = np.array([-facing[1], facing[0]])
    for way in (1.0, -1.0):
        middle = at + facing * 0.06 * way
        builder.wall(middle - right * way * plate.width_m / 2, middle + right * way * plate.width_m / 2, 2.3, 2.3 + plate.height_m, plate)


def add_horizon(builder: MeshBuilder, centre: Array, half_m: float, rng: np.random.Generator) -> None:
    """Meadow around the town and wooded hills behind it."""
    meadow = builder.picture(foliage((512, 512), (112, 130, 74), 6.0, rng), min(0.5, 64 / half_m))
    builder.plan([centre + half_m * 4 * np.array(c) for c in ((-1, -1), (1, -1), (1, 1), (-1, 1))], -0.03, meadow, centre - half_m * 4)
    wood = builder.picture(foliage((96, 2048), (66, 88, 56), 3.0, rng), 1.6, plant=True)
    count = 72
    angles = np.linspace(0, 2 * np.pi, count + 1)
    ring = centre + half_m * 2.6 * np.column_stack([np.cos(angles), np.sin(angles)])
    tops = 9 + 5 * np.abs(np.interp(angles, angles[::6], rng.normal(0.6, 1, len(angles[::6])))) + rng.uniform(0, 1.6, count + 1)
    tops[-1] = tops[0]
    for k in range(count):
        b, a = ring[k], ring[k + 1]
        outline = [(*a, -0.5), (*b, -0.5), (*b, tops[k]), (*a, tops[k + 1])]
        builder.polygon(outline, wood, offset_m=(float(rng.uniform(0, 1100)), 0.0))


def _car_pictures(builder: MeshBuilder, color: Rgb, rng: np.random.Generator) -> tuple[Texture, Texture, Texture]:
    side = Canvas(4.2, 1.5, 50)
    side.image[:] = mottled(side.image.shape[:2], color, (1, 60), 0.04, rng)
    side.polygon([[0.35, 0.95], [0.85, 1.38], [2.5, 1.38], [3.1, 0.95]], (44, 52, 60))
    side.rect(1.62, 0.45, 1.72, 1.4, color)
    side.rect(0, 0.25, 4.2, 0.42, (40, 40, 42))
    side.lines([[1.6, 0.45], [1.6, 0.93]], (60, 60, 60), 0.02)
    side.rect(1.3, 0.82, 1.52, 0.86, (190, 190, 190))
    for x in (0.8, 3.35):
        side.disc(x, 0.32, 0.36, (28, 28, 30))
        side.disc(x, 0.32, 0.2, (168, 170, 172))
    side.rect(4.0, 0.6, 4.2, 0.74, (240, 236, 200))
    side.rect(0, 0.62, 0.15, 0.78, (170, 30, 30))
    end = Canvas(1.75, 1.0, 50)
    end.image[:] = mottled(end.image.shape[:2], color, (1, 30), 0.05, rng)
    end.rect(0, 0, 1.75, 0.1, (44, 44, 46))
    end.rect(0.6, 0.18, 1.15, 0.3, (232, 232, 226))
    end.text(0.87, 0.24, 0.1, f"{rng.integers(100, 999)} {rng.integers(10, 99)}", (20, 20, 30))
    for x in (0.08, 1.42):
        end.rect(x, 0.3, x + 0.25, 0.42, (236, 224, 180))
    return (
        builder.picture(side.image, 50),
        builder.picture(end.image, 50),
        builder.picture(mottled((90, 100), color, (2, 40), 0.05, rng), 50),
    )


def _sign_picture(name: str) -> NDArray[np.uint8]:
    plate = Canvas(1.1, 0.3, 60)
    plate.image[:] = (238, 240, 244)
    plate.rect(0.03, 0.03, 1.07, 0.27, (26, 62, 132))
    plate.text(0.55, 0.15, 0.13, name, (244, 244, 244))
    return plate.image
