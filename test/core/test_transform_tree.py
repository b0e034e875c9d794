"""Interpolation, chains, static frames and refusals, as tf2 documents them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.transform_tree import ConnectivityException, ExtrapolationException, LookupException, TransformTree

S = 1_000_000_000


def at(x: float, yaw: float = 0.0) -> Pose:
    return Pose(so3_exp([0, 0, yaw]), np.array([x, 0.0, 0.0]))


@pytest.fixture
def tree() -> TransformTree:
    """map -> odom (static), odom -> base (1 s to 3 s), base -> camera (static), and an island."""
    tree = TransformTree()
    tree.insert("map", "odom", 0, at(100), static=True)
    tree.insert("odom", "base", 1 * S, at(0, 0.0), static=False)
    tree.insert("odom", "base", 3 * S, at(4, np.pi / 2), static=False)
    tree.insert("base", "camera", 0, at(1), static=True)
    tree.insert("island", "palm", 2 * S, at(1), static=False)
    return tree


def test_between_two_times_it_is_linear_in_place_and_spherical_in_rotation(tree: TransformTree) -> None:
    stamp, pose = tree.lookup("odom", "base", 2 * S)
    assert stamp == 2 * S
    np.testing.assert_allclose(pose.translation, [2, 0, 0])
    assert pose.yaw_rad == pytest.approx(np.pi / 4)


def test_a_chain_goes_through_static_and_moving_links_both_ways(tree: TransformTree) -> None:
    _, map_from_camera = tree.lookup("map", "camera", 3 * S)
    np.testing.assert_allclose(map_from_camera.translation, [104, 1, 0], atol=1e-12)
    _, camera_from_map = tree.lookup("camera", "map", 3 * S)
    np.testing.assert_allclose((camera_from_map @ map_from_camera).matrix, np.eye(4), atol=1e-12)


@given(st.lists(st.floats(-3, 3), min_size=12, max_size=12), st.floats(0, 1))
def test_siblings_meet_at_their_common_ancestor(numbers: list[float], fraction: float) -> None:
    left, right = Pose.exp(numbers[:6]), Pose.exp(numbers[6:])
    tree = TransformTree()
    tree.insert("base", "left", 0, left, static=True)
    tree.insert("base", "right", 0, right, static=True)
    tree.insert("odom", "base", S, at(0), static=False)
    _, pose = tree.lookup("left", "right", int(S * (1 + fraction)))  # odom -> base is not known then, and not needed
    np.testing.assert_allclose(pose.matrix, (left.inverse() @ right).matrix, atol=1e-9)


def test_time_zero_is_the_latest_that_all_links_have(tree: TransformTree) -> None:
    tree.insert("map", "odom2", 2 * S, at(7), static=False)
    stamp, pose = tree.lookup("odom2", "base", 0)
    assert stamp == 2 * S and pose.translation[0] == pytest.approx(95)
    assert tree.lookup("odom", "camera", 0)[0] == 3 * S
    assert tree.lookup("base", "camera", 0)[0] == 0


def test_static_links_hold_at_any_time_and_are_replaced_by_newer_ones(tree: TransformTree) -> None:
    assert tree.lookup("base", "camera", 10**18)[1].translation[0] == 1
    tree.insert("base", "camera", 0, at(2), static=True)
    assert tree.lookup("base", "camera", 5)[1].translation[0] == 2


@pytest.mark.parametrize(
    ("stamp_s", "words"),
    [
        (3.5, "into the future.  Requested time 3.500000 but the latest data is at time 3.000000"),
        (0.5, "into the past.  Requested time 0.500000 but the earliest"),
    ],
)
def test_nothing_is_extrapolated(tree: TransformTree, stamp_s: float, words: str) -> None:
    with pytest.raises(ExtrapolationException, match=words) as refused:
        tree.lookup("map", "camera", int(stamp_s * S))
    assert str(refused.value).endswith("when looking up transform from frame [camera] to frame [map]")


def test_one_sample_serves_its_own_time_only(tree: TransformTree) -> None:
    assert tree.lookup("island", "palm", 2 * S)[1].translation[0] == 1
    with pytest.raises(ExtrapolationException, match="at time 1.000000, but only time 2.000000 is in the buffer"):
        tree.lookup("island", "palm", S)


def test_unknown_frames_and_separate_trees_are_told_apart(tree: TransformTree) -> None:
    with pytest.raises(LookupException, match='"lidar" passed to lookupTransform argument source_frame does not exist'):
        tree.lookup("map", "lidar", 2 * S)
    with pytest.raises(ConnectivityException, match="'map' and 'palm' because they are not part of the same tree"):
        tree.lookup("map", "palm", 0)
    with pytest.raises(ConnectivityException):
        tree.lookup("odom", "island", 2 * S)


def test_old_data_leaves_the_cache_and_does_not_come_in() -> None:
    tree = TransformTree(cache_ns=10 * S)
    for second in range(1, 31):
        tree.insert("odom", "base", second * S, at(second), static=False)
    assert not tree.insert("odom", "base", 19 * S, at(0), static=False)
    assert not tree.insert("odom", "base", 25 * S, at(0), static=False), "a stamp that is known is not replaced"
    assert tree.insert("odom", "base", 25 * S + 5, at(25), static=False), "late data within the cache is welcome"
    assert tree.lookup("odom", "base", 20 * S)[1].translation[0] == 20
    with pytest.raises(ExtrapolationException, match="earliest data is at time 20"):
        tree.lookup("odom", "base", 20 * S - 1)


def test_a_frame_that_moves_to_another_parent_is_not_interpolated_across() -> None:
    tree = TransformTree()
    tree.insert("left", "box", S, at(1), static=False)
    tree.insert("right", "box", 3 * S, at(5), static=False)
    assert tree.lookup("left", "box", 2 * S)[1].translation[0] == 1
    assert tree.lookup("right", "box", 3 * S)[1].translation[0] == 5


def test_clear_forgets_what_moves_and_keeps_what_stays(tree: TransformTree) -> None:
    tree.clear()
    assert tree.frames() == {"camera": "base", "odom": "map"}
    with pytest.raises(ConnectivityException):
        tree.lookup("map", "camera", 2 * S)
    assert tree.insert("odom", "base", 5, at(0), static=False), "time may start over"
    assert tree.lookup("map", "camera", 5)[1].translation[0] == 101


def test_a_loop_is_named() -> None:
    tree = TransformTree()
    tree.insert("a", "b", 0, at(1), static=True)
    tree.insert("b", "a", 0, at(1), static=True)
    tree.insert("x", "y", 0, at(1), static=True)
    with pytest.raises(LookupException, match="loop"):
        tree.lookup("a", "x", S)


def test_a_frame_in_itself_is_the_identity(tree: TransformTree) -> None:
    stamp, pose = tree.lookup("base", "base", 0)
    assert stamp == 3 * S and (pose.matrix == np.eye(4)).all()
