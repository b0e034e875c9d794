"""Single-shot evaluation with an encoder that knows, one that does not, and queries that are chosen fairly."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import cross_view_queries as cq
from ros2_loc.evaluation.cross_view import heading_steps_rad, single_shot
from ros2_loc.evaluation.cross_view_areas import in_frame_of
from ros2_loc.evaluation.cross_view_records import rank_key

sys.path.insert(0, str(Path(__file__).parent))
from cross_view_oracle import ORIGIN, Oracle, area, drive

SOME = cq.QueryConfig(queries=16, most_frames=6)


@pytest.fixture(scope="module")
def place() -> cq.Area:
    """Tiles and one drive."""
    return area()


def test_who_sees_from_above_finds_every_tile_and_its_place_in_it(place: cq.Area) -> None:
    oracle = Oracle(place)
    found = single_shot([place], oracle, SOME, {"name": "oracle"})
    m = found.metrics
    assert m.queries == 16 and found.tiles[1] == len(place.centres_m) > 400 and found.tiles[0] <= 16
    for test in (1, 2):
        assert m.recalls[rank_key(test, 10.0, "position")] == (1.0,) * 4
        assert m.recalls[rank_key(test, 10.0, "tile")][1:] == (1.0,) * 3
    assert m.nearest is not None and m.aligned is not None and m.top is not None
    assert m.aligned.total_p90_m < 1.0 < m.nearest.median
    assert m.top.count == 16 and m.top.total_p90_m < 2.0  # at the edge of the shifts no peak is refined
    assert set(oracle.frames_seen) == {4} and m.heading_error_deg is None
    assert set(found.seconds) == {"encode tile", "encode frame", "describe", "match 1000 tiles"}


def test_every_image_passes_the_backbone_once(place: cq.Area) -> None:
    oracle = Oracle(place)
    single_shot([place], oracle, replace(SOME, queries=40, frames=6), {})
    assert oracle.passes <= len(place.drives[0].sequence)


def test_without_shifts_the_position_is_the_tiles_centre(place: cq.Area) -> None:
    m = single_shot([place], Oracle(place, shift_cells=0), SOME, {}).metrics
    assert m.aligned is not None and m.nearest is not None
    assert m.aligned.total_median_m == pytest.approx(m.nearest.median)


def test_a_wrong_heading_costs_and_its_search_finds_it_again(place: cq.Area) -> None:
    wrong = replace(SOME, queries=6, heading_sigma_deg=10.0)
    blind = single_shot([place], Oracle(place), wrong, {}).metrics
    searched = single_shot([place], Oracle(place), replace(wrong, search_heading_deg=24.0, search_step_deg=6.0), {}).metrics
    assert blind.aligned is not None and searched.aligned is not None and searched.heading_error_deg is not None
    assert searched.aligned.total_median_m < blind.aligned.total_median_m
    assert searched.heading_error_deg.max < 6.0
    assert searched.recalls[rank_key(2, 10.0, "position")][0] == 1.0


def test_search_of_headings_has_the_given_one_in_the_middle() -> None:
    steps = heading_steps_rad(replace(SOME, search_heading_deg=5.0, search_step_deg=2.0))
    assert np.degrees(steps) == pytest.approx([-4.0, -2.0, 0.0, 2.0, 4.0])
    assert heading_steps_rad(SOME) == (0.0,)


def test_videos_of_all_lengths_end_at_the_same_images(place: cq.Area) -> None:
    chosen = [cq.choose_queries(place, replace(SOME, frames=n), 12)[0] for n in (1, 4, 6)]
    newest = [[q.images[0] for q in queries] for queries in chosen]
    assert newest[0] == newest[1] == newest[2] and len(set(newest[0])) == 12
    assert {len(q.images) for q in chosen[2]} == {6}


@given(st.lists(st.floats(0.0, 3.0), min_size=2, max_size=40), st.integers(1, 9), st.floats(0.5, 9.0))
def test_frames_are_older_and_at_least_so_far_apart(steps: list[float], frames: int, spacing_m: float) -> None:
    way = np.cumsum(steps)
    chosen = cq.frames_before(way, len(way) - 1, frames, spacing_m)
    assert chosen[0] == len(way) - 1 and 1 <= len(chosen) <= frames
    assert all(b < a for a, b in zip(chosen[:-1], chosen[1:], strict=True))
    for k, i in enumerate(chosen):
        assert way[-1] - way[i] >= k * spacing_m - 1e-5


def test_poses_of_a_video_are_around_its_newest_image(place: cq.Area) -> None:
    by_odometry, by_truth = (
        cq.choose_queries(place, replace(SOME, relative_poses=source), 5)[0] for source in ("odometry", "truth")
    )
    for a, b in zip(by_odometry, by_truth, strict=True):
        for k, (first, second) in enumerate(zip(a.query_from_base, b.query_from_base, strict=True)):
            np.testing.assert_allclose(first.matrix, second.matrix, atol=1e-9)
            there = place.drives[0].sequence.map_from_base[a.images[k]]
            np.testing.assert_allclose(first.translation, there.translation - a.truth.translation, atol=1e-9)
            np.testing.assert_allclose(first.rotation, there.rotation, atol=1e-9)
    turned = by_odometry[0].turned(np.pi / 2)[-1].translation
    east, north, _ = by_odometry[0].query_from_base[-1].translation
    np.testing.assert_allclose(turned[:2], [-north, east], atol=1e-9)


def test_queries_beside_the_tiles_are_left_out_and_counted() -> None:
    edge = area(drive(length_m=160.0, start_m=(20.0, 20.0)))
    chosen, outside = cq.choose_queries(edge, SOME, 20)
    assert chosen and outside and len(chosen) + outside == 20
    with pytest.raises(DataError, match="between its tiles"):
        cq.choose_queries(area(drive(start_m=(5000.0, 0.0))), SOME, 20)


def test_a_drive_can_name_its_queries(place: cq.Area) -> None:
    named = replace(place, drives=(replace(place.drives[0], queries=np.array([50, 60, 70])),))
    assert [q.images[0] for q in cq.choose_queries(named, SOME, 10)[0]] == [50, 60, 70]


def test_a_drive_without_odometry_is_refused_with_the_remedy(place: cq.Area) -> None:
    bare = replace(drive(), odom_from_base=(None,) * len(drive()))
    with pytest.raises(DataError, match="--relative-poses truth"):
        cq.choose_queries(area(bare), SOME, 5)
    assert cq.choose_queries(area(bare), replace(SOME, relative_poses="truth"), 5)[0]
    still = replace(drive(), map_from_base=(Pose.identity(),) * len(drive()))
    with pytest.raises(DataError, match="stand still"):
        cq.choose_queries(area(still), SOME, 5)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"queries": 0}, {"frame_spacing_m": 0.0}, {"search_heading_deg": 200.0}])
def test_settings_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        replace(SOME, **wrong)  # type: ignore[arg-type]


def test_poses_in_another_frame_are_brought_to_the_tiles_by_fixes() -> None:
    from ros2_loc.core.geodesy import GeoFix, geodetic_from_enu

    truth = drive()
    places = [pose.translation for pose in truth.map_from_base if pose is not None]
    fixes = tuple(
        GeoFix(int(stamp), *(float(v) for v in geodetic_from_enu(ORIGIN, place)))
        for stamp, place in zip(truth.stamps_ns[::4], places[::4], strict=True)
    )
    kept = in_frame_of(ORIGIN, replace(truth, fixes=fixes), "here")
    assert kept.map_from_base is truth.map_from_base
    other_from_map = Pose(so3_exp([0, 0, 1.0]), np.array([300.0, 20.0, 5.0]))
    moved = replace(truth, fixes=fixes, map_from_base=tuple(other_from_map @ pose for pose in truth.map_from_base if pose is not None))
    back = in_frame_of(ORIGIN, moved, "there")
    for found, true in zip(back.map_from_base, truth.map_from_base, strict=True):
        np.testing.assert_allclose(found.translation[:2], true.translation[:2], atol=0.1)
        assert cq.yaw_of(found) == pytest.approx(cq.yaw_of(true), abs=5e-3)
