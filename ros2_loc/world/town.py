"""The town itself: what stands where, generated from one number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.world.furniture import Furniture, place_furniture
from ros2_loc.world.house import SHOPS, House, make_house
from ros2_loc.world.land import Land
from ros2_loc.world.layout import Lot, Plan, TownSize, make_plan
from ros2_loc.world.settlement import furnish, settle

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
        land: of a district: its ground and the places where cars may stand.
        day: in a district, which cars stand where and how far the leaves have turned.
    """

    seed: int
    plan: Plan
    houses: tuple[House, ...]
    furniture: Furniture
    origin: GeoOrigin
    land: Land | None = None
    day: int = 0

    @staticmethod
    def generate(seed: int = 0, size: TownSize | None = None) -> Town:
        """A town; the same seed and size give the same one, bit by bit. Takes milliseconds (a district a second), nothing is painted."""
        if size and size.variety:
            return _district(seed, size)
        rng = np.random.default_rng([seed, 20])
        plan = make_plan(size or TownSize(), rng)
        is_park = rng.random(len(plan.lots)) < _PARK_SHARE
        parks = [lot for lot, park in zip(plan.lots, is_park, strict=True) if park]
        houses = _houses([lot for lot, park in zip(plan.lots, is_park, strict=True) if not park], rng)
        return Town(seed, plan, houses, place_furniture(plan, parks, rng), ORIGIN)

    def on_day(self, day: int) -> Town:
        """The same place on another day: a district's parked cars stand elsewhere, its leaves have another tint; other towns stay."""
        if self.land is None or day == self.day:
            return self
        return replace(self, furniture=furnish(self.land, self.seed, day), day=day)

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """East, north of the south-west corner; east, north of the north-east corner."""
        return self.plan.bounds_m


@lru_cache(maxsize=4)
def _district(seed: int, size: TownSize) -> Town:
    plan, land = settle(size, np.random.default_rng([seed, 20]))
    return Town(seed, plan, tuple(land.houses), furnish(land, seed, 0), ORIGIN, land)


def _houses(lots: list[Lot], rng: np.random.Generator) -> tuple[House, ...]:
    names = np.tile(rng.permutation(SHOPS), 1 + len(lots) // len(SHOPS))
    has_shop = rng.random(len(lots)) < _SHOP_SHARE
    return tuple(
        make_house(lot, str(name) if lot.core and shop else "", rng)
        for lot, name, shop in zip(lots, names[: len(lots)], has_shop, strict=True)
    )
