"""What a house looks like: drawn by lot from the town's generator, read by the painter of façades and by the builder of walls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ros2_loc.world.canvas import Rgb
from ros2_loc.world.layout import Lot

Wall = Literal["plaster", "brick", "timber", "stone"]
Roof = Literal["front_gable", "side_gable", "hip", "flat"]

PLASTERS: tuple[Rgb, ...] = (
    (226, 205, 165), (214, 180, 150), (232, 226, 214), (196, 206, 190), (186, 200, 214), (222, 190, 120), (206, 150, 128), (240, 234, 220),
    (178, 168, 190), (208, 214, 186), (228, 176, 160), (170, 186, 176),
)  # fmt: skip
BRICKS: tuple[Rgb, ...] = ((150, 78, 60), (168, 98, 72), (128, 70, 62), (186, 140, 104))
FRAMES: tuple[Rgb, ...] = ((242, 242, 238), (92, 62, 44), (52, 74, 66), (60, 64, 74), (226, 214, 190))
ACCENTS: tuple[Rgb, ...] = (
    (40, 92, 64), (150, 40, 36), (34, 66, 120), (118, 78, 46), (76, 76, 82), (196, 140, 40), (60, 110, 120), (110, 50, 90),
)  # fmt: skip
SHOPS = (
    "BAKERY", "CAFE LUNA", "BOOKS", "PHARMACY", "FLOWERS", "BICYCLES", "MUSIC", "TAILOR", "GROCER", "HOTEL ROSE", "CINEMA", "BARBER",
    "TOYS", "FISH & CO", "PIZZERIA", "OPTICS", "SHOES", "TEA HOUSE", "GALLERY", "HARDWARE", "POST", "WINE BAR", "KIOSK", "LIBRARY",
)  # fmt: skip
GABLE_SLOPE = 0.85


@dataclass(frozen=True, slots=True)
class House:
    """A house on its lot.

    Attributes:
        wall, roof: construction.
        color, frame, accent: wall, window frames, doors and shutters.
        floors: storeys; ground_m and floor_m are the heights of the lowest and of the others.
        bays: windows per storey of the front.
        window_m: width and height of a window.
        shutters, arched, bands: details of the front.
        shop: what the sign over the windows says, or "".
        pattern: number of the painted walls that it shares with others, in a district.
        tiles: number of its roof's colour; drawn when it is built where it is None.
    """

    lot: Lot
    wall: Wall
    roof: Roof
    color: Rgb
    frame: Rgb
    accent: Rgb
    floors: int
    ground_m: float
    floor_m: float
    bays: int
    window_m: tuple[float, float]
    shutters: bool
    arched: bool
    bands: bool
    shop: str
    pattern: int | None = None
    tiles: int | None = None

    @property
    def eaves_m(self) -> float:
        """Height of the walls."""
        return self.ground_m + (self.floors - 1) * self.floor_m + 0.35

    @property
    def ridge_m(self) -> float:
        """Height of the roof's ridge."""
        span = self.lot.width_m if self.roof == "front_gable" else self.lot.depth_m
        return self.eaves_m + (0.0 if self.roof == "flat" else GABLE_SLOPE * span / 2)


def make_house(lot: Lot, shop: str, rng: np.random.Generator) -> House:
    """A house for a lot, of random style."""
    wall: Wall = rng.choice(np.array(["plaster", "brick", "timber", "stone"]), p=[0.5, 0.25, 0.15, 0.1]).item()
    roof: Roof = rng.choice(np.array(["front_gable", "side_gable", "hip", "flat"]), p=[0.3, 0.4, 0.2, 0.1]).item()
    palette = {"plaster": PLASTERS, "brick": BRICKS, "timber": PLASTERS[2:9:5], "stone": ((172, 164, 150), (150, 150, 148))}[wall]
    shift = rng.normal(0, 6, 3)
    color = tuple(int(c) for c in np.clip(np.array(palette[rng.integers(len(palette))]) + shift, 40, 245))
    bays = max(2, round(lot.width_m / rng.uniform(2.3, 3.3)))
    return House(
        lot=lot,
        wall=wall,
        roof=roof,
        color=color,  # type: ignore[arg-type]
        frame=FRAMES[rng.integers(len(FRAMES))],
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        floors=int(rng.choice([2, 3, 4], p=[0.45, 0.45, 0.1])) if lot.core else int(rng.choice([1, 2, 3], p=[0.2, 0.6, 0.2])),
        ground_m=float(rng.uniform(3.1, 3.7)),
        floor_m=float(rng.uniform(2.7, 3.1)),
        bays=bays,
        window_m=(float(rng.uniform(0.95, 1.35)), float(rng.uniform(1.35, 1.75))),
        shutters=bool(rng.random() < 0.4),
        arched=bool(rng.random() < 0.2),
        bands=bool(rng.random() < 0.5),
        shop=shop,
    )
