"""Quarters of a district: each has its houses, its roofs and its mix of what the blocks hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.canvas import Rgb
from ros2_loc.world.house import BRICKS, PLASTERS, SHOPS, House, Roof, Wall, make_house
from ros2_loc.world.layout import Lot

Array = NDArray[np.float64]

BAY_M = 2.9  # windows of shared façades stand this far apart, and lots are whole numbers of them wide
USES = ("row", "detached", "slabs", "hall", "park", "square", "parking", "pitch", "open", "allotments", "church")
_CENTRAL = (0.44, 0.08, 0.08, 0.08, 0.07, 0.08, 0.07, 0.01, 0.04, 0.0, 0.05)
_MIXED = (0.24, 0.24, 0.13, 0.08, 0.08, 0.03, 0.05, 0.05, 0.05, 0.03, 0.02)
_LEAFY = (0.07, 0.46, 0.08, 0.03, 0.10, 0.01, 0.03, 0.06, 0.08, 0.06, 0.02)
_STONES: tuple[Rgb, ...] = ((172, 164, 150), (150, 150, 148), (188, 170, 140))


@dataclass(frozen=True, slots=True, eq=False)
class Quarter:
    """Map frame, metres.

    Attributes:
        centre: (2,); a block belongs to the quarter whose centre is nearest.
        patterns: houses whose painted walls the quarter's houses share.
        roofs: forms of roofs with their shares; tiles: colours of tiles to choose from.
        uses: share of each of USES.
        yard: what backyards are made of.
    """

    centre: Array
    patterns: tuple[House, ...]
    roofs: dict[Roof, float]
    tiles: tuple[int, ...]
    uses: tuple[float, ...]
    yard: str


def make_quarters(count: int, patterns: int, half_m: float, rng: np.random.Generator) -> tuple[Quarter, ...]:
    """Quarters at random places of the square; the nearer to its middle, the more urban."""
    quarters = []
    for number in range(count):
        centre = rng.uniform(-half_m, half_m, 2)
        share = np.abs(centre).max() / half_m + rng.normal(0, 0.15)
        uses = _CENTRAL if share < 0.45 else _MIXED if share < 0.8 else _LEAFY
        floors = (2, 3, 4, 5) if uses is _CENTRAL else (2, 3) if uses is _MIXED else (1, 2)
        houses = tuple(_pattern(number * patterns + k, floors, rng) for k in range(patterns))
        shape = rng.dirichlet([0.8, 1.2, 0.6, 0.5])
        roofs: dict[Roof, float] = dict(zip(("front_gable", "side_gable", "hip", "flat"), shape.tolist(), strict=True))
        tiles = tuple(int(t) for t in rng.choice(8, 2, replace=False))
        yard = str(rng.choice(["lawn", "dry", "gravel", "concrete", "grass"]))
        quarters.append(Quarter(centre, _of_one_kind(houses, rng), roofs, tiles, uses, yard))
    return tuple(quarters)


def house_on(lot: Lot, quarter: Quarter, rng: np.random.Generator) -> House:
    """A house with the quarter's walls and roofs."""
    pattern = quarter.patterns[int(rng.integers(len(quarter.patterns)))]
    forms: list[Roof] = list(quarter.roofs)
    roof = forms[int(rng.choice(len(forms), p=list(quarter.roofs.values())))]
    tiles = quarter.tiles[int(rng.random() < 0.3)]
    return replace(pattern, lot=lot, roof=roof, tiles=tiles, bays=round(lot.width_m / BAY_M))


def large_house_on(lot: Lot, quarter: Quarter, floors: int, rng: np.random.Generator) -> House:
    """A long or deep house with a flat roof: the quarter's pattern that is nearest in height."""
    pattern = min(quarter.patterns, key=lambda p: abs(p.floors - floors))
    return replace(pattern, lot=lot, floors=floors, roof="flat", tiles=int(rng.integers(6)), bays=round(lot.width_m / BAY_M))


def _pattern(number: int, floors: tuple[int, ...], rng: np.random.Generator) -> House:
    lot = Lot(np.zeros(2), np.array([1.0, 0.0]), 5 * BAY_M, 3 * BAY_M, True)
    shop = str(rng.choice(SHOPS)) if rng.random() < 0.3 else ""
    return replace(make_house(lot, shop, rng), floors=floors[number % len(floors)], bays=5, pattern=number)


def _of_one_kind(houses: tuple[House, ...], rng: np.random.Generator) -> tuple[House, ...]:
    """The same walls for most of the houses, in a few colours."""
    wall: Wall = rng.choice(np.array(["plaster", "brick", "timber", "stone"]), p=[0.5, 0.25, 0.1, 0.15]).item()
    palette = {"plaster": PLASTERS, "brick": BRICKS, "timber": PLASTERS[2:9:5], "stone": _STONES}[wall]
    colors = [palette[k] for k in rng.choice(len(palette), min(3, len(palette)), replace=False)]
    return tuple(
        replace(house, wall=wall, color=colors[int(rng.integers(len(colors)))]) if rng.random() < 0.75 else house for house in houses
    )
