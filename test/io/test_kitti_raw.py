"""KITTI raw: times, navigation records, calibration, in a small drive of the exact layout."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.geodesy import enu_from_geodetic
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import DataError
from ros2_loc.io.oxts import mercator_positions, read_oxts, read_timestamps
from ros2_loc.io.sequences import open_sequence

sys.path.insert(0, str(Path(__file__).parent))
from recordings import RAW_START_NS, bend, picture, raw_drive


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return raw_drive(tmp_path)


def test_timestamps(drive: Path) -> None:
    stamps = read_timestamps(drive / "oxts" / "timestamps.txt")
    assert stamps[0] == RAW_START_NS and np.diff(stamps).tolist() == [10**8] * 8
    (drive / "t.txt").write_text("2011-09-26 13:02:25.964389445\n")
    assert read_timestamps(drive / "t.txt").tolist() == [1_317_042_145_964_389_445]
    (drive / "t.txt").write_text("2011-09-26 13:02\n")
    with pytest.raises(DataError, match="line 1 is no time"):
        read_timestamps(drive / "t.txt")


def test_poses_follow_the_devkit(drive: Path) -> None:
    """East, north, up from the first record on, which is base_link on the ground."""
    log = read_oxts(drive / "oxts")
    start = Pose(so3_exp([0, 0, 0.5]), np.zeros(3))
    for pose, truth in zip(log.map_from_base, bend(9), strict=True):
        np.testing.assert_allclose(pose.matrix, (start @ truth).matrix, atol=1e-4)


def test_the_formula_of_the_devkit() -> None:
    """convertOxtsToPose.m, line by line."""
    lat, lon, alt = np.array([49.0, 49.001]), np.array([8.4, 8.402]), np.array([100.0, 101.0])
    scale, radius = np.cos(lat[0] * np.pi / 180.0), 6378137.0
    expected = [scale * lon * np.pi * radius / 180, scale * radius * np.log(np.tan((90 + lat) * np.pi / 360)), alt]
    np.testing.assert_allclose(mercator_positions(lat, lon, alt), np.transpose(expected), rtol=1e-12)


def test_roll_pitch_yaw(drive: Path) -> None:
    path = drive / "oxts" / "data" / "0000000000.txt"
    numbers = path.read_text().split()
    numbers[3:6] = ["0.1", "-0.2", "1.5"]
    path.write_text(" ".join(numbers))
    rotation = read_oxts(drive / "oxts").map_from_base[0].rotation
    cx, sx, cy, sy, cz, sz = (f(a) for a in (0.1, -0.2, 1.5) for f in (np.cos, np.sin))
    rx, ry, rz = [[1, 0, 0], [0, cx, -sx], [0, sx, cx]], [[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], [[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]
    np.testing.assert_allclose(rotation, np.array(rz) @ ry @ rx, atol=1e-12)


def test_fixes_lie_where_the_poses_say(drive: Path) -> None:
    log = read_oxts(drive / "oxts")
    for fix, pose in zip(log.fixes, log.map_from_base, strict=True):
        enu = enu_from_geodetic(log.origin, fix.lat_deg, fix.lon_deg, fix.alt_m)
        np.testing.assert_allclose(enu, pose.apply(fix.antenna_in_base_m), atol=0.03)  # sphere against ellipsoid over 7 m
        np.testing.assert_allclose(fix.covariance_enu, np.eye(3) * 0.05**2)


def test_dead_reckoning_follows_the_bend(drive: Path) -> None:
    for pose, truth in zip(read_oxts(drive / "oxts").dead_reckoning().poses, bend(9), strict=True):
        np.testing.assert_allclose(pose.matrix, truth.matrix, atol=1e-4)


def test_a_drive_as_a_sequence(drive: Path) -> None:
    sequence = open_sequence(drive)
    np.testing.assert_array_equal(sequence.image(3), picture(3))
    assert sequence.stamps_ns[0] == RAW_START_NS + 4_000_000 and all(sequence.map_from_base) and all(sequence.odom_from_base)
    assert len(sequence.fixes) == 9
    # IMU 0.93 m up; velodyne 0.81 m ahead of it... by the two calibration files; camera 2 is 6 cm left of camera 0
    np.testing.assert_allclose(sequence.base_from_camera.rotation, BODY_FROM_OPTICAL, atol=1e-12)
    velo_in_imu, cam0_in_velo = np.array([0.81, -0.32, 0.80]), np.array([0.27, 0.0, -0.08])
    expected = np.array([0, 0, 0.93]) + velo_in_imu + cam0_in_velo + [0, 0.06, 0]
    np.testing.assert_allclose(sequence.base_from_camera.translation, expected, atol=1e-12)


def test_a_drive_without_oxts_has_no_poses(drive: Path) -> None:
    (drive / "oxts").rename(drive / "elsewhere")
    sequence = open_sequence(drive)
    assert not sequence.has_poses and sequence.fixes == () and sequence.odom_from_base == (None,) * 8


def test_records_that_go_back_in_time_are_left_out(drive: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = drive / "oxts" / "timestamps.txt"
    lines = path.read_text().splitlines()
    lines[4] = lines[2]
    path.write_text("\n".join(lines))
    log = read_oxts(drive / "oxts")
    assert len(log) == 8 and "go back in time" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("oxts/data/0000000003.txt", "49.0 8.4 100", "has 3 numbers"),
        ("oxts/data/0000000003.txt", "", "is empty"),
        ("oxts/data/0000000003.txt", "95.0 " + "0 " * 29, "not a place"),
        ("oxts/timestamps.txt", "2011-09-26 13:02:25.0\n", "9 records and 1 timestamps"),
        ("image_02/timestamps.txt", "2011-09-26 13:02:25.0\n", "1 rows for 8 images"),
        ("../calib_imu_to_velo.txt", "R: 1 0 0 0 1 0 0 0 1\n", "has no T"),
        ("../calib_velo_to_cam.txt", "R: 1 0 0 0 1 0 0 0 5\nT: 0 0 0\n", "not a rotation"),
        ("../calib_cam_to_cam.txt", "R_rect_00: 1 0 0\n", "kind|R_rect_00"),
    ],
)
def test_damaged_files_are_told_in_one_line(drive: Path, file: str, content: str, words: str) -> None:
    (drive / file).write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        open_sequence(drive)
    assert "\n" not in str(caught.value)


def test_a_missing_calibration_is_named(drive: Path) -> None:
    (drive.parent / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(DataError, match="calib_cam_to_cam"):
        open_sequence(drive)
