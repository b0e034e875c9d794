"""Random drives: along streets, turning but not turning back, all over the district; the camera that looks for its place from above."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.errors import ConfigError
from ros2_loc.world.drive import make_drive
from ros2_loc.world.layout import TownSize
from ros2_loc.world.recording import Recording
from ros2_loc.world.routes import cross_view_camera, cross_view_mounting, district_drives, random_route
from ros2_loc.world.town import Town


def _on_block(town: Town, points: np.ndarray) -> np.ndarray:
    on = np.zeros(len(points), bool)
    for block in town.plan.blocks:
        edges = np.roll(block.kerb, -1, axis=0) - block.kerb
        offsets = points[:, None] - block.kerb
        on |= (edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0] > 0).all(axis=1)
    return on


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_drives_stay_on_streets_and_inside(seed: int, shared_district: Town) -> None:
    (ride,) = district_drives(shared_district, seed, 200.0)
    places = np.array([p.translation[:2] for p in ride.drive.map_from_base[::10]])
    assert not _on_block(shared_district, places).any()
    assert abs(places).max() < shared_district.bounds_m[2]
    assert 170 < ride.drive.length_m < 205
    assert shared_district.land
    cars = np.array([stall[:2] for stall in shared_district.land.stalls])
    assert np.linalg.norm(cars[:, None] - places[None], axis=2).min() > 1.85  # between their middles: they don't touch


@pytest.fixture(scope="module")
def shared_district(district: Town) -> Town:
    return district


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), length_m=st.floats(30.0, 3000.0))
def test_routes_have_their_length_and_never_turn_back(seed: int, length_m: float, shared_district: Town) -> None:
    assert shared_district.plan.network
    route = random_route(shared_district.plan.network.within(100.0), length_m, np.random.default_rng(seed))
    legs = np.diff(route, axis=0)
    length = np.linalg.norm(legs, axis=1)
    assert length.sum() == pytest.approx(length_m, rel=1e-6)
    long = length > 1e-6
    cosine = (legs[long][1:] * legs[long][:-1]).sum(axis=1) / (length[long][1:] * length[long][:-1])
    assert cosine.min(initial=1.0) > -0.9


def test_a_long_route_sees_most_streets() -> None:
    town = Town.generate(3, TownSize.district(400.0))
    assert town.plan.network
    network = town.plan.network.within(200.0)
    route = random_route(network, 6000.0, np.random.default_rng(0))
    nodes = {tuple(np.round(p, 6)) for p in route}
    assert sum(tuple(np.round(network.nodes[n], 6)) in nodes for n in network.used) > 0.9 * len(network.used)


def test_drives_are_reproducible_and_differ(district: Town) -> None:
    one, two = district_drives(district, 7, 60.0, count=2)
    (again,) = district_drives(district, 7, 60.0)
    np.testing.assert_array_equal(one.view(1).rgb, again.view(1).rgb)
    assert np.linalg.norm(one.drive.map_from_base[0].translation - two.drive.map_from_base[0].translation) > 1
    assert two.stamps_ns[0] > one.stamps_ns[-1]


def test_images_by_distance_have_odometry(ride: Recording) -> None:
    sequence = ride.sequence()
    places = np.array([pose.translation for pose in sequence.map_from_base if pose])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert len(sequence) > 20 and steps.min() > 7.0 and steps.max() < 10.6  # chords of bends are shorter
    assert all(pose is not None for pose in sequence.odom_from_base)
    assert ride.view(0).rgb.shape == (64, 256, 3)


def test_stamps_by_distance(ride: Recording) -> None:
    stamps = ride.drive.stamps_every(2.0)
    places = np.array([ride.drive.at(int(s)).translation[:2] for s in stamps])
    np.testing.assert_allclose(np.linalg.norm(np.diff(places, axis=0), axis=1), 2.0, atol=0.12)
    with pytest.raises(ConfigError, match="metres between"):
        ride.drive.stamps_every(0.0)


@pytest.mark.parametrize(("width", "height"), [(256, 64), (512, 128), (1024, 256)])
def test_the_camera_sees_the_ground_from_3_m_on(width: int, height: int) -> None:
    camera, base_from_camera = cross_view_camera(width, height), cross_view_mounting()
    edge = camera.unproject(np.array([[width / 2, height], [0.0, height / 2], [width, height / 2], [width / 2, 0.0]]))
    rays = np.column_stack([edge, np.ones(4)]) @ base_from_camera.rotation.T
    height_m = base_from_camera.translation[2]
    assert height_m == pytest.approx(1.65)
    assert -height_m / rays[0, 2] * rays[0, 0] == pytest.approx(3.0, abs=0.1)
    across = np.degrees(np.arctan2(rays[1:3, 1], rays[1:3, 0]))
    assert across[0] - across[1] == pytest.approx(90.0, abs=1.0)
    assert 8 < np.degrees(np.arctan2(rays[3, 2], rays[3, 0])) < 15


def test_a_plain_town_has_no_random_drives(town: Town) -> None:
    with pytest.raises(ConfigError, match=r"TownSize\.district"):
        district_drives(town, 0)


def test_long_drives_are_smooth(district: Town) -> None:
    assert district.plan.network
    drive = make_drive(random_route(district.plan.network.within(100.0), 400.0, np.random.default_rng(3)), seed=1)
    yaw = np.unwrap([pose.yaw_rad for pose in drive.map_from_base])
    assert abs(np.diff(yaw)).max() / 0.01 < 1.3
