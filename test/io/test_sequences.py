"""Folders of images become sequences: the right pose for each image, or a word why not."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose
from ros2_loc.errors import DataError
from ros2_loc.io.image_folders import frame_number, rows_of_images, stamp_in_name
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.sequences import open_sequence
from ros2_loc.io.seven_scenes import depth_camera
from ros2_loc.io.trajectories import Trajectory, write_kitti, write_tum

sys.path.insert(0, str(Path(__file__).parent))
from recordings import CAMERA, bend, odometry_folder, picture, write_images

BASE_FROM_CAM0 = Pose(BODY_FROM_OPTICAL, np.array([0, 0, 1.65]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frames 10 to 15, a K, and 20 poses in KITTI's and in TUM's form."""
    write_images(tmp_path / "images", range(10, 16))
    (tmp_path / "K.txt").write_text("50 0 32\n0 50 24\n0 0 1\n")
    cam0 = [BASE_FROM_CAM0.inverse() @ pose @ BASE_FROM_CAM0 for pose in bend(20)]
    write_kitti(tmp_path / "poses.txt", cam0)
    write_tum(tmp_path / "tum.txt", Trajectory(np.arange(20) * 10**8 + 10**18, tuple(cam0)))
    return tmp_path


def assert_on_the_bend(sequence: ImageSequence, numbers: range) -> None:
    for pose, truth in zip(sequence.map_from_base, [bend(20)[i] for i in numbers], strict=True):
        assert pose is not None
        np.testing.assert_allclose(pose.matrix, truth.matrix, atol=1e-8)


def test_frame_numbers_choose_the_rows_of_kitti(folder: Path) -> None:
    sequence = open_sequence(folder / "images", poses=folder / "poses.txt", camera=folder / "K.txt")
    assert sequence.names[0] == "000010.png" and sequence.stamps_ns.tolist() == [i * 10**8 for i in range(10, 16)]
    assert sequence.camera == CAMERA and sequence.has_poses and sequence.fixes == ()
    np.testing.assert_array_equal(sequence.image(2), picture(12))
    np.testing.assert_allclose(sequence.base_from_camera.matrix, BASE_FROM_CAM0.matrix)
    assert_on_the_bend(sequence, range(10, 16))


def test_as_many_poses_as_images_go_by_order(folder: Path) -> None:
    lines = (folder / "poses.txt").read_text().splitlines()[10:16]
    (folder / "six.txt").write_text("\n".join(lines))
    assert_on_the_bend(open_sequence(folder / "images", poses=folder / "six.txt", camera=folder / "K.txt"), range(10, 16))


def test_poses_that_fit_neither_number_nor_count_are_refused(folder: Path) -> None:
    lines = (folder / "poses.txt").read_text().splitlines()[:8]
    (folder / "eight.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"eight.txt: has 8 rows for 6 images numbered up to 15.*cut short"):
        open_sequence(folder / "images", poses=folder / "eight.txt", camera=folder / "K.txt")


def test_tum_poses_by_number_are_the_cameras_and_keep_their_world(folder: Path) -> None:
    sequence = open_sequence(folder / "images", poses=folder / "tum.txt", camera=folder / "K.txt")
    assert sequence.stamps_ns.tolist() == [10**18 + i * 10**8 for i in range(10, 16)]
    world_from_camera = [pose @ sequence.base_from_camera for pose in sequence.map_from_base if pose]
    for pose, truth in zip(world_from_camera, bend(20)[10:16], strict=True):
        np.testing.assert_allclose(pose.matrix, (BASE_FROM_CAM0.inverse() @ truth @ BASE_FROM_CAM0).matrix, atol=1e-8)


def test_tum_poses_by_time_are_interpolated(folder: Path) -> None:
    (folder / "images" / "times.txt").write_text("\n".join(f"{1e9 + 0.1 * i + 0.05:.3f}" for i in range(6)))
    write_tum(folder / "base.txt", Trajectory(np.arange(6) * 10**8 + 10**18, tuple(bend(6))))
    sequence = open_sequence(folder / "images", poses=folder / "base.txt", camera=folder / "K.txt", poses_of="base")
    assert sequence.map_from_base[5] is None  # behind the last pose
    first, middle = bend(2)[1], sequence.map_from_base[0]
    assert middle is not None
    np.testing.assert_allclose(middle.translation, first.translation / 2, atol=1e-6)
    assert middle.yaw_rad == pytest.approx(first.yaw_rad / 2, abs=1e-6)


def test_poses_of_another_time_are_refused(folder: Path) -> None:
    (folder / "images" / "times.txt").write_text("\n".join(str(i) for i in range(6)))
    with pytest.raises(DataError, match=r"no pose is within 0.5 s of an image"):
        open_sequence(folder / "images", poses=folder / "tum.txt", camera=folder / "K.txt")


def test_the_mounting_may_be_given(folder: Path) -> None:
    mounting = Pose(BODY_FROM_OPTICAL, np.array([1.0, 0.2, 1.5]))
    sequence = open_sequence(folder / "images", poses=folder / "poses.txt", camera=folder / "K.txt", base_from_camera=mounting)
    default = open_sequence(folder / "images", poses=folder / "poses.txt", camera=folder / "K.txt")
    between = [(s.map_from_base[1] @ s.base_from_camera).inverse() @ s.map_from_base[4] @ s.base_from_camera for s in (sequence, default)]
    np.testing.assert_allclose(between[0].matrix, between[1].matrix, atol=1e-9)  # the camera moved the same
    assert sequence.base_from_camera is mounting


def test_a_kitti_folder_needs_nothing_else(tmp_path: Path) -> None:
    sequence = open_sequence(odometry_folder(tmp_path))
    assert sequence.stamps_ns.tolist()[:2] == [0, 103735900] and len(sequence) == 6
    assert_on_the_bend(sequence, range(6))
    np.testing.assert_array_equal(sequence.image(3)[..., 1], picture(3)[..., 0])


def test_another_camera_of_kitti_sits_beside_camera_0(tmp_path: Path) -> None:
    sequence = open_sequence(odometry_folder(tmp_path), image_folder="image_2")
    np.testing.assert_allclose(sequence.base_from_camera.translation, [0, 0.06, 1.65], atol=1e-12)
    assert_on_the_bend(sequence, range(6))


@pytest.mark.parametrize(
    ("missing", "words"), [("calib.txt", "has no calib.txt"), ("image_0", None), ("image_0/000003.png", None), ("times.txt", None)]
)
def test_what_a_kitti_folder_lacks(tmp_path: Path, missing: str, words: str | None) -> None:
    folder = odometry_folder(tmp_path)
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if missing == "image_0/000003.png":  # a gap is no error: numbers choose the rows
        sequence = open_sequence(folder)
        assert len(sequence) == 5 and sequence.stamps_ns[3] == 4 * 103735900
    elif words is None:
        assert len(open_sequence(folder)) == 6
    else:
        with pytest.raises(DataError, match=words):
            open_sequence(folder)


def test_seven_scenes(tmp_path: Path) -> None:
    write_images(tmp_path / "raw", range(3))
    for i, pose in enumerate(bend(3)):
        (tmp_path / "raw" / f"{i:06d}.png").rename(tmp_path / f"frame-{8 * i:06d}.color.png")
        if i != 1:
            np.savetxt(tmp_path / f"frame-{8 * i:06d}.pose.txt", (BASE_FROM_CAM0.inverse() @ pose).matrix)
    (tmp_path / "camera-intrinsics.txt").write_text("50 0 32\n0 50 24\n0 0 1\n")
    sequence = open_sequence(tmp_path)
    assert sequence.camera == CAMERA and sequence.map_from_base[1] is None
    assert np.diff(sequence.stamps_ns).tolist() == [266666667, 266666666]
    camera = sequence.map_from_base[2] @ sequence.base_from_camera  # type: ignore[operator]
    np.testing.assert_allclose(camera.matrix, (BASE_FROM_CAM0.inverse() @ bend(3)[2]).matrix, atol=1e-9)
    (tmp_path / "frame-000000.pose.txt").write_text("1 0 0\n")
    with pytest.raises(DataError, match="pose"):
        open_sequence(tmp_path)


def test_poses_of_a_camera_that_nobody_placed_are_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = odometry_folder(tmp_path)
    (folder / "K.txt").write_text("50 0 32\n0 50 24\n0 0 1\n")
    sequence = open_sequence(folder, image_folder="image_2", camera=folder / "K.txt")
    np.testing.assert_allclose(sequence.base_from_camera.translation, [0, 0, 1.65])
    assert "where camera 2 sits" in caplog.text


def test_ranges_and_subsets(folder: Path) -> None:
    opened = open_sequence(folder / "images", poses=folder / "poses.txt", camera=folder / "K.txt", every=2, start=1)
    assert opened.names == ("000011.png", "000013.png", "000015.png")
    subset = opened.subset([0, 2])
    np.testing.assert_array_equal(subset.image(1), picture(15))
    np.testing.assert_array_equal(subset.frame(-1).image, picture(15))
    assert subset.map_from_base[1] is opened.map_from_base[2]
    for arguments in ({"start": 6}, {"every": 0}, {"start": 2, "stop": 2}):
        with pytest.raises(DataError):
            open_sequence(folder / "images", camera=folder / "K.txt", **arguments)  # type: ignore[arg-type]


def test_an_image_of_another_size_is_named(folder: Path) -> None:
    from ros2_loc.io.images import write_image

    write_image(folder / "images" / "000012.png", picture(0)[:20])
    sequence = open_sequence(folder / "images", camera=folder / "K.txt")
    with pytest.raises(DataError, match=r"000012.png: is 64x20 where its camera says 64x48"):
        sequence.image(2)


def test_missing_things_are_named(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [(tmp_path / "none", "no such file"), (empty, "no images"), (folder / "K.txt", "is no bag")]
    cases.append((folder / "images", "no calibration"))
    for path, words in cases:
        with pytest.raises(DataError, match=words) as caught:
            open_sequence(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_names() -> None:
    assert frame_number("frame-000007.color.jpg") == 7 and frame_number("left.png") is None
    assert stamp_in_name("1403636579763555584.png") == 1403636579763555584
    assert stamp_in_name("1305031102.175304.png") == 1305031102175304000
    assert stamp_in_name("000007.png") is None
    assert rows_of_images(["a1", "a2"], 2, "f") == [0, 1] and rows_of_images(["a", "b"], 2, "f") == [0, 1]
    with pytest.raises(DataError, match="without frame numbers"):
        rows_of_images(["a", "b"], 3, "f")


def test_real_kitti(shared_data: Path) -> None:
    kitti = shared_data / "kitti/03"
    sequence = open_sequence(kitti / "image_0", poses=kitti / "poses.txt", camera=kitti / "K.txt")
    assert len(sequence) == 500 and all(sequence.map_from_base)
    last = sequence.map_from_base[499]
    assert last is not None and last.translation == pytest.approx([156.938, -288.562, 24.003], abs=1e-3)  # row 500: z, -x, -y
    assert sequence.frame(499).image.shape == (375, 1242, 3)
    assert open_sequence(kitti).names == sequence.names


def test_real_seven_scenes_and_raw_colour(shared_data: Path) -> None:
    scenes = open_sequence(shared_data / "7scenes_redkitchen")
    assert len(scenes) == 125 and all(scenes.map_from_base)
    assert scenes.camera.focal_px == (525.0, 525.0)
    assert depth_camera(shared_data / "7scenes_redkitchen", 640, 480).focal_px == (585.0, 585.0)
    colour = open_sequence(shared_data / "kitti/raw_color_unknown_drive/image_02", camera=shared_data / "kitti/03/K.txt")
    assert len(colour) == 60 and not colour.has_poses and colour.image(59).std() > 10
