"""Shapes of cars. x forward, y left, z up from the ground below the middle, metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.materials import BLACK, GLASS, HEAD, PAINT, PLATE, RIM, TAIL
from ros2_loc.world.solids import Solid, SolidBuilder, moved

Array = NDArray[np.float64]

_INSET_M = 0.07  # frame of a window
_PROUD_M = 0.008  # by which what is painted on a body stands out


@dataclass(frozen=True, slots=True)
class Body:
    """A car's proportions.

    Attributes:
        length_m, width_m, height_m: of the whole.
        hood_z_m: tops of the nose, of the hood's end and of the rear deck's beginning and end.
        glass_x: shares of the length (0 at the rear, 1 at the nose) at which the rear window ends below and above, the windscreen above
            and below.
        wheel_m: radius.
    """

    length_m: float
    width_m: float
    height_m: float
    top_z_m: tuple[float, float, float, float]
    glass_x: tuple[float, float, float, float]
    wheel_m: float = 0.32


BODIES: tuple[Body, ...] = (
    Body(3.95, 1.72, 1.48, (0.72, 0.94, 0.96, 0.94), (0.03, 0.16, 0.58, 0.78)),  # hatchback
    Body(4.30, 1.80, 1.46, (0.68, 0.92, 0.95, 0.93), (0.04, 0.19, 0.56, 0.76)),  # larger hatchback
    Body(4.75, 1.84, 1.45, (0.66, 0.90, 0.97, 0.94), (0.13, 0.30, 0.55, 0.73)),  # saloon
    Body(4.70, 1.83, 1.50, (0.68, 0.92, 0.97, 0.95), (0.02, 0.09, 0.56, 0.74)),  # estate
    Body(4.55, 1.88, 1.72, (0.86, 1.08, 1.12, 1.10), (0.03, 0.13, 0.58, 0.75), 0.37),  # off-roader
    Body(4.40, 1.82, 1.66, (0.78, 1.00, 1.04, 1.02), (0.02, 0.08, 0.64, 0.86)),  # people carrier
    Body(3.55, 1.65, 1.50, (0.76, 0.98, 0.99, 0.97), (0.02, 0.12, 0.64, 0.85), 0.29),  # city car
)


@lru_cache(maxsize=2 * len(BODIES))
def car(number: int, fine: bool = True) -> Solid:
    """One of `BODIES`; not `fine`: as it needs to be from afar."""
    body, builder = BODIES[number], SolidBuilder()
    _hull(builder, body, fine)
    _cabin(builder, body)
    _ends(builder, body)
    for x in (-0.29, 0.305):
        wheel(builder, x * body.length_m, body.width_m / 2, body.wheel_m, 0.2, fine)
    return builder.build()


def wheel(builder: SolidBuilder, x_m: float, side_m: float, radius_m: float, width_m: float, fine: bool) -> None:
    """A pair of wheels in dark arches, at the outside of a body whose half width is side_m."""
    for way in (1.0, -1.0):
        outer = way * (side_m + 0.012)
        centre = np.array([x_m, outer, radius_m])
        count = 16 if fine else 8
        angles = (np.arange(count) + 0.5) * 2 * np.pi / count
        rim = np.column_stack([np.cos(angles), np.zeros(count), np.sin(angles)]) * radius_m
        builder.loft([centre + rim, centre + rim - [0, way * width_m, 0]], BLACK)
        builder.disc(moved(centre, 0, way * 0.004, 0), radius_m * 0.66, RIM, hole=0.18, sides=14 if fine else 6)
        if not fine:
            continue
        for k in range(5):
            a, b = 2 * np.pi * k / 5 + np.array([0.16, 1.09])
            ends = [[np.cos(t) * r, 0.0, np.sin(t) * r] for t, r in ((a, 0.56), (b, 0.56), ((a + b) / 2, 0.2))]
            builder.triangles(moved(centre, 0, way * 0.008, 0) + np.array(ends) * radius_m, BLACK)
        builder.disc(np.array([x_m, way * (side_m + 0.004), radius_m + 0.01]), radius_m + 0.06, BLACK)


def _half_width(body: Body, x_m: Array) -> Array:
    """Of the hull at x: narrower towards the ends."""
    end = np.clip((body.length_m / 2 - np.abs(x_m)) / 0.55, 0, 1)
    return np.asarray(body.width_m / 2 * (0.80 + 0.20 * np.sin(end * np.pi / 2)), np.float64)


def _top(body: Body, x_m: Array) -> Array:
    nose, cowl, deck, tail = body.top_z_m
    half = body.length_m / 2
    at = [-half, -half + 0.06, -half + 0.16, (body.glass_x[0] - 0.5) * 2 * half + 0.02, (body.glass_x[3] - 0.5) * 2 * half, half - 0.22]
    at += [half - 0.07, half]
    heights = [tail - 0.16, tail - 0.04, tail, deck, cowl, nose + 0.05, nose - 0.02, nose - 0.14]
    order = np.argsort(at)
    return np.asarray(np.interp(x_m, np.array(at)[order], np.array(heights)[order]), np.float64)


def _hull(builder: SolidBuilder, body: Body, fine: bool) -> None:
    half = body.length_m / 2
    inner = np.linspace(-half + 0.55, half - 0.55, 7 if fine else 3)
    x = np.concatenate([[-half, -half + 0.06, -half + 0.16, -half + 0.32], inner, [half - 0.36, half - 0.22, half - 0.07, half]])
    w, top = _half_width(body, x), _top(body, x)
    low = 0.2 + 0.08 * np.clip((np.abs(x) - half + 0.5) / 0.5, 0, 1)
    rows = [(0.90, low), (0.985, low + 0.10), (1.0, low + 0.45 * (top - low)), (0.975, top - 0.13), (0.90, top - 0.03), (0.55, top + 0.012)]
    left = np.stack([np.column_stack([x, share * w, z]) for share, z in rows], axis=1)
    rings = np.concatenate([left, left[:, ::-1] * [1, -1, 1]], axis=1)
    builder.loft(rings, [BLACK, *[PAINT] * 9, BLACK, BLACK], caps=False)
    for ring in (rings[0], rings[-1]):
        builder.polygon(ring, PAINT)
    if fine:
        _doors(builder, body)


def _doors(builder: SolidBuilder, body: Body) -> None:
    """Their gaps and handles."""
    half = body.length_m / 2
    doors = (body.glass_x[3] - 0.5) * 2 * half - 0.12, 0.02 * half, (body.glass_x[1] - 0.5) * 2 * half + 0.1
    for at in doors:
        _seam(builder, body, at, float(_half_width(body, np.array(at))) * 0.99 + _PROUD_M)
    y, z = body.width_m / 2, 0.72 * body.top_z_m[1] + 0.1
    for at in (0.02 * half + 0.16, doors[2] + 0.2):
        builder.box([at, y - 0.02, z], [at + 0.18, y + 0.012, z + 0.03], BLACK, mirrored=True)


def _seam(builder: SolidBuilder, body: Body, x_m: float, y_m: float) -> None:
    """The gap of a door."""
    top, a, b = float(_top(body, np.array(x_m))), x_m - 0.008, x_m + 0.008
    for low, high in ((0.32, 0.55 * top), (0.55 * top, top - 0.13)):
        builder.polygon([[a, y_m, low], [b, y_m, low], [b, y_m, high], [a, y_m, high]], BLACK, mirrored=True)


def _cabin(builder: SolidBuilder, body: Body) -> None:
    """Pillars and roof in paint, windows in front of them."""
    x = (np.array(body.glass_x) - 0.5) * body.length_m
    foot, head = body.width_m / 2 * 0.93, body.width_m / 2 * 0.72
    base = _top(body, x[[0, 3]]) - 0.06
    roof = body.height_m - 0.03
    rear, back, fore, front = ([x[0], foot, base[0]], [x[1], head, roof - 0.03], [x[2], head, roof], [x[3], foot, base[1]])
    side = np.array([rear, front, fore, back])
    builder.polygon(side, PAINT, mirrored=True)
    crown = np.array([[x[1], 0, roof], [x[2], 0, body.height_m]])
    ring = np.array([[rear, [x[0], 0, base[0]]], [back, crown[0]], [fore, crown[1]], [front, [x[3], 0, base[1]]]], object)
    rows = np.array([[list(map(float, p)) for p in pair] for pair in ring])
    edge = rows[:, 0] * 0.35 + rows[:, 1] * 0.65
    edge[1:3, 2] += 0.02
    for half in (1.0, -1.0):
        for a, b in ((rows[:, 0], edge), (edge, rows[:, 1])):
            builder.loft(np.stack([a, b], 1) * [1, half, 1], PAINT, closed=False, caps=False)
    for lower, upper in ((rear, back), (front, fore)):
        _screen(builder, np.array(lower), np.array(upper))
    _side_windows(builder, side)


def _screen(builder: SolidBuilder, lower: Array, upper: Array) -> None:
    """Windscreen or rear window between the left pillar and its image."""
    a, b = lower + (upper - lower) * 0.10, lower + (upper - lower) * 0.90
    out = np.array([np.sign(lower[0] - upper[0]) * (upper[2] - lower[2]), 0.0, abs(lower[0] - upper[0])])
    out *= 0.028 / np.linalg.norm(out)
    rows = []
    for p in (a, b):
        y = p[1] - _INSET_M
        rows.append([[p[0], y, p[2]], [p[0], y * 0.35, p[2]], [p[0], -y * 0.35, p[2]], [p[0], -y, p[2]]])
    grid = np.array(rows) + out
    builder.loft(grid, GLASS, closed=False, caps=False)


def _side_windows(builder: SolidBuilder, side: Array) -> None:
    rear, front, fore, back = side
    normal = np.cross(front - rear, back - rear)
    out = normal / np.linalg.norm(normal) * np.sign(normal[1]) * _PROUD_M

    def at(u: float, v: float) -> Array:
        """Share u from rear to front, v from foot to head."""
        return np.asarray((rear + (front - rear) * u) * (1 - v) + (back + (fore - back) * u) * v + out, np.float64)

    pillar = 0.50
    for u0, u1 in ((0.13, pillar - 0.018), (pillar + 0.018, 0.86)):
        lean = 0.05 if u0 < pillar - 0.1 else -0.05
        first, last = (u0 + (lean if u0 < 0.2 else 0), u1 + (lean if u1 > 0.8 else 0))
        builder.polygon([at(u0, 0.14), at(u1, 0.14), at(last, 0.90), at(first, 0.90)], GLASS, mirrored=True)


def _ends(builder: SolidBuilder, body: Body) -> None:
    """Lamps around the corners, grille, plates, bumpers, mirrors."""
    half = body.length_m / 2
    for way, lamp, z, deep in ((1.0, HEAD, body.top_z_m[0] - 0.14, 0.34), (-1.0, TAIL, body.top_z_m[3] - 0.24, 0.22)):
        x = way * np.array([half, half - 0.06, half - deep])
        y = _half_width(body, x) + 0.012
        z0, z1 = (z - 0.08, z + 0.07) if way > 0 else (z - 0.12, z + 0.09)
        face = way * (half + 0.012)
        outline = [[face, y[0] * 0.56], [face, y[0] * 0.985], [x[1] + way * 0.008, y[1]], [x[2], y[2] * 0.985]]
        rows = [[[*p, z0 + 0.03 * (k == 3)], [*p, z1 - (0.03 if k == 0 else 0)]] for k, p in enumerate(outline)]
        builder.loft(np.array(rows), lamp, closed=False, caps=False)
        builder.loft(np.array(rows) * [1, -1, 1], lamp, closed=False, caps=False)
        behind = [(p[0] - way * 0.004, p[1] - 0.004) for p in outline]
        back = [[[*p, z0 - 0.02 if way > 0 else z0], [*p, z1 + 0.015]] for p in behind]
        for side in (1.0, -1.0):
            builder.loft(np.array(back) * [1, side, 1], BLACK, closed=False, caps=False)
        w = float(y[0])
        plate = 0.46 if way > 0 else body.top_z_m[3] - 0.42
        panel(builder, face + way * 0.006, 0.26, plate - 0.055, plate + 0.055, PLATE)
        panel(builder, face - way * 0.003, 0.93 * w, 0.27, 0.36, BLACK)
        if way > 0:
            panel(builder, face - 0.002, 0.5 * w, z - 0.09, z + 0.05, BLACK)
            panel(builder, face - 0.002, 0.62 * w, 0.36, 0.50, BLACK)
    mirror = (body.glass_x[3] - 0.5) * body.length_m - 0.28
    y, z = body.width_m / 2 * 0.93, body.top_z_m[1]
    builder.box([mirror, y, z - 0.01], [mirror + 0.1, y + 0.19, z + 0.12], PAINT, mirrored=True)


def panel(builder: SolidBuilder, x_m: float, half_m: float, low_m: float, high_m: float, material: int) -> None:
    """An upright rectangle across, half_m to both sides."""
    builder.polygon([[x_m, -half_m, low_m], [x_m, half_m, low_m], [x_m, half_m, high_m], [x_m, -half_m, high_m]], material)
