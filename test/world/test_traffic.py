"""Traffic: the same for the same seed, in its lanes, through nobody and no house, with room for the own car."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ros2_loc.errors import ConfigError
from ros2_loc.world.demo import demo_drives, demo_town
from ros2_loc.world.layout import overlap
from ros2_loc.world.movers import PlacedMover, parked_cars
from ros2_loc.world.recording import Recording
from ros2_loc.world.routes import district_drives
from ros2_loc.world.town import Town
from ros2_loc.world.traffic import Traffic


@pytest.fixture(scope="module")
def ride(district: Town) -> Recording:
    return district_drives(district, 2, 80.0, image_step_m=8.0)[0]


@pytest.fixture(scope="module")
def traffic(district: Town, ride: Recording) -> Traffic:
    return Traffic.generate(district, 3, density=1.5, drive=ride.drive)


def _ring(mover: PlacedMover, less_m: float = 0.0) -> np.ndarray:
    """(4, 2) its outline on the ground."""
    length, width, _ = mover.size_m
    if mover.label in ("person", "cyclist"):
        length, width = min(length, 1.7), 0.45
        length = 0.45 if mover.label == "person" else length
    corners = np.array([[-length, -width], [length, -width], [length, width], [-length, width]]) / 2 * (1 - less_m)
    return mover.map_from_mover.apply(np.column_stack([corners, np.zeros(4)]))[:, :2]


def _distance(at: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    share = np.clip((at - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return float(np.linalg.norm(a + share * (b - a) - at))


def _stamps(traffic: Traffic, count: int) -> list[int]:
    return [traffic.start_ns + (traffic.end_ns - traffic.start_ns) * k // (count - 1) for k in range(count)]


def test_nobody_touches_anybody_nor_the_own_car(traffic: Traffic, ride: Recording, district: Town) -> None:
    still = parked_cars(district)
    for stamp in _stamps(traffic, 7):
        movers = traffic.at(stamp)
        ego = PlacedMover(10**6, "car", ride.drive.at(stamp))
        everybody = [*movers, ego, *still]
        rings = [_ring(mover) for mover in everybody]
        middles = np.array([ring.mean(axis=0) for ring in rings])
        for k in range(len(movers) + 1):
            near = np.flatnonzero(np.linalg.norm(middles - middles[k], axis=1) < 7.0)
            touched = [everybody[j].label for j in near if j > k and overlap(rings[k], rings[j])]
            assert not touched, (everybody[k].label, touched, stamp)


def test_nobody_walks_through_a_house(traffic: Traffic, district: Town) -> None:
    lots = [house.lot.corners.astype(np.float32) for house in district.houses]
    for stamp in _stamps(traffic, 7):
        for mover in traffic.at(stamp):
            x, y = mover.map_from_mover.translation[:2].tolist()
            assert all(cv2.pointPolygonTest(lot, (x, y), False) < 0 for lot in lots)


def test_wheels_keep_to_the_right_and_feet_to_the_sidewalk(traffic: Traffic, district: Town) -> None:
    assert district.plan.network
    network, aside, on_foot = district.plan.network, [], []
    for stamp in _stamps(traffic, 5):
        for mover in traffic.at(stamp):
            at, forward = mover.map_from_mover.translation, mover.map_from_mover.rotation[:2, 0]
            if mover.label == "person":
                on_foot.append(at[:2])
                continue
            for street in network.streets:
                a, b = network.ends(street)
                along = (b - a) / np.linalg.norm(b - a)
                s, left = (at[:2] - a) @ along, along[0] * (at[1] - a[1]) - along[1] * (at[0] - a[0])
                if 12 < s < np.linalg.norm(b - a) - 12 and abs(left) < street.width_m / 2 and abs(forward @ along) > 0.98:
                    aside.append(left * np.sign(forward @ along) < 0)
    assert len(aside) > 20 and np.mean(aside) > 0.98
    ends = [network.ends(street) for street in network.streets]
    on_the_street = [any(_distance(at, *line) < s.width_m / 2 for line, s in zip(ends, network.streets, strict=True)) for at in on_foot]
    assert len(on_foot) > 20 and 0 < np.mean(on_the_street) < 0.25  # some cross


def test_movers_go_on_smoothly_and_keep_their_numbers(traffic: Traffic) -> None:
    step = 100_000_000
    for stamp in range(traffic.start_ns, traffic.end_ns - step, 1_700_000_000):
        before, after = traffic.at(stamp), traffic.at(stamp + step)
        assert [m.id for m in before] == [m.id for m in after]
        moved = [np.linalg.norm(a.map_from_mover.translation - b.map_from_mover.translation) for a, b in zip(before, after, strict=True)]
        assert max(moved) < 0.1 * 12.5 and np.mean([m > 0.02 for m in moved]) > 0.4


def test_the_same_seed_is_the_same_traffic(district: Town) -> None:
    one, same, other = (Traffic.generate(district, seed, density=0.3, duration_s=3.0) for seed in (1, 1, 2))
    assert len(one.tracks) == len(same.tracks) and {track.label for track in one.tracks} >= {"person", "car"}
    for a, b in zip(one.at(1_500_000_000), same.at(1_500_000_000), strict=True):
        assert a.label == b.label and a.look == b.look and np.array_equal(a.map_from_mover.matrix, b.map_from_mover.matrix)
    assert any(a.look != b.look for a, b in zip(one.tracks, other.tracks, strict=False))


def test_a_town_on_a_grid_has_traffic_too(town: Town) -> None:
    assert len(Traffic.generate(town, 0, duration_s=2.0).at(10**9)) > 5


def test_many_meet_the_own_car(traffic: Traffic, ride: Recording) -> None:
    met = 0
    for stamp in ride.stamps_ns[:8].tolist():
        at = ride.drive.at(stamp).inverse().apply(np.array([m.map_from_mover.translation for m in traffic.at(stamp)]))
        met += int(((at[:, 0] > 3) & (at[:, 0] < 40) & (np.abs(at[:, 1]) < 8)).any())
    assert met >= 5


@pytest.mark.parametrize(("values", "said"), [({"density": 0.0}, "positive density"), ({"duration_s": -1.0}, "positive density and dur")])
def test_traffic_that_can_not_be(district: Town, values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Traffic.generate(district, 0, **values)


def test_times_outside_are_refused(traffic: Traffic) -> None:
    with pytest.raises(ConfigError, match="outside of the traffic's span"):
        traffic.at(traffic.end_ns + 1)


@pytest.mark.slow
def test_the_demos_drives_amid_traffic() -> None:
    town = demo_town(0)
    alone, amid = demo_drives(town), demo_drives(town, density=1.0)
    assert alone.mapping.traffic is None and amid.mapping.traffic and amid.localization.traffic
    assert np.array_equal(alone.localization.stamps_ns, amid.localization.stamps_ns)
    assert sum(thing.moving for i in range(0, len(amid.localization.stamps_ns), 15) for thing in amid.localization.view(i).seen) > 5
