"""Shapes of trucks and vans. x forward, y left, z up from the ground below the middle, metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ros2_loc.world.cars import panel, wheel
from ros2_loc.world.materials import BLACK, GLASS, HEAD, PAINT, PLATE, SECOND, TAIL
from ros2_loc.world.solids import Solid, SolidBuilder, moved


@dataclass(frozen=True, slots=True)
class Hauler:
    """A truck's or a van's proportions.

    Attributes:
        length_m, width_m, height_m: of the whole.
        cab_m, cab_height_m: of its cab; nose_m: how far the hood stands out before the windscreen.
        wheel_m: radius; axles: where they are, shares of the length from the middle forward.
    """

    length_m: float
    width_m: float
    height_m: float
    cab_m: float
    cab_height_m: float
    wheel_m: float
    nose_m: float
    axles: tuple[float, ...]


HAULERS: tuple[Hauler, ...] = (
    Hauler(7.2, 2.35, 3.1, 1.9, 2.5, 0.45, 0.10, (-0.30, 0.36)),  # box truck
    Hauler(8.6, 2.5, 3.5, 2.1, 2.9, 0.5, 0.05, (-0.33, -0.19, 0.38)),  # larger box truck
    Hauler(5.9, 2.05, 2.55, 2.5, 2.5, 0.36, 0.75, (-0.27, 0.30)),  # transporter
    Hauler(6.6, 2.2, 2.1, 1.9, 2.4, 0.42, 0.15, (-0.28, 0.34)),  # tipper
)


@lru_cache(maxsize=2 * len(HAULERS))
def truck(number: int, fine: bool = True) -> Solid:
    """One of `HAULERS`; not `fine`: as it needs to be from afar."""
    hauler, builder = HAULERS[number], SolidBuilder()
    half, w = hauler.length_m / 2, hauler.width_m / 2
    start = half - hauler.cab_m
    _cab(builder, hauler, start)
    floor = 0.55 if hauler.wheel_m < 0.4 else 0.95
    is_van = hauler.nose_m > 0.5
    low = 0.3 if is_van else floor
    builder.box([-half, -w, low], [start - (0.0 if is_van else 0.12), w, hauler.height_m], PAINT if is_van else SECOND)
    if not is_van:
        builder.box([-half + 0.1, -w * 0.5, 0.5], [half - 0.6, w * 0.5, floor], BLACK)
        builder.box([-half + 1.9, w * 0.86, 0.5], [start - 0.6, w * 0.9, 0.85], BLACK, mirrored=True)
    panel(builder, -half - 0.006, 0.012, low + 0.1, hauler.height_m - 0.1, BLACK)
    back = -half - 0.01
    z = 1.0 if is_van else 0.75
    for way in (1, -1):
        inner, outer = way * w * 0.80, way * w * 0.97
        builder.polygon([[back, inner, z - 0.13], [back, outer, z - 0.13], [back, outer, z + 0.13], [back, inner, z + 0.13]], TAIL)
    builder.box([-half - 0.02, -w * 0.98, 0.42], [-half + 0.1, w * 0.98, 0.58], BLACK)
    panel(builder, -half - 0.025, 0.26, 0.62, 0.73, PLATE)
    for axle in hauler.axles:
        wheel(builder, axle * hauler.length_m, w, hauler.wheel_m, 0.28, fine)
    return builder.build()


def _cab(builder: SolidBuilder, hauler: Hauler, start_m: float) -> None:
    """From start_m to the nose: doors, windscreen, lamps."""
    half, w, top = hauler.length_m / 2, hauler.width_m / 2 * 0.97, hauler.cab_height_m
    belt = 0.56 * top if hauler.nose_m < 0.5 else 0.5 * top
    nose = hauler.nose_m
    outline = [(half, 0.35), (half, belt * 0.82), (half - 0.06 - 0.9 * nose, belt)]
    outline += [(half - 0.22 - nose * 1.35, top - 0.1), (half - 0.42 - nose * 1.4, top)]
    profile = np.array([(start_m, 0.35), *outline, (start_m, top)])
    for y in (w, -w):
        builder.polygon(np.insert(profile, 1, y, axis=1), PAINT)
    across = np.stack([np.insert(profile, 1, y, axis=1) for y in (w, w * 0.6, -w * 0.6, -w)], axis=1)
    builder.loft(across, PAINT, closed=False, caps=False)
    a, b = (np.array([outline[k][0], 0.0, outline[k][1]]) for k in (2, 3))
    out = np.array([b[2] - a[2], 0, a[0] - b[0]])
    out *= 0.012 / np.linalg.norm(out)
    p, q = a + (b - a) * 0.07 + out, a + (b - a) * 0.93 + out
    wide = w - 0.08
    builder.polygon([moved(p, 0, wide, 0), p - [0, wide, 0], q - [0, wide, 0], moved(q, 0, wide, 0)], GLASS)
    y = w + 0.01
    foot = max(start_m + 0.25, half - 1.5 - nose)
    low, high = belt + 0.05, top - 0.28
    builder.polygon([[foot, y, low], [a[0] - 0.18, y, low], [b[0] - 0.14, y, high], [foot, y, high]], GLASS, mirrored=True)
    face = half + 0.012
    for way in (1, -1):
        lamp = [[face, way * w * 0.66, 0.62], [face, way * w * 0.95, 0.62], [face, way * w * 0.95, 0.84], [face, way * w * 0.66, 0.84]]
        builder.polygon(lamp, HEAD)
    panel(builder, face, w * 0.58, 0.62, belt * 0.8 - 0.05, BLACK)
    panel(builder, face, w * 0.97, 0.35, 0.52, BLACK)
    panel(builder, face + 0.01, 0.26, 0.40, 0.51, PLATE)
    builder.box([a[0] - 0.2, w, belt + 0.1], [a[0] - 0.08, w + 0.22, belt + 0.5], BLACK, mirrored=True)
