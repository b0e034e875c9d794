"""Random drives through a district, and the camera that looks for its place from above."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.world.drive import Vehicle, make_drive
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording
from ros2_loc.world.streets import StreetNetwork
from ros2_loc.world.town import Town

Array = NDArray[np.float64]

_START_NS = 1_700_000_000_000_000_000
_LANE_M = (-1.8, -1.4)


def cross_view_camera(width: int = 256, height: int = 64) -> Camera:
    """A pinhole camera 90 degrees across and 40 degrees high, 14 of them above its axis: pixels are less high than wide, as of a picture
    that was resized. In `cross_view_mounting` its lower edge sees the ground 3 m ahead."""
    return Camera.pinhole(width, height, width / 2, 1.36 * height, width / 2, 0.34 * height)


def cross_view_mounting() -> Pose:
    """base_from_camera: 1.65 m above the ground, 1 m ahead of base_link, looking 3 degrees down."""
    return Pose(so3_exp([0.0, np.deg2rad(3.0), 0.0]) @ BODY_FROM_OPTICAL, np.array([1.0, 0.0, 1.65]))


def random_route(network: StreetNetwork, length_m: float, rng: np.random.Generator) -> Array:
    """(K, 2) m: a way of length_m along streets, from anywhere on one; no turning back, and streets not yet driven come first."""
    street = network.streets[int(rng.integers(len(network.streets)))]
    last, node = (street.start, street.end) if rng.random() < 0.5 else (street.end, street.start)
    span = network.nodes[node] - network.nodes[last]
    points = [network.nodes[last] + span * rng.uniform(0.0, 0.8), network.nodes[node]]
    driven = Counter({frozenset((last, node)): 1})
    total = float(np.linalg.norm(points[1] - points[0]))
    while total < length_m:
        ways = [n for n in network.neighbours(node) if n != last]
        weight = np.array([4.0 ** -driven[frozenset((node, n))] for n in ways])
        last, node = node, ways[int(rng.choice(len(ways), p=weight / weight.sum()))]
        driven[frozenset((last, node))] += 1
        points.append(network.nodes[node])
        total += float(np.linalg.norm(points[-1] - points[-2]))
    leg = points[-1] - points[-2]
    points[-1] = points[-1] - leg * (total - length_m) / np.linalg.norm(leg)
    return np.array(points)


def district_drives(
    town: Town,
    seed: int,
    length_m: float = 1000.0,
    speed_mps: float = 8.0,
    *,
    count: int = 1,
    light: Light | None = None,
    camera: Camera | None = None,
    image_step_m: float | None = 2.0,
) -> tuple[Recording, ...]:
    """Drives along random routes through a district, each a day after the other.

    Args:
        town: of a size with variety.
        seed: of routes, lanes and noise.
        length_m: of each route.
        speed_mps: on straights.
        count: how many.
        light: a clear afternoon by default.
        camera: `cross_view_camera` by default; it sits in `cross_view_mounting`.
        image_step_m: metres driven between images; None takes them by time, 5 per second.

    Raises:
        ConfigError: a town that is no district.
    """
    if town.plan.network is None:
        raise ConfigError("random routes need a district: make the town with TownSize.district()")
    network = town.plan.network.within(float(town.plan.size.extent_m[0]) / 2)
    if not network.streets:
        raise ConfigError(f"no two streets of the district form a loop within {town.plan.size.extent_m[0]} m: make it larger")
    recordings = []
    for k in range(count):
        rng = np.random.default_rng([town.seed, seed, k, 41])
        route = random_route(network, length_m, rng)
        vehicle = Vehicle(speed_mps=speed_mps, lane_m=float(rng.uniform(*_LANE_M)))
        number = seed * 1000 + k
        drive = make_drive(route, vehicle, _START_NS + k * 86_400_000_000_000, seed=number)
        recordings.append(
            Recording(
                town, drive, light or Light.afternoon(), camera or cross_view_camera(), cross_view_mounting(),
                image_step_m=image_step_m, seed=number,
            )
        )  # fmt: skip
    return tuple(recordings)
