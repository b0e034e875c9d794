"""The drives of the demo: the same streets, then others, then the same again; neither lane nor light is the same."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.errors import ConfigError
from ros2_loc.evaluation.stretches import off_the_map
from ros2_loc.io.trajectories import Trajectory
from ros2_loc.world.demo import demo_drives, demo_town, plan_ways
from ros2_loc.world.domains import night
from ros2_loc.world.layout import TownSize
from ros2_loc.world.streets import Street, StreetNetwork
from ros2_loc.world.town import Town

SEEDS = (1, 0, 4)


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_the_second_drive_leaves_the_first_one_and_is_back(seed: int) -> None:
    drives = demo_drives(demo_town(seed))
    first, second = drives.mapping, drives.localization
    assert 40 <= len(first.stamps_ns) <= 100 and 130 <= len(second.stamps_ns) <= 190
    places = [first.drive.at(int(stamp)) for stamp in first.stamps_ns]
    truth = Trajectory(second.drive.stamps_ns[::10], second.drive.map_from_base[::10])
    ((leaves_ns, back_ns),) = off_the_map(truth, places).tolist()
    at_m = np.array([pose.translation[:2] for pose in truth.poses])
    driven_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(at_m, axis=0), axis=1))])
    leaves_m, back_m = (float(driven_m[np.searchsorted(truth.stamps_ns, ns)]) for ns in (leaves_ns, back_ns))
    assert leaves_m == pytest.approx(drives.around_m[0], abs=25.0) and back_m == pytest.approx(drives.around_m[1], abs=25.0)
    assert leaves_m > 80.0 and back_m - leaves_m > 100.0 and driven_m[-1] - back_m > 40.0


def test_on_the_same_streets_lane_and_light_differ() -> None:
    drives = demo_drives(demo_town(1))
    mapped_m = np.array([p.translation[:2] for p in drives.mapping.drive.map_from_base])
    begin_m = np.array([p.translation[:2] for p in drives.localization.drive.map_from_base[:800:50]])
    apart_m = np.linalg.norm(mapped_m[None] - begin_m[:, None], axis=2).min(axis=1)
    assert 0.3 < np.median(apart_m) < 1.2 and apart_m.max() < 2.0
    assert drives.mapping.light != drives.localization.light
    assert drives.localization.stamps_ns[0] > drives.mapping.stamps_ns[-1]


def test_ways_keep_to_streets_and_turn_back_nowhere() -> None:
    for seed in SEEDS:
        town = demo_town(seed)
        assert town.plan.network is not None
        network = town.plan.network.within(150.0)
        ways = plan_ways(network)
        assert not set(ways.around[1:-1]) & set(ways.first)
        for nodes in (ways.first, ways.second):
            assert all(b in network.neighbours(a) for a, b in zip(nodes[:-1], nodes[1:], strict=True))
            assert len(set(nodes)) == len(nodes)


def test_streets_without_a_way_around_are_refused() -> None:
    nodes = np.array([[60.0 * k, 0.0] for k in range(7)])
    streets = tuple(Street(k, k + 1, 8.0, 2.0, "asphalt", "none", (False, False), 0.0) for k in range(6))
    with pytest.raises(ConfigError, match="no way around; choose another seed"):
        plan_ways(StreetNetwork(nodes, streets))
    with pytest.raises(ConfigError, match="need a district"):
        demo_drives(Town.generate(1, TownSize.small()))


def test_the_second_drive_takes_place_in_any_domain() -> None:
    town = demo_town(1)
    morning, dark = demo_drives(town), demo_drives(town, "night")
    assert dark.localization.light == night() and dark.mapping.light == morning.mapping.light
    np.testing.assert_array_equal(dark.localization.stamps_ns, morning.localization.stamps_ns)
    with pytest.raises(ConfigError, match="no domain 'dark'"):
        demo_drives(town, "dark")
