"""The ground as one map picture: asphalt, lane marks, sidewalks, gardens. North up, lower left corner at the town's south-west corner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.canvas import Canvas, Image, Rgb, courses, foliage, mottled, noise, shaded
from ros2_loc.world.layout import STREET_WIDTH_M, Block, Plan

Array = NDArray[np.float64]

_PAINT: Rgb = (222, 222, 214)
_TILE_M = 24.0
DASH_M, DASH_GAP_M = 2.0, 2.5
_CROSSING_M = 6.5  # from the node's centre to the stop line


def paint_ground(plan: Plan, rng: np.random.Generator) -> Canvas:
    """The canvas over the whole town."""
    size, px_per_m = plan.size.extent_m, plan.size.ground_px_per_m
    corner = plan.nodes.reshape(-1, 2).min(axis=0)
    canvas = Canvas(size[0], size[1], px_per_m, corner[0], corner[1])
    tile = (round(_TILE_M * px_per_m),) * 2
    _asphalt(canvas, tile, rng)
    for a, b in plan.streets:
        _wear(canvas, a, b, rng)
        _marks(canvas, a, b, plan)
    grounds = _grounds(tile, px_per_m, rng)
    slabs = courses(tile, (0.5 * px_per_m, 0.5 * px_per_m), (158, 154, 148), (118, 114, 108), 0.07, rng)
    for block in plan.blocks:
        _raised(canvas, block, slabs, grounds[rng.choice(len(grounds), p=[0.5, 0.2, 0.3])])
    for lot in plan.lots:
        canvas.paint(_path(lot.front, lot.inward), slabs)
    _shade_edges(canvas, plan)
    return canvas


def _asphalt(canvas: Canvas, tile: tuple[int, int], rng: np.random.Generator) -> None:
    rows, columns = canvas.image.shape[:2]
    grain = mottled(tile, (116, 115, 114), (1, 2, 5), 0.08, rng)
    repeats = (-(-rows // tile[0]), -(-columns // tile[1]), 1)
    coarse = noise((rows // 8 + 1, columns // 8 + 1), (4, 14, 60), rng) * 0.07
    canvas.image[:] = np.tile(grain, repeats)[:rows, :columns]
    for r in range(0, rows, 512):
        part = canvas.image[r : r + 512]
        change = coarse[np.arange(r, r + len(part))[:, None] // 8, np.arange(columns)[None] // 8]
        part[:] = shaded(part.astype(np.float32), change)


def _wear(canvas: Canvas, a: Array, b: Array, rng: np.random.Generator) -> None:
    """Repairs, cracks, oil, manholes and drains of one street."""
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    left = np.array([-along[1], along[0]])
    for _ in range(round(length / 7)):
        centre = a + along * rng.uniform(2, length - 2) + left * rng.uniform(-3.2, 3.2)
        half = np.array([rng.uniform(0.3, 1.6), rng.uniform(0.2, 0.7)])
        ring = [centre + along * sx * half[0] + left * sy * half[1] for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        grey = int(rng.integers(66, 128))
        canvas.polygon(ring, (grey, grey, grey + 2))
        canvas.lines([*ring, ring[0]], (54, 54, 56), 0.05)
    for _ in range(round(length / 3.5)):
        start = a + along * rng.uniform(0, length) + left * rng.uniform(-3.8, 3.8)
        canvas.lines(start + np.cumsum(rng.normal(0, 0.28, (12, 2)) + rng.normal(0, 0.18, 2), axis=0), (58, 58, 60), 0.04)
    for _ in range(round(length / 12)):
        x, y = a + along * rng.uniform(2, length - 2) + left * rng.uniform(-2.5, 2.5)
        for radius, grey in ((0.36, 70), (0.31, 124), (0.25, 84), (0.12, 132)):
            canvas.disc(x, y, radius, (grey, grey - 3, grey - 8))
    for _ in range(round(length / 5)):
        x, y = a + along * rng.uniform(0, length) + left * rng.uniform(-3.5, 3.5)
        canvas.disc(x, y, rng.uniform(0.05, 0.22), (72, 72, 74))
    for side in (-1, 1):
        for s in np.arange(rng.uniform(4, 10), length - 3, 14.0):
            centre = a + along * s + left * side * (STREET_WIDTH_M / 2 - 0.28)
            canvas.polygon([centre + along * p * 0.3 + left * q * 0.2 for p, q in ((-1, -1), (1, -1), (1, 1), (-1, 1))], (44, 44, 46))


def dash_starts(length_m: float) -> NDArray[np.float64]:
    """Distances from a street's first node at which its centre line's dashes start."""
    return np.arange(_CROSSING_M + 3.2, length_m - _CROSSING_M - 4.5, DASH_M + DASH_GAP_M)


def _marks(canvas: Canvas, a: Array, b: Array, plan: Plan) -> None:
    """Dashed centre line, zebra crossings and stop lines at the crossings inside the town, parking line along the kerbs."""
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    left = np.array([-along[1], along[0]])
    for s in dash_starts(length):
        canvas.polygon(_strip(a + along * s, along, DASH_M, 0.14), _PAINT)
    inner = plan.nodes[1:-1, 1:-1].reshape(-1, 2)
    for node, way in ((a, along), (b, -along)):
        if np.linalg.norm(inner - node, axis=1).min() > 0.1:
            continue
        for t in np.arange(-3.4, 3.41, 0.85):
            canvas.polygon(_strip(node + way * (_CROSSING_M - 0.6) + left * t, way, 2.6, 0.45), _PAINT)
        side = np.array([way[1], -way[0]])
        stop = node + way * (_CROSSING_M + 2.6) - side * 1.95
        canvas.polygon(_strip(stop, way, 0.35, 3.6), _PAINT)


def _strip(start: Array, along: Array, length_m: float, width_m: float) -> list[Array]:
    left = np.array([-along[1], along[0]]) * width_m / 2
    return [start - left, start + along * length_m - left, start + along * length_m + left, start + left]


def _raised(canvas: Canvas, block: Block, slabs: Image, garden: Image) -> None:
    canvas.polygon(block.kerb, (176, 174, 168))
    centre = block.kerb.mean(axis=0)
    inner = centre + (block.kerb - centre) * (1 - 0.16 / np.linalg.norm(block.kerb - centre, axis=1, keepdims=True))
    canvas.paint(inner, slabs)
    canvas.paint(block.sidewalk, garden)


def _path(front: Array, inward: Array) -> Array:
    along = np.array([inward[1], -inward[0]])
    return np.array([front - along * 1.2 - inward * 2.5, front + along * 1.2 - inward * 2.5, front + along * 1.2, front - along * 1.2])


def _grounds(tile: tuple[int, int], px_per_m: float, rng: np.random.Generator) -> list[Image]:
    lawn = foliage(tile, (98, 124, 66), 0.14 * px_per_m, rng)
    lawn = shaded(lawn.astype(np.float32) * 0.55 + np.array([98, 124, 66], np.float32) * 0.45, 0.08 * noise(tile, (3.0 * px_per_m,), rng))
    gravel = mottled(tile, (168, 156, 136), (1, 2, 4, 40), 0.09, rng)
    cobbles = courses(tile, (0.2 * px_per_m, 0.16 * px_per_m), (142, 132, 122), (96, 90, 84), 0.12, rng)
    return [lawn, gravel, cobbles]


def _shade_edges(canvas: Canvas, plan: Plan) -> None:
    """Dirt in the gutter along the kerbs."""
    for block in plan.blocks:
        centre = block.kerb.mean(axis=0)
        ring = np.vstack([block.kerb, block.kerb[:1]])
        away = (ring - centre) / np.linalg.norm(ring - centre, axis=1, keepdims=True)
        canvas.lines(ring + away * 0.14, (76, 74, 70), 0.1)
