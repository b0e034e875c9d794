"""From images, odometry and a heading to positions, in a world whose ground is a random field: real matching, real geometry, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.geodesy import GeoFix, geodetic_from_enu
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.localization.cross_view_localizer import CrossViewLocalizer, CrossViewResult
from ros2_loc.localization.odometry_buffer import OdometryEvent

SMALL = {"filter_max_heading_error_deg": 5.0, "filter_heading_step_deg": 5.0, "filter_scored_headings": 3}


def poses_of(results: Sequence[CrossViewResult]) -> list[tuple[int, PoseEstimate]]:
    return [(i, r.result) for i, r in enumerate(results) if isinstance(r.result, PoseEstimate)]


def errors_m(results: Sequence[CrossViewResult], drive: Any) -> np.ndarray:
    return np.array([np.linalg.norm(p.map_from_base.translation[:2] - drive.poses[i, :2]) for i, p in poses_of(results)])


@pytest.fixture(scope="module")
def quiet(field: SimpleNamespace) -> Any:
    """A small world, seen clearly."""
    return field.FieldWorld(side_m=160.0, seed=5, noise=0.3, query_noise=0.3)


@pytest.fixture()
def short(field: SimpleNamespace) -> Any:
    return field.Drive(field.wander(160.0, 4, length_m=60, border_m=25.0))


def settled(field: SimpleNamespace, world: Any, drive: Any, **settings: Any) -> CrossViewLocalizer:
    """A localizer that has driven and knows where it is."""
    localizer = field.localizer(world, **{"filter_independent_m": 15.0, **SMALL, **settings})
    assert poses_of(field.run(localizer, drive))
    return localizer


def test_from_anywhere_to_a_position_with_wrong_odometry_and_heading(field: SimpleNamespace) -> None:
    world = field.FieldWorld(seed=3)
    drive = field.Drive(field.wander(300.0, 1), scale=1.05, heading_bias_rad=np.radians(5))
    results = field.run(field.localizer(world), drive)
    found = poses_of(results)
    assert found and found[0][0] <= 110 and errors_m(results, drive).max() < 6.0 and errors_m(results, drive)[-1] < 3.0
    last = found[-1][1]
    yaw_error = np.degrees(last.map_from_base.yaw_rad - drive.truth(found[-1][0]).yaw_rad)
    assert abs((yaw_error + 180) % 360 - 180) < 3.0  # of 5
    assert last.source == "cross_view" and last.sigma_m < 5.0 and last.num_inliers > 20
    queries = [r for r in results if r.scored_tiles]
    assert queries[0].scored_tiles == 957 and queries[-1].scored_tiles < 600
    assert queries[-1].belief.entropy_nats < queries[0].belief.entropy_nats - 5


@pytest.mark.parametrize("seed", [11, pytest.param(None, marks=pytest.mark.slow)])
def test_no_confident_wrong_answer(field: SimpleNamespace, seed: int | None) -> None:
    """20 worlds and drives, odometry wrong by 5 %, heading by 5 degrees; NEES of what is said, mean 2 when the covariance is just right."""
    nees, first, errors = [], [], []
    for s in range(20) if seed is None else [seed]:
        world, rng = field.FieldWorld(seed=s), np.random.default_rng(s)
        scale, bias = 1.0 + 0.05 * rng.choice([-1, 1]), np.radians(5.0) * rng.choice([-1, 1])
        drive = field.Drive(field.wander(300.0, s), scale=float(scale), heading_bias_rad=float(bias))
        results = field.run(field.localizer(world), drive, seed=s)
        found = poses_of(results)
        first.append(found[0][0] if found else 1000)
        errors.extend(errors_m(results, drive))
        for i, pose in found:
            delta = pose.map_from_base.translation[:2] - drive.poses[i, :2]
            nees.append(float(delta @ np.linalg.solve(pose.covariance[:2, :2], delta)))
    assert max(errors) < 10.0 and max(nees) < 20.0 and 0.3 < np.mean(nees) < 3.0
    assert np.mean(np.array(first) <= 110) >= 0.9


def test_a_world_that_repeats_itself_is_never_decided(field: SimpleNamespace) -> None:
    world = field.FieldWorld(side_m=200.0, seed=2, noise=0.3, period_m=100.0)
    drive = field.Drive(field.wander(200.0, 3, length_m=100))
    results = field.run(field.localizer(world, **SMALL), drive)
    reasons = {r.result.reason for r in results if isinstance(r.result, Rejection)}
    assert not poses_of(results) and reasons == {RejectionReason.AMBIGUOUS}
    east = [m.east_m for m in results[-1].belief.modes[:4]]
    assert len(east) == 4 and min(abs(abs(a - east[0]) % 100.0) for a in east[1:]) < 5.0


def test_images_that_fit_nowhere_are_never_a_position(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    world = replace(quiet, noise=30.0)
    assert not poses_of(field.run(field.localizer(world, **SMALL), short))


def test_each_image_passes_the_backbone_at_most_once_and_only_when_needed(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = field.localizer(quiet, localizer_spacing_m=3.0, localizer_query_every_m=6.0, **SMALL)
    results = field.run(localizer, short)
    queries = [i for i, r in enumerate(results) if r.scored_tiles]
    assert len(results) / 3 - 2 <= localizer._encoder.encoded <= len(results) / 3 + 1 and np.diff(queries).min() >= 6
    assert results[queries[-1]].frames == 8 and results[queries[0]].frames == 4
    assert results[queries[0]].stage_s.keys() == {"encode", "describe", "filter", "match"}
    assert sum(r.result is None for r in results) == len(results) - len(queries)


def test_standing_still_costs_an_image_now_and_then_and_adds_no_evidence(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = settled(field, quiet, short, localizer_refresh_s=5.0)
    before, encoded = localizer.belief, localizer._encoder.encoded
    stamp, pose = short.stamp_ns(len(short) - 1), list(short.odometry())[-1]
    for i in range(1, 200):
        localizer.add_odometry(stamp + i * 100_000_000, pose)
        localizer.add_heading(stamp + i * 100_000_000, float(short.poses[-1, 2]), 0.02)
        frame = replace(short.frame(len(short) - 1), stamp_ns=stamp + i * 100_000_000)
        assert localizer.localize(frame).result is None
    assert localizer.belief is before and localizer._encoder.encoded - encoded == 3


def test_a_fix_helps(field: SimpleNamespace, short: Any) -> None:
    world = field.FieldWorld(side_m=160.0, seed=5)
    localizer = field.localizer(world, **SMALL)
    first = len(field.run(localizer, short, last=12))
    truth = short.poses[11, :2]
    lat, lon, alt = geodetic_from_enu(localizer._tiles.origin, [truth[0] + 1.5, truth[1] - 1.0, 0.0])
    localizer.add_fix(GeoFix(short.stamp_ns(11), float(lat), float(lon), float(alt), np.diag([9.0, 9.0, 25.0])))
    results = field.run(localizer, replace(short), first=first)
    found = poses_of(results)
    assert found and found[0][0] <= 6 and np.linalg.norm(localizer.belief.modes[0].covariance) < 30


def test_an_antenna_away_from_base_is_taken_into_account(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = field.localizer(quiet, **SMALL)
    field.run(localizer, short, last=3)
    place, yaw = short.poses[2, :2], short.poses[2, 2]
    antenna = place + 4.0 * np.array([np.cos(yaw), np.sin(yaw)])
    lat, lon, alt = geodetic_from_enu(localizer._tiles.origin, [*antenna, 1.5])
    arm = np.array([4.0, 0.0, 1.5])
    localizer.add_fix(GeoFix(short.stamp_ns(2), float(lat), float(lon), float(alt), np.eye(3), arm))
    mode = localizer.belief.modes[0]
    assert np.hypot(mode.east_m - place[0], mode.north_m - place[1]) < 0.6


def test_an_initial_pose_starts_there(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = field.localizer(quiet, **SMALL)
    localizer.initialize(short.stamp_ns(0), short.truth(0), np.diag([4.0, 4.0, 1, 1, 1, 1]))
    results = field.run(localizer, short)
    assert poses_of(results)[0][0] <= 15 and errors_m(results, short).max() < 6.0


def test_a_place_off_the_tiles_is_refused(field: SimpleNamespace, quiet: Any) -> None:
    localizer = field.localizer(quiet, **SMALL)
    with pytest.raises(DataError, match="off the tiles"):
        localizer.add_fix(GeoFix(10**10, 48.1, 9.0, 0.0))
    with pytest.raises(DataError, match="off the tiles"):
        localizer.initialize(10**10, Pose(np.eye(3), np.array([1e4, 0.0, 0.0])), np.eye(6))
    with pytest.raises(DataError, match="covariance"):
        localizer.initialize(10**10, Pose(np.eye(3), np.array([80.0, 80.0, 0.0])), np.eye(3))


def test_without_odometry_heading_or_ground_the_reason_is_said(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    def reason(result: CrossViewResult) -> RejectionReason:
        assert isinstance(result.result, Rejection) and "\n" not in result.result.detail
        return result.result.reason

    localizer = field.localizer(quiet, **SMALL)
    assert reason(localizer.localize(short.frame(0))) is RejectionReason.NO_ODOMETRY
    localizer.add_odometry(short.stamp_ns(1), Pose.identity())
    assert reason(localizer.localize(short.frame(1))) is RejectionReason.NO_HEADING
    assert not localizer.add_heading(short.stamp_ns(1), 0.0, 3.0)  # does not know north at all
    assert reason(localizer.localize(short.frame(1))) is RejectionReason.NO_HEADING
    with pytest.raises(DataError, match="heading"):
        localizer.add_heading(short.stamp_ns(1), float("nan"), 0.1)
    assert localizer.add_heading(short.stamp_ns(1), 0.0, 0.05)
    assert localizer.localize(short.frame(1)).result is None
    assert reason(localizer.localize(short.frame(40))) is RejectionReason.NO_ODOMETRY  # it ended seconds ago
    assert localizer._encoder.encoded == 1


def test_a_camera_that_sees_no_ground_is_bad_input(field: SimpleNamespace, quiet: Any, short: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = field.localizer(quiet, **SMALL)
    describe = localizer._encoder.describe_many

    def blind(features: Any, poses: Any) -> Any:
        return [replace(d, features=d.features * 0, visible=d.visible & False) for d in describe(features, poses)]

    monkeypatch.setattr(localizer._encoder, "describe_many", blind)
    before = localizer.belief
    results = [r for r in field.run(localizer, short, last=20) if r.result is not None]
    assert results and all(isinstance(r.result, Rejection) and r.result.reason is RejectionReason.BAD_INPUT for r in results)
    assert "base_from_camera" in results[0].result.detail and localizer.belief is before and len(results) <= 4


def test_single_images_do_without_odometry_where_that_is_allowed(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = field.localizer(quiet, localizer_require_odometry=False, localizer_query_every_s=0.5, **SMALL)
    results, entropy = [], localizer.belief.entropy_nats
    for i in range(0, 30, 5):
        localizer.add_heading(short.stamp_ns(i), float(short.poses[i, 2]), 0.02)
        results.append(localizer.localize(short.frame(i)))
    assert all(r.frames == 1 and r.scored_tiles for r in results)
    assert results[0].belief.entropy_nats < entropy - 1 and not poses_of(results)


def test_odometry_that_knows_north_needs_no_compass(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = field.localizer(quiet, filter_independent_m=15.0, localizer_heading="odometry", **SMALL)
    results = []
    for i in range(len(short)):
        localizer.add_odometry(short.stamp_ns(i), short.truth(i))
        results.append(localizer.localize(short.frame(i)))
    assert poses_of(results) and errors_m(results, short).max() < 4.0


def test_odometry_within_the_frame_is_enough(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = field.localizer(quiet, filter_independent_m=15.0, localizer_heading="odometry", **SMALL)
    results = [localizer.localize(replace(short.frame(i), odom_from_base=short.truth(i))) for i in range(len(short))]
    assert poses_of(results)


def test_a_clock_that_jumps_back_starts_anew(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = settled(field, quiet, short)
    assert localizer.add_odometry(short.start_ns - 10**10, Pose.identity()) is OdometryEvent.TIME_JUMP
    assert len(localizer.belief.modes) == 1 and localizer.belief.entropy_nats > 8
    again = field.run(localizer, replace(short, start_ns=short.start_ns - 9 * 10**9))
    assert poses_of(again)


def test_odometry_that_starts_anew_keeps_the_belief(field: SimpleNamespace, quiet: Any) -> None:
    way = field.wander(160.0, 4, length_m=90, border_m=20.0)
    first, second = field.Drive(way[:60]), field.Drive(way[60:], start_ns=10 * 10**9 + 60 * 10**8)
    localizer = settled(field, quiet, first)
    elsewhere = Pose(so3_exp([0, 0, -2.0]), np.array([5000.0, 0.0, 0.0]))
    for i, pose in enumerate(second.odometry()):
        event = localizer.add_odometry(second.stamp_ns(i), elsewhere @ pose)
        assert event is (OdometryEvent.RESTARTED if i == 0 else OdometryEvent.ACCEPTED)
        localizer.add_heading(second.stamp_ns(i), float(second.poses[i, 2]), 0.02)
        result = localizer.localize(second.frame(i))
    mode = localizer.belief.modes[0]
    assert np.hypot(mode.east_m - way[-1, 0], mode.north_m - way[-1, 1]) < 8.0 and mode.mass > 0.5 and result.belief is localizer.belief


def test_an_image_that_comes_late_changes_nothing(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = settled(field, quiet, short)
    before, encoded = localizer.belief, localizer._encoder.encoded
    result = localizer.localize(short.frame(len(short) - 5))
    assert result.result is None and result.belief is before and localizer._encoder.encoded == encoded


def test_relocalizing_forgets_the_place_but_not_the_way(field: SimpleNamespace, quiet: Any, short: Any) -> None:
    localizer = settled(field, quiet, short)
    localizer.relocalize()
    assert localizer.belief.entropy_nats > 8 and len(localizer._odometry) > 10


def test_tiles_and_encoder_must_fit(field: SimpleNamespace, quiet: Any) -> None:
    with pytest.raises(ConfigError, match="20 m apart.*--spacing 19.2"):
        field.localizer(quiet, spacing_m=20.0)
    tiles, other = quiet.tiles(), field.FieldEncoder(replace(quiet, seed=6))
    with pytest.raises(ConfigError, match="field-5.*field-6"):
        CrossViewLocalizer(field.localizer(quiet)._config, tiles, other)


def test_roll_and_pitch_of_odometry_reach_the_encoder_and_heights_do_not(
    field: SimpleNamespace, quiet: Any, short: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = field.localizer(quiet, localizer_heading="odometry", filter_max_heading_error_deg=0.0)
    asked: list[Sequence[Sequence[Pose]]] = []
    describe = localizer._encoder.describe_many
    monkeypatch.setattr(localizer._encoder, "describe_many", lambda f, p: (asked.append(p), describe(f, p))[1])
    tilt = so3_exp([0.05, -0.1, 0.0])
    queries = []
    for i in range(15):
        truth = short.truth(i)
        climbing = Pose(truth.rotation @ tilt, truth.translation + np.array([0.0, 0.0, 0.1 * i]))
        if localizer.localize(replace(short.frame(i), odom_from_base=climbing)).scored_tiles:
            queries.append(short.truth(i))
    poses = asked[0][0]
    assert np.allclose(poses[0].rotation, queries[0].rotation @ tilt, atol=1e-6) and np.allclose(poses[0].translation, 0.0)
    assert np.allclose(poses[-1].translation, short.truth(0).translation - queries[0].translation, atol=1e-6)
    assert len(poses) == 4 and all(abs(p.translation[2]) < 1e-9 for p in poses)
