"""Drives are smooth, keep their lane, and other sensors say what they measured with the uncertainty that they have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from ros2_loc.core.geodesy import enu_from_geodetic
from ros2_loc.core.pose import so3_log
from ros2_loc.errors import ConfigError
from ros2_loc.world.drive import Drive, Vehicle, make_drive, street_route
from ros2_loc.world.layout import STREET_WIDTH_M
from ros2_loc.world.sensors import OdometryNoise, measure_fixes, measure_imu, measure_odometry
from ros2_loc.world.town import ORIGIN, Town


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 1000),
    lane_m=st.floats(-2.2, 2.2),
    speed=st.floats(2.0, 9.0),
    turn=st.sampled_from([[(1, 1), (2, 1), (2, 2)], [(2, 1), (2, 2), (1, 2)], [(0, 1), (1, 1), (2, 1)], [(2, 2), (2, 1), (1, 1)]]),
)
def test_smooth_and_on_the_road(seed: int, lane_m: float, speed: float, turn: list, small_town: Town) -> None:
    route = street_route(small_town.plan, turn)
    drive = make_drive(route, Vehicle(speed_mps=speed, lane_m=lane_m), seed=seed)
    positions = np.array([p.translation for p in drive.map_from_base])
    velocity = np.diff(positions, axis=0) / 0.01
    yaw = np.unwrap([p.yaw_rad for p in drive.map_from_base])
    planar = np.linalg.norm(velocity[:, :2], axis=1)
    assert planar.max() < speed * 1.02
    assert abs(np.diff(planar)).max() / 0.01 < 4.0  # m/s^2, no jumps
    assert abs(np.diff(yaw)).max() / 0.01 < 1.2  # rad/s
    direction = np.arctan2(velocity[:, 1], velocity[:, 0])
    assert abs(np.angle(np.exp(1j * (direction - yaw[1:])))).max() < 0.03  # a car moves where it points
    assert abs(positions[:, 2]).max() < 0.1
    for block in small_town.plan.blocks:  # never on a kerb
        centre = block.kerb.mean(axis=0)
        edges = np.roll(block.kerb, -1, axis=0) - block.kerb
        offsets = positions[::20, None, :2] - block.kerb
        inside = (edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0] > 0).all(axis=1)
        assert not inside.any(), centre


@pytest.fixture(scope="module")
def small_town(town: Town) -> Town:
    return town


@pytest.mark.parametrize("lane_m", [-1.75, 0.0, 1.2])
def test_the_lane_is_kept_on_straights(town: Town, lane_m: float) -> None:
    a, b = town.plan.nodes[1, 1], town.plan.nodes[2, 1]
    drive = make_drive(np.array([a, b]), Vehicle(lane_m=lane_m))
    along = (b - a) / np.linalg.norm(b - a)
    across = (np.array([p.translation[:2] for p in drive.map_from_base]) - a) @ np.array([-along[1], along[0]])
    np.testing.assert_allclose(across, lane_m, atol=0.02)
    assert abs(lane_m) < STREET_WIDTH_M / 2


def test_at_interpolates_and_refuses_other_times(drive: Drive) -> None:
    k = 123
    assert drive.at(int(drive.stamps_ns[k])).difference(drive.map_from_base[k]) == pytest.approx(np.zeros(6), abs=1e-9)
    between = drive.at(int(drive.stamps_ns[k]) + 5_000_000).translation
    mean = (drive.map_from_base[k].translation + drive.map_from_base[k + 1].translation) / 2
    np.testing.assert_allclose(between, mean, atol=1e-9)
    with pytest.raises(ConfigError, match="outside of the drive"):
        drive.at(int(drive.stamps_ns[-1]) + 1)


def test_the_body_moves_in_all_six_ways(drive: Drive) -> None:
    up = np.array([p.rotation[:, 2] for p in drive.map_from_base])
    tilt = np.degrees(np.arccos(up[:, 2]))
    assert 0.2 < tilt.max() < 4.0
    heights = [p.translation[2] for p in drive.map_from_base]
    assert 0.005 < np.ptp(heights) < 0.1


@pytest.mark.parametrize(
    ("crossings", "message"),
    [([(1, 1)], "at least two"), ([(1, 1), (2, 2)], "no street"), ([(1, 1), (1, 9)], "does not exist"), ([(0, 1), (0, 2)], "no street")],
)
def test_routes_follow_streets(town: Town, crossings: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        street_route(town.plan, crossings)


def test_a_route_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match="too short"):
        make_drive([[0.0, 0.0], [1.0, 0.0]])


def test_odometry_has_the_covariance_that_it_states(drive: Drive) -> None:
    runs, start = 80, drive.map_from_base[0]
    ends = [measure_odometry(drive, 2.0, seed=seed)[-1] for seed in range(runs)]
    truth = start.inverse() @ drive.at(ends[0].stamp_ns)
    deltas = [truth.difference(end.odom_from_base) for end in ends]
    nees = sum(d @ np.linalg.solve(end.covariance, d) for d, end in zip(deltas, ends, strict=True))
    low, high = chi2.ppf([0.005, 0.995], 6 * runs)
    assert low < nees < high
    assert 0.05 < np.sqrt(ends[0].covariance[1, 1]) < 3.0


def test_the_compass_errs_as_it_states_and_the_rest_is_the_motion(drive: Drive) -> None:
    errors, samples = [], []
    for seed in range(40):
        samples = measure_imu(drive, 5.0, seed=seed)
        truth = drive.at(samples[3].stamp_ns)
        errors.append(so3_log(samples[3].enu_from_base.rotation @ truth.rotation.T))
    squared = np.einsum("ni,ij,nj->n", np.array(errors), np.linalg.inv(samples[0].covariance), np.array(errors))
    assert 2.0 < squared.mean() < 4.2
    up = np.array([s.linear_acceleration_m_s2[2] for s in samples])
    assert up.mean() == pytest.approx(9.8, abs=0.3)
    turned = np.sum([s.angular_velocity_rad_s[2] for s in samples]) / 5.0
    ends = drive.at(samples[0].stamp_ns), drive.at(samples[-1].stamp_ns)
    difference = turned - (ends[1].yaw_rad - ends[0].yaw_rad)
    assert abs(np.arctan2(np.sin(difference), np.cos(difference))) < 0.1


def test_odometry_twist_is_the_motion(drive: Drive) -> None:
    quiet = OdometryNoise(1e-6, 1e-6, 1e-6, 1e-7, 1e-7)
    samples = measure_odometry(drive, 20.0, quiet)
    middle = samples[len(samples) // 3]
    step = drive.at(middle.stamp_ns - 50_000_000).inverse() @ drive.at(middle.stamp_ns)
    np.testing.assert_allclose(middle.twist[:3], step.translation / 0.05, atol=1e-3)
    assert samples[-1].odom_from_base.difference(drive.map_from_base[0].inverse() @ drive.at(samples[-1].stamp_ns)) == pytest.approx(
        np.zeros(6), abs=1e-3
    )


def test_fixes_have_the_noise_that_they_state(drive: Drive) -> None:
    errors = []
    for seed in range(30):
        for fix in measure_fixes(drive, ORIGIN, seed=seed):
            place = enu_from_geodetic(ORIGIN, fix.lat_deg, fix.lon_deg, fix.alt_m)
            errors.append((place - drive.at(fix.stamp_ns).translation) / np.sqrt(np.diag(fix.covariance_enu)))
    low, high = chi2.ppf([0.005, 0.995], 3 * len(errors))
    assert low < np.square(errors).sum() < high
