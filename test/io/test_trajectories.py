"""Trajectories there and back, interpolated, and as evo reads them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import DataError
from ros2_loc.io import trajectories
from ros2_loc.io.trajectories import Trajectory

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
from strategies import poses

in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
stamps = st.lists(st.integers(-(10**18), 2 * 10**18), min_size=1, max_size=6, unique=True).map(sorted)


@in_a_folder
@given(stamps, st.data())
def test_tum_round_trip_to_the_nanosecond(tmp_path: Path, ns: list[int], data: st.DataObject) -> None:
    trajectory = Trajectory(np.array(ns), tuple(data.draw(poses) for _ in ns))
    trajectories.write_tum(tmp_path / "t.txt", trajectory)
    back = trajectories.read_trajectory(tmp_path / "t.txt")
    assert back.stamps_ns.tolist() == ns
    for a, b in zip(back.poses, trajectory.poses, strict=True):
        np.testing.assert_allclose(a.matrix, b.matrix, atol=2e-8)


@in_a_folder
@given(st.lists(poses, min_size=1, max_size=6))
def test_kitti_round_trip(tmp_path: Path, written: list[Pose]) -> None:
    trajectories.write_kitti(tmp_path / "t.txt", written)
    back = trajectories.read_trajectory(tmp_path / "t.txt", np.arange(len(written)))
    for a, b in zip(back.poses, written, strict=True):
        np.testing.assert_allclose(a.matrix, b.matrix, atol=1e-10)


def test_evo_reads_the_same(tmp_path: Path) -> None:
    file_interface = pytest.importorskip("evo.tools.file_interface")
    rng = np.random.default_rng(0)
    some = tuple(Pose(so3_exp(rng.standard_normal(3)), rng.standard_normal(3)) for _ in range(5))
    written = Trajectory(np.arange(1, 6) * 10**9 + 7, some)
    trajectories.write_tum(tmp_path / "t.tum", written)
    trajectories.write_kitti(tmp_path / "t.kitti", written.poses)
    tum = file_interface.read_tum_trajectory_file(str(tmp_path / "t.tum"))
    for theirs in (tum, file_interface.read_kitti_poses_file(str(tmp_path / "t.kitti"))):
        np.testing.assert_allclose(theirs.poses_se3, [pose.matrix for pose in written.poses], atol=1e-8)


def test_stamps_are_taken_from_the_digits() -> None:
    assert trajectories.stamp_from_text("1305031102.175304") == 1305031102175304000
    assert trajectories.stamp_from_text("1305031102.123456789123") == 1305031102123456789
    assert trajectories.stamp_from_text("1.0373590e-01") == 103735900
    assert trajectories.stamp_from_text("-0.25") == -250000000
    assert trajectories.ns_from_seconds([0.1, 1.5]).tolist() == [100000000, 1500000000]


def test_rounded_quaternions_are_normalized(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("1.0 0 0 0 0.7071 0 0 0.7071\n2.0,0,0,0,0,0,0,1\n")
    trajectory = trajectories.read_tum(tmp_path / "t.txt")
    np.testing.assert_allclose(trajectory.poses[0].rotation, so3_exp([np.pi / 2, 0, 0]), atol=1e-9)


def test_interpolation_and_its_limits() -> None:
    a, b = Pose.identity(), Pose(so3_exp([0, 0, 1.0]), np.array([2.0, 0, 0]))
    trajectory = Trajectory(np.array([100, 200, 1000]), (a, b, b))
    middle = trajectory.at(150, 100)
    assert middle is not None and middle.translation[0] == pytest.approx(1.0) and middle.yaw_rad == pytest.approx(0.5)
    assert trajectory.at(200, 1) is trajectory.poses[1]
    assert trajectory.at(600, 100) is None and trajectory.at(600, 800) is not None
    assert trajectory.at(99, 10**9) is None and trajectory.at(1001, 10**9) is None
    assert trajectory.positions_m.shape == (3, 3)


@pytest.mark.parametrize("ns", [[1, 1], [2, 1], [1]])
def test_stamps_must_increase_and_fit(ns: list[int]) -> None:
    with pytest.raises(DataError):
        Trajectory(np.array(ns), (Pose.identity(), Pose.identity()))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 2 3\n", "3 numbers a row"),
        ("1 0 0 0 0 0 0 1\n2 0 0 0 0 0 0\n", "line 2 has 7"),
        ("1 0 0 0 0 0 0 2\n", "not a unit quaternion"),
        ("1 0 0 0 0 0 0 0\n", "not a unit quaternion"),
        ("2 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n", "stamps must increase"),
        ("1 0 0 nan 0 0 0 1\n", "not finite"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 2 0 0 0 0 1 0\n", "row 2 is no pose"),
    ],
)
def test_damaged_files_are_told_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "t.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        trajectories.read_trajectory(path, [0, 1])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_kitti_needs_stamps_for_all_rows(tmp_path: Path) -> None:
    trajectories.write_kitti(tmp_path / "t.txt", [Pose.identity()] * 3)
    for given_stamps in (None, [0, 1]):
        with pytest.raises(DataError, match="stamps"):
            trajectories.read_trajectory(tmp_path / "t.txt", given_stamps)


def test_the_wrong_form_is_named(tmp_path: Path) -> None:
    trajectories.write_kitti(tmp_path / "t.txt", [Pose.identity()])
    with pytest.raises(DataError, match="12 numbers a row where 8"):
        trajectories.read_tum(tmp_path / "t.txt")


def test_a_pose_in_a_file_of_its_own(tmp_path: Path) -> None:
    pose = Pose(so3_exp([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]))
    np.savetxt(tmp_path / "p.txt", pose.matrix)
    np.testing.assert_allclose(trajectories.read_pose_matrix(tmp_path / "p.txt").matrix, pose.matrix, atol=1e-12)
    np.savetxt(tmp_path / "p.txt", pose.matrix[:2])
    with pytest.raises(DataError, match="2x4"):
        trajectories.read_pose_matrix(tmp_path / "p.txt")
