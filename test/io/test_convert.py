"""KITTI folders become bags that say the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import DataError
from ros2_loc.io.bag_reader import BagReader
from ros2_loc.io.convert import KITTI_EPOCH_NS, BagOutput, convert_kitti_odometry, convert_kitti_raw
from ros2_loc.io.drifting_odometry import Drift, drifting_odometry
from ros2_loc.io.sequences import open_sequence

sys.path.insert(0, str(Path(__file__).parent))
from recordings import bend, odometry_folder, raw_drive

QUIET = BagOutput(progress=False)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("image_folder", ["image_0", "image_2"])
def test_a_kitti_sequence_says_the_same_as_a_bag(tmp_path: Path, storage: str, image_folder: str) -> None:
    folder = odometry_folder(tmp_path)
    summary = convert_kitti_odometry(
        folder,
        tmp_path / "bag",
        image_folder=image_folder,
        output=BagOutput(storage=storage, progress=False),  # type: ignore[arg-type]
    )
    assert (summary.images, summary.poses, summary.odometry) == (6, 6, 0)
    direct, bag = open_sequence(folder, image_folder=image_folder), open_sequence(tmp_path / "bag")
    assert bag.camera == direct.camera
    np.testing.assert_array_equal(bag.stamps_ns - KITTI_EPOCH_NS, direct.stamps_ns)
    np.testing.assert_allclose(bag.base_from_camera.matrix, direct.base_from_camera.matrix, atol=1e-12)
    for i in range(6):
        np.testing.assert_array_equal(bag.image(i), direct.image(i))
        np.testing.assert_allclose(bag.map_from_base[i].matrix, direct.map_from_base[i].matrix, atol=1e-12)  # type: ignore[union-attr]
    assert bag.odom_from_base == (None,) * 6
    with BagReader(tmp_path / "bag") as reader:
        encoding = next(reader.read(["/camera/image_raw"]))[2].encoding
    assert encoding == ("mono8" if image_folder == "image_0" else "rgb8")


def test_simulated_odometry_is_labelled_and_repeatable(tmp_path: Path) -> None:
    folder = odometry_folder(tmp_path)
    for name in ("a", "b"):
        convert_kitti_odometry(folder, tmp_path / name, odometry_from_truth=Drift(), seed=3, output=QUIET)
    notes = yaml.safe_load((tmp_path / "a" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]
    assert notes["odometry"].startswith("simulated from the ground truth") and "seed 3" in notes["odometry"]
    one, two = open_sequence(tmp_path / "a"), open_sequence(tmp_path / "b")
    for p, q, truth in zip(one.odom_from_base, two.odom_from_base, one.map_from_base, strict=True):
        assert p is not None and q is not None and truth is not None
        np.testing.assert_array_equal(p.matrix, q.matrix)
        assert np.linalg.norm(p.translation - truth.translation) < 0.2


def test_a_range_of_a_sequence(tmp_path: Path) -> None:
    summary = convert_kitti_odometry(odometry_folder(tmp_path), tmp_path / "bag", every=2, start=1, output=QUIET)
    assert summary.images == 3 and len(open_sequence(tmp_path / "bag")) == 3


def test_a_raw_drive_says_the_same_as_a_bag(tmp_path: Path) -> None:
    drive = raw_drive(tmp_path)
    summary = convert_kitti_raw(drive, tmp_path / "bag", output=QUIET)
    assert (summary.images, summary.poses, summary.fixes, summary.imu) == (8, 9, 9, 9)
    direct, bag = open_sequence(drive), open_sequence(tmp_path / "bag")
    np.testing.assert_array_equal(bag.stamps_ns, direct.stamps_ns)
    np.testing.assert_allclose(bag.base_from_camera.matrix, direct.base_from_camera.matrix, atol=1e-12)
    for i in range(8):
        for ours, theirs in ((bag.map_from_base, direct.map_from_base), (bag.odom_from_base, direct.odom_from_base)):
            np.testing.assert_allclose(ours[i].matrix, theirs[i].matrix, atol=1e-9)  # type: ignore[union-attr]
    assert len(bag.fixes) == 9
    np.testing.assert_allclose(bag.fixes[0].antenna_in_base_m, [0, 0, 0.93])
    with BagReader(tmp_path / "bag") as reader:
        imu = next(reader.read(["/imu/data"]))[2]
        recorded = [log_ns for _, log_ns, _ in reader.messages()]
    assert imu.linear_acceleration.z == 9.81 and imu.angular_velocity.z == pytest.approx(0.2) and imu.header.frame_id == "imu_link"
    assert recorded == sorted(recorded)


def test_a_raw_drive_without_oxts(tmp_path: Path) -> None:
    drive = raw_drive(tmp_path)
    (drive / "oxts").rename(tmp_path / "elsewhere")
    summary = convert_kitti_raw(drive, tmp_path / "bag", output=QUIET)
    assert (summary.images, summary.poses, summary.imu) == (8, 0, 0)
    with BagReader(tmp_path / "bag") as reader:
        assert sorted(reader.topics) == ["/camera/camera_info", "/camera/image_raw", "/tf_static"]


def test_a_damaged_image_leaves_no_bag(tmp_path: Path) -> None:
    folder = odometry_folder(tmp_path)
    (folder / "image_0" / "000004.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"000004.png"):
        convert_kitti_odometry(folder, tmp_path / "out" / "bag", output=QUIET)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_stands_in_the_way_is_said_before_the_work(tmp_path: Path) -> None:
    folder = odometry_folder(tmp_path)
    (tmp_path / "bag").mkdir()
    with pytest.raises(DataError, match="exists already"):
        convert_kitti_odometry(folder, tmp_path / "bag", output=QUIET)
    (tmp_path / "poses" / "03.txt").unlink()
    with pytest.raises(DataError, match="no poses to make odometry of"):
        convert_kitti_odometry(folder, tmp_path / "other", odometry_from_truth=Drift(), output=QUIET)
    assert not (tmp_path / "other").exists()


def test_drift_is_what_it_says_after_100_metres() -> None:
    """1 % of the way and half a degree, by many runs of 100 m straight on."""
    way = [Pose(np.eye(3), np.array([float(x), 0, 0])) for x in range(0, 101, 10)]
    ends = [drifting_odometry(way, Drift(), seed)[0][-1] for seed in range(150)]
    along = np.std([end.translation[0] for end in ends])
    yaw = np.degrees(np.std([end.yaw_rad for end in ends]))
    assert 0.7 < along < 1.2  # a scale that is forgotten over 100 m: 0.86 m
    assert 0.42 < yaw < 0.58


def test_the_covariance_covers_the_drift() -> None:
    """Over a long winding way the normalized squared error is not above its six degrees of freedom, and not far below."""
    way = bend(60, 1.5)
    nees = []
    for seed in range(50):
        poses, covariances = drifting_odometry(way, Drift(), seed)
        delta = way[-1].difference(poses[-1])
        nees.append(delta @ np.linalg.solve(covariances[-1], delta))
    assert 3.0 < np.mean(nees) < 7.5


def test_still_standing_does_not_drift() -> None:
    here = Pose(so3_exp([0, 0, 1.0]), np.array([3.0, 4.0, 0]))
    poses, covariances = drifting_odometry([here] * 50, Drift(), 0)
    np.testing.assert_allclose(poses[-1].matrix, np.eye(4), atol=1e-12)
    assert np.linalg.eigvalsh(covariances[-1])[0] > 0


@pytest.mark.slow
def test_real_kitti_becomes_a_bag(tmp_path: Path, shared_data: Path) -> None:
    summary = convert_kitti_odometry(shared_data / "kitti/03", tmp_path / "bag", stop=50, odometry_from_truth=Drift(), output=QUIET)
    assert summary.images == 50 and len(open_sequence(tmp_path / "bag")) == 50
