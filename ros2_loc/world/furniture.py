"""Where the small things stand: trees, lamps, signs, hedges, parked cars. Drawn from the plan, before anything is painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.layout import SIDEWALK_M, Frontage, Lot, Plan

Array = NDArray[np.float64]
Placed = tuple[Array, Array]  # where (2,) m, and the unit vector (2,) that it faces


@dataclass(frozen=True, slots=True, eq=False)
class Furniture:
    """Map frame, metres.

    Attributes:
        trees: (x, y, height) each.
        lamps, signs, cars: place and direction.
        hedges: both ends.
    """

    trees: tuple[Array, ...]
    lamps: tuple[Placed, ...]
    signs: tuple[Placed, ...]
    cars: tuple[Placed, ...]
    hedges: tuple[tuple[Array, Array], ...]


def place_furniture(plan: Plan, parks: Sequence[Lot], rng: np.random.Generator) -> Furniture:
    """Trees, lamps and signs along the kerbs; hedges and cars between houses; parks and back gardens full of trees."""
    trees: list[Array] = []
    lamps: list[Placed] = []
    signs: list[Placed] = []
    cars: list[Placed] = []
    hedges: list[tuple[Array, Array]] = []
    for frontage in (f for block in plan.blocks for f in block.frontages):
        _line_kerb(frontage, trees, lamps, signs, rng)
        _fill_gaps(frontage, plan.lots, hedges, cars, rng)
    for lot in parks:
        corners, gate = lot.corners, lot.along * 1.2
        hedges += [(corners[0], lot.front - gate), (lot.front + gate, corners[1])]
        for a, d in ((-0.3, 0.45), (0.25, 0.7), (0.3, 0.25)):
            trees.append(lot.front + lot.along * a * lot.width_m + lot.inward * d * lot.depth_m + rng.uniform(-0.8, 0.8, 2))
    for lot in plan.lots:
        spot = lot.front + lot.inward * (lot.depth_m + rng.uniform(2.0, 4.0)) + lot.along * rng.uniform(-3, 3)
        if rng.random() < 0.5 and _is_free(spot, plan.lots, 1.5):
            trees.append(spot)
    grown = tuple(np.append(spot, rng.uniform(4.5, 8.5)) for spot in trees)
    return Furniture(grown, tuple(lamps), tuple(signs), tuple(cars), tuple(hedges))


def _line_kerb(frontage: Frontage, trees: list[Array], lamps: list[Placed], signs: list[Placed], rng: np.random.Generator) -> None:
    length, along = _span(frontage)
    kerbside = frontage.start - frontage.inward * (SIDEWALK_M - 0.45)
    signs.append((kerbside + along * 2.0, along))
    for s in np.arange(rng.uniform(4, 8), length - 3, 6.5):
        draw = rng.random()
        if draw < 0.28:
            trees.append(kerbside + along * s)
        elif draw < 0.55:
            lamps.append((kerbside + along * s, -frontage.inward))


def _fill_gaps(
    frontage: Frontage, lots: Sequence[Lot], hedges: list[tuple[Array, Array]], cars: list[Placed], rng: np.random.Generator
) -> None:
    length, along = _span(frontage)
    for s in np.arange(1.0, length - 3.0, 3.0):
        a = frontage.start + along * s + frontage.inward * 0.3
        b = a + along * 2.6
        if not _is_free((a + b) / 2, lots, 1.6):
            continue
        hedges.append((a, b))
        spot = (a + b) / 2 + frontage.inward * 3.4
        if rng.random() < 0.6 and _is_free(spot, lots, 2.3):
            cars.append((spot, frontage.inward * rng.choice([-1.0, 1.0])))


def _span(frontage: Frontage) -> tuple[float, Array]:
    span = frontage.end - frontage.start
    length = float(np.linalg.norm(span))
    return length, span / length


def _is_free(spot: Array, lots: Sequence[Lot], margin_m: float) -> bool:
    for lot in lots:
        across, deep = (spot - lot.front) @ lot.along, (spot - lot.front) @ lot.inward
        if abs(across) < lot.width_m / 2 + margin_m and -margin_m < deep < lot.depth_m + margin_m:
            return False
    return True
