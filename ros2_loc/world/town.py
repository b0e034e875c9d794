"""The town itself: what stands where, generated from one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.world.furniture import Furniture, place_furniture
from ros2_loc.world.house import SHOPS, House, make_house
from ros2_loc.world.layout import Lot, Plan, TownSize, make_plan

ORIGIN = GeoOrigin(48.5, 9.05, 340.0)
_PARK_SHARE = 0.1
_SHOP_SHARE = 0.42


@dataclass(frozen=True, slots=True, eq=False)
class Town:
    """A plan with houses and furniture; `scenery` makes its surfaces, `render` takes pictures of them.

    The map frame is ENU with its origin in the middle of the town and z = 0 on the carriageway; sidewalks lie 0.12 m higher.

    Attributes:
        seed: what it was generated from, with plan.size.
        plan: streets, blocks, lots.
        houses: on most of the lots; the others are small parks.
        furniture: trees, lamps, signs, cars, hedges.
        origin: latitude, longitude and altitude of the map's origin.
    """

    seed: int
    plan: Plan
    houses: tuple[House, ...]
    furniture: Furniture
    origin: GeoOrigin

    @staticmethod
    def generate(seed: int = 0, size: TownSize | None = None) -> Town:
        """A town; the same seed and size give the same one, bit by bit. Takes milliseconds: nothing is painted yet."""
        rng = np.random.default_rng([seed, 20])
        plan = make_plan(size or TownSize(), rng)
        is_park = rng.random(len(plan.lots)) < _PARK_SHARE
        parks = [lot for lot, park in zip(plan.lots, is_park, strict=True) if park]
        houses = _houses([lot for lot, park in zip(plan.lots, is_park, strict=True) if not park], rng)
        return Town(seed, plan, houses, place_furniture(plan, parks, rng), ORIGIN)

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """East, north of the south-west corner; east, north of the north-east corner."""
        nodes = self.plan.nodes.reshape(-1, 2)
        (e0, n0), (e1, n1) = nodes.min(axis=0), nodes.max(axis=0)
        return float(e0), float(n0), float(e1), float(n1)


def _houses(lots: list[Lot], rng: np.random.Generator) -> tuple[House, ...]:
    names = np.tile(rng.permutation(SHOPS), 1 + len(lots) // len(SHOPS))
    has_shop = rng.random(len(lots)) < _SHOP_SHARE
    return tuple(
        make_house(lot, str(name) if lot.core and shop else "", rng)
        for lot, name, shop in zip(lots, names[: len(lots)], has_shop, strict=True)
    )
