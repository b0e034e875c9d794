"""Which images make a video, and which way is north."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import GroundFeatures
from ros2_loc.errors import DataError
from ros2_loc.localization.frame_buffer import BufferedFrame, FrameBuffer, video_poses
from ros2_loc.localization.heading_buffer import HeadingBuffer
from ros2_loc.localization.odometry_buffer import DriftModel, HoldModel, OdometryBuffer

S = 1_000_000_000
FEATURES = GroundFeatures(np.zeros((1, 1, 1), dtype=np.float32), Camera.pinhole(8, 4, 4, 4, 4, 2), Pose.identity(), "none")


def image(stamp_s: float, way_m: float, pose: Pose | None = None) -> BufferedFrame:
    return BufferedFrame(round(stamp_s * S), FEATURES, pose or Pose.identity(), way_m)


@given(st.lists(st.floats(0.0, 4.0), min_size=1, max_size=60))
def test_a_video_is_spaced_and_has_the_newest_image(steps_m: list[float]) -> None:
    buffer, way_m = FrameBuffer(5, 3.0, 5.0), 0.0
    for i, step in enumerate(steps_m):
        way_m += step
        if buffer.wants(i * S // 10, way_m) or i % 7 == 0:
            buffer.add(image(0.1 * i, way_m))
            assert buffer.newest_first[0].distance_m == way_m
    ways = [f.distance_m for f in buffer.newest_first]
    assert 1 <= len(buffer) <= 5 and (-np.diff(ways[1:]) >= 3.0 - 1e-9).all() and (np.diff(ways) <= 0).all()


def test_while_standing_the_newest_image_is_replaced_not_added() -> None:
    buffer = FrameBuffer(5, 3.0, 5.0)
    for way in (0.0, 3.0, 6.0):
        buffer.add(image(way, way))
    assert not buffer.wants(round(7.0 * S), 6.5) and buffer.wants(round(11.0 * S), 6.5)
    for stamp in (11.0, 16.0, 21.0):
        buffer.add(image(stamp, 6.5))
    assert [f.stamp_ns // S for f in buffer.newest_first] == [21, 6, 3, 0]
    buffer.add(image(30.0, 9.5))
    assert [f.stamp_ns // S for f in buffer.newest_first] == [30, 6, 3, 0]


def test_poses_of_a_video_are_turned_to_the_north_and_centred_on_the_newest() -> None:
    north = 0.7
    truths = [Pose(so3_exp([0, 0, 0.2 * i]), np.array([10.0 + 3 * i, 20.0 - i, 0.0])) for i in range(3)]
    odom_from_map = Pose(so3_exp([0, 0, -north]), np.array([100.0, -40.0, 3.0]))
    video = tuple(image(i, 3.0 * i, odom_from_map @ truths[i]) for i in (2, 1, 0))
    for pose, truth in zip(video_poses(video, north, True), truths[::-1], strict=True):
        assert np.allclose(pose.rotation, truth.rotation, atol=1e-9)
        assert np.allclose(pose.translation, truth.translation - truths[2].translation, atol=1e-9)


def odometry(yaw_rate: float = 0.5, seconds: float = 20.0) -> OdometryBuffer:
    buffer = OdometryBuffer(DriftModel(), HoldModel(), 100.0, 80.0)
    for i in range(round(seconds * 10) + 1):
        buffer.append(i * S // 10, Pose(so3_exp([0, 0, 0.1 * yaw_rate * i]), np.array([0.1 * i, 0.0, 0.0])), None)
    return buffer


def test_noise_of_a_compass_is_averaged_over_the_turns_of_odometry() -> None:
    rng, headings, base = np.random.default_rng(0), HeadingBuffer(5.0, 0.2), odometry()
    for i in range(200):
        stamp = i * S // 10
        headings.add(stamp, 0.5 * i / 10 + 3.0 + 0.1 * rng.standard_normal(), 0.1)
    offset = headings.offset_rad(19_900_000_000, base)
    assert offset is not None and abs(np.angle(np.exp(1j * (offset - 3.0)))) < 0.05


def test_a_heading_is_carried_by_odometry_for_a_while_only() -> None:
    headings, base = HeadingBuffer(5.0, 0.2), odometry()
    headings.add(10 * S, 1.0, 0.1)
    expected = 1.0 - 5.0
    offset = headings.offset_rad(14 * S, base)
    assert offset is not None and np.isclose(np.exp(1j * offset), np.exp(1j * expected))
    assert headings.offset_rad(16 * S, base) is None and headings.offset_rad(9 * S, base) is None


def test_without_odometry_the_nearest_heading_counts() -> None:
    headings, nothing = HeadingBuffer(5.0, 0.2), OdometryBuffer(DriftModel(), HoldModel(), 100.0, 80.0)
    for i in range(5):
        headings.add(i * S, 0.1 * i, 0.1)
    assert headings.offset_rad(round(3.1 * S), nothing) == pytest.approx(0.3)


def test_headings_that_are_none_are_refused_and_vague_ones_not_used() -> None:
    headings = HeadingBuffer(5.0, 0.2)
    for yaw, sigma in ((float("nan"), 0.1), (0.0, float("inf"))):
        with pytest.raises(DataError, match="heading"):
            headings.add(S, yaw, sigma)
    assert not headings.add(S, 0.0, 0.5) and len(headings) == 0
    assert headings.add(2 * S, 0.0, 0.1) and headings.add(S, 0.0, 0.1) and len(headings) == 2  # late ones too
    headings.clear()
    assert len(headings) == 0
