"""The ground of a district as one coarse map picture: fields, streets with their marks, sidewalks, and what the blocks are made of."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.canvas import Canvas, Image, Rgb, courses, foliage, mottled, noise, shaded
from ros2_loc.world.land import Land, Patch, disc, unit
from ros2_loc.world.layout import Plan
from ros2_loc.world.streets import Street, StreetNetwork

Array = NDArray[np.float64]

_TILE_M = 24.0
_WHITE: Rgb = (222, 222, 214)
_GREENS: dict[str, Rgb] = {"lawn": (102, 124, 74), "grass": (118, 130, 88), "meadow": (136, 138, 98), "field": (114, 136, 80)}
_PLAINS: dict[str, tuple[Rgb, float]] = {
    "dark": ((86, 86, 88), 0.07), "asphalt": ((114, 113, 112), 0.07), "light": ((146, 144, 140), 0.06), "concrete": ((170, 167, 158), 0.05),
    "gravel": ((168, 154, 130), 0.09), "sand": ((206, 186, 142), 0.06), "soil": ((122, 96, 70), 0.12), "dry": ((168, 156, 100), 0.10),
    "water": ((62, 88, 96), 0.04), "pool": ((84, 172, 198), 0.03), "tartan": ((166, 78, 58), 0.04), "hardcourt": ((64, 116, 104), 0.03),
    "cobbles": ((134, 122, 112), 0.11), "cobble": ((128, 116, 106), 0.12),
    "pitch": ((98, 144, 82), 0.05), "white": (_WHITE, 0.02), "kerb": ((182, 180, 172), 0.03),
}  # fmt: skip
_PAVINGS: dict[str, Rgb] = {"slabs": (162, 158, 150), "terrace": (176, 152, 130)}
_SIDEWALKS = ("slabs", "terrace", "concrete", "light")


def paint_district(plan: Plan, land: Land, rng: np.random.Generator) -> Canvas:
    """The canvas over the whole district, apron included."""
    assert plan.network and plan.size.variety
    half = plan.size.variety.half_m
    canvas = Canvas(2 * half, 2 * half, plan.size.ground_px_per_m, -half, -half)
    materials = _materials(plan.size.ground_px_per_m, rng)
    for patch in land.fields:
        _paint(canvas, patch, materials)
    _streets(canvas, plan.network, materials, rng)
    for block in plan.blocks:
        canvas.polygon(block.kerb, (182, 180, 172))
        canvas.paint(_shrunk(block.kerb, 0.25), materials[_SIDEWALKS[int(rng.integers(len(_SIDEWALKS)))]])
    _blocks(canvas, plan, land, materials)
    _stain(canvas, rng)
    return canvas


def _blocks(canvas: Canvas, plan: Plan, land: Land, materials: dict[str, Image]) -> None:
    """All patches, as far as they lie inside of the sidewalks."""
    outside = np.full(canvas.image.shape[:2], 255, np.uint8)
    for block in plan.blocks:
        cv2.fillPoly(outside, [canvas.pixels(block.sidewalk)], 0)
    before = canvas.image.copy()
    for patch in land.patches:
        _paint(canvas, patch, materials)
    for lot in plan.lots:
        out = lot.front - lot.inward * 2.5
        canvas.paint([out - lot.along, out + lot.along, lot.front + lot.along, lot.front - lot.along], materials["slabs"])
    cv2.copyTo(before, outside, canvas.image)


def _paint(canvas: Canvas, patch: Patch, materials: dict[str, Image]) -> None:
    if patch.width_m:
        canvas.lines(patch.points, _PLAINS[patch.material][0] if patch.material in _PLAINS else _PAVINGS[patch.material], patch.width_m)
    else:
        canvas.paint(patch.points, materials[patch.material])


def _materials(px_per_m: float, rng: np.random.Generator) -> dict[str, Image]:
    tile = (round(_TILE_M * px_per_m),) * 2
    found = {name: mottled(tile, rgb, (1, 2, 5, 20), amount, rng) for name, (rgb, amount) in _PLAINS.items()}
    for name, rgb in _GREENS.items():
        leaves = foliage(tile, rgb, 1.5, rng).astype(np.float32) * 0.5 + np.array(rgb, np.float32) * 0.5
        found[name] = shaded(leaves, 0.08 * noise(tile, (3 * px_per_m,), rng))
    rows = np.sin(np.arange(tile[0]) * (2 * np.pi / (1.5 * px_per_m)), dtype=np.float32)[:, None]
    found["field"] = shaded(found["field"].astype(np.float32), np.broadcast_to(0.1 * rows, tile))
    for name, rgb in _PAVINGS.items():
        joint = (int(rgb[0] * 0.84), int(rgb[1] * 0.84), int(rgb[2] * 0.84))
        found[name] = courses(tile, (px_per_m, px_per_m), rgb, joint, 0.06, rng)
    return found


def _streets(canvas: Canvas, network: StreetNetwork, materials: dict[str, Image], rng: np.random.Generator) -> None:
    """Narrow ones first, so that wide ones run on across them."""
    order = sorted(network.streets, key=lambda street: street.width_m)
    for street in order:
        a, b = network.ends(street)
        canvas.paint(_strip(a, b, street.width_m), materials[street.surface])
        for node in (street.start, street.end):
            canvas.paint(disc(network.nodes[node], street.width_m / 2), materials[street.surface])
            for corner in _corners(network, node, street):
                canvas.paint(corner, materials[street.surface])
    for street in order:
        _wear(canvas, network, street, rng)
        _mark(canvas, network, street)
    for node in network.used:
        if network.is_crossing(node):
            _crossing(canvas, network, node, materials, rng)


def _corners(network: StreetNetwork, node: int, street: Street) -> list[Array]:
    """What the rounded kerbs leave between this street and its neighbours at a node: a triangle each, partly under the blocks."""
    centre, reach = network.nodes[node], network.radius_m(node) + 6.0
    ways = [unit(network.nodes[n] - centre) for n in network.neighbours(node)]
    own = unit(network.nodes[street.end if street.start == node else street.start] - centre)
    return [np.array([centre, centre + own * reach, centre + way * reach]) for way in ways if -0.6 < own @ way < 0.8]


def _wear(canvas: Canvas, network: StreetNetwork, street: Street, rng: np.random.Generator) -> None:
    """Repairs, joints across the street, manholes."""
    a, b = network.ends(street)
    along, length = unit(b - a), float(np.linalg.norm(b - a))
    left = np.array([-along[1], along[0]])
    base = {"dark": 86, "asphalt": 113, "light": 144, "cobble": 116, "concrete": 166}[street.surface]
    for _ in range(rng.poisson(length / 14)):
        centre = a + along * rng.uniform(4, length - 4) + left * rng.uniform(-0.4, 0.4) * street.width_m
        grey = int(np.clip(base + rng.normal(0, 24), 60, 190))
        half = along * rng.uniform(0.5, 5)
        canvas.polygon(_strip(centre - half, centre + half, rng.uniform(0.5, 1.8)), (grey, grey, grey))
    for _ in range(rng.poisson(length / 40)):
        s, grey = rng.uniform(4, length - 4), int(base * rng.choice([0.7, 0.8, 1.25]))
        ends = [a + along * s - left * street.width_m / 2, a + along * s + left * street.width_m / 2]
        canvas.lines(ends, (grey, grey, grey), float(rng.uniform(0.2, 1.2)))
    for _ in range(rng.poisson(length / 25)):
        x, y = a + along * rng.uniform(3, length - 3) + left * rng.uniform(-0.3, 0.3) * street.width_m
        canvas.disc(x, y, 0.35, (66, 64, 62))


def _mark(canvas: Canvas, network: StreetNetwork, street: Street) -> None:
    a, b = network.ends(street)
    along, length = unit(b - a), float(np.linalg.norm(b - a))
    left = np.array([-along[1], along[0]])
    first, last = network.radius_m(street.start) + 4.5, length - network.radius_m(street.end) - 4.5
    if last - first < 6:
        return
    if street.marks == "dashes":
        for s in np.arange(first, last - 3, 7.0):
            canvas.polygon(_strip(a + along * s, a + along * (s + 3), 0.2), _WHITE)
    offsets = {"double": (-0.2, 0.2), "edges": (0.35 - street.width_m / 2, street.width_m / 2 - 0.35)}.get(street.marks, ())
    for offset in offsets:
        canvas.polygon(_strip(a + along * first + left * offset, a + along * last + left * offset, 0.18), _WHITE)
    for side, parking in ((1.0, street.parking[0]), (-1.0, street.parking[1])):
        if parking:
            edge = left * side * (street.width_m / 2 - 2.15)
            canvas.polygon(_strip(a + along * first + edge, a + along * last + edge, 0.15), (200, 200, 194))


def _crossing(canvas: Canvas, network: StreetNetwork, node: int, materials: dict[str, Image], rng: np.random.Generator) -> None:
    """Zebras and stop lines, or a crossing of another surface, or nothing."""
    look = rng.random()
    if look < 0.14:
        plate = materials[str(rng.choice(["cobble", "tartan", "concrete"]))]
        canvas.paint(disc(network.nodes[node], network.radius_m(node) + 1.5, 24), plate)
    for street in network.at(node):
        if rng.random() > (0.75 if look < 0.5 else 0.12):
            continue
        a, b = network.ends(street)
        way, centre = (unit(b - a), a) if street.start == node else (unit(a - b), b)
        left, start = np.array([-way[1], way[0]]), network.radius_m(node) + 1.2
        for t in np.arange(-street.width_m / 2 + 0.7, street.width_m / 2 - 0.4, 1.1):
            canvas.polygon(_strip(centre + way * start + left * t, centre + way * (start + 2.8) + left * t, 0.55), _WHITE)
        stop = centre + way * (start + 3.8)
        canvas.polygon(_strip(stop + left * 0.3, stop + left * (street.width_m / 2 - 0.3), 0.4), _WHITE)


def _stain(canvas: Canvas, rng: np.random.Generator) -> None:
    """Large, faint changes of brightness over everything."""
    rows, columns = canvas.image.shape[:2]
    coarse = 1.0 + 0.05 * noise((rows // 16 + 1, columns // 16 + 1), (1.5, 5, 18), rng)
    for r in range(0, rows, 512):
        part = canvas.image[r : r + 512]
        change = coarse[np.arange(r, r + len(part))[:, None] // 16, np.arange(columns)[None] // 16]
        part[:] = np.clip(part * change[..., None], 0, 255).astype(np.uint8)


def _strip(start: Array, end: Array, width_m: float) -> Array:
    along = unit(end - start)
    left = np.array([-along[1], along[0]]) * width_m / 2
    return np.array([start - left, end - left, end + left, start + left])


def _shrunk(ring: Array, by_m: float) -> Array:
    centre = ring.mean(axis=0)
    return np.asarray(centre + (ring - centre) * (1 - by_m / np.linalg.norm(ring - centre, axis=1, keepdims=True)), np.float64)
