"""The two drives of `ros2-loc demo`: one to map, one to localize."""

from __future__ import annotations

from dataclasses import dataclass

from ros2_loc.world.drive import Vehicle, make_drive, street_route
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording
from ros2_loc.world.town import Town

_START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class DemoDrives:
    """A drive on a clear afternoon, and another on a hazy morning that joins the first one's streets elsewhere and keeps further left."""

    mapping: Recording
    localization: Recording


def demo_drives(town: Town) -> DemoDrives:
    """Both drives through a town of the default size (or any with at least 2 x 2 blocks)."""
    first = street_route(town.plan, [(1, 1), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3)], start=0.15, end=0.75)
    second = street_route(town.plan, [(2, 1), (3, 1), (3, 2), (2, 2), (2, 3)], start=0.2, end=0.5)
    mapping = make_drive(first, Vehicle(), _START_NS, seed=town.seed + 1)
    localization = make_drive(second, Vehicle(speed_mps=6.6, lane_m=-1.05), _START_NS + 86_400_000_000_000, seed=town.seed + 2)
    return DemoDrives(
        Recording(town, mapping, Light.afternoon(), image_rate_hz=5 / 3, seed=town.seed + 1),
        Recording(town, localization, Light.morning(), image_rate_hz=4.0, seed=town.seed + 2),
    )
