"""Readers of image pairs: formats written by hand, and the real files where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import DataError
from ros2_loc.io import colmap_models, hpatches, localization_lists, pair_lists, strecha
from ros2_loc.io.images import read_image, write_image
from ros2_loc.io.sequences import open_sequence

FLAT = np.full((24, 32, 3), 90, np.uint8)


def sequence_folder(folder: Path, shift: float) -> np.ndarray:
    """Images 1 to 3 and H_1_2, H_1_3."""
    folder.mkdir(parents=True)
    homography = np.array([[1.1, 0.05, shift], [0.0, 0.9, -2.0], [1e-4, 0.0, 1.0]])
    for k in (1, 2, 3):
        write_image(folder / f"{k}.ppm", FLAT + k)
    for k in (2, 3):
        hpatches.write_homography(folder / f"H_1_{k}", homography)
    return homography


def test_hpatches_folders_their_groups_and_what_is_left_out(tmp_path: Path) -> None:
    homography = sequence_folder(tmp_path / "v_wall", 3.0)
    sequence_folder(tmp_path / "i_lamp", 0.0)
    sequence_folder(tmp_path / "i_dc", 0.0)
    pairs = hpatches.open_hpatches(tmp_path)
    assert hpatches.is_hpatches(tmp_path) and not hpatches.is_hpatches(tmp_path / "v_wall")
    assert [(p.first.name, p.second.name, p.group) for p in pairs] == [
        ("i_lamp/1.ppm", "i_lamp/2.ppm", "illumination"),
        ("i_lamp/1.ppm", "i_lamp/3.ppm", "illumination"),
        ("v_wall/1.ppm", "v_wall/2.ppm", "viewpoint"),
        ("v_wall/1.ppm", "v_wall/3.ppm", "viewpoint"),
    ]
    np.testing.assert_allclose(pairs[2].second_from_first, homography, atol=1e-9)
    assert pairs[3].second.load()[0, 0, 0] == 93 and pairs[0].first is pairs[1].first
    assert len(hpatches.open_hpatches(tmp_path, all_sequences=True)) == 6


def test_a_homography_counts_from_the_corner_of_the_first_pixel(tmp_path: Path) -> None:
    (tmp_path / "H").write_text("2 0 0\n0 2 0\n0 0 1\n")  # centre of the first pixel stays in place
    np.testing.assert_allclose(hpatches.read_homography(tmp_path / "H") @ [0.5, 0.5, 1.0], [0.5, 0.5, 1.0])


@pytest.mark.parametrize("text", ["1 2 3\n", "1 0 0\n0 1 0\n0 0 0\n", "a b c\n", "", "1 2\n3 4\n5 6\n"])
def test_no_homography_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "H_1_2").write_text(text)
    with pytest.raises(DataError, match="H_1_2"):
        hpatches.read_homography(tmp_path / "H_1_2")


def test_a_sequence_without_its_image(tmp_path: Path) -> None:
    sequence_folder(tmp_path / "v_wall", 0.0)
    (tmp_path / "v_wall" / "3.ppm").unlink()
    with pytest.raises(DataError, match="v_wall: has no image 3"):
        hpatches.open_hpatches(tmp_path)


def strecha_camera(width: int, height: int) -> str:
    r = so3_exp([0.1, -0.4, 0.2])
    rows = "\n".join(" ".join(f"{v:.9f}" for v in row) + " " for row in r)
    return f"2759.48 0 1520.69 \n0 2764.16 1006.81 \n0 0 1 \n0 0 0\n{rows}\n-7.3 -7.6 0.2 \n{width} {height}\n"


def test_strecha_camera_of_full_size_fits_smaller_images(tmp_path: Path) -> None:
    (tmp_path / "0000.jpg.camera").write_text(strecha_camera(3072, 2048))
    camera, pose = strecha.read_strecha_camera(tmp_path / "0000.jpg.camera", 1536, 1024)
    assert camera.focal_px == pytest.approx((1379.74, 1382.08)) and camera.principal_point_px == pytest.approx((760.595, 503.655))
    np.testing.assert_allclose(pose.inverse().translation, [-7.3, -7.6, 0.2], atol=1e-6)
    np.testing.assert_allclose(pose.rotation.T, so3_exp([0.1, -0.4, 0.2]), atol=1e-6)
    with pytest.raises(DataError, match="no multiple"):
        strecha.read_strecha_camera(tmp_path / "0000.jpg.camera", 1024, 1024)
    (tmp_path / "0000.jpg.camera").write_text("1 2 3")
    with pytest.raises(DataError, match="3 numbers"):
        strecha.read_strecha_camera(tmp_path / "0000.jpg.camera", 1536, 1024)


def test_strecha_scene_on_disk(shared_data: Path) -> None:
    views = strecha.open_strecha(shared_data / "strecha_half" / "fountain-P11")
    assert len(views) == 11 and views[0].view.name == "0000.jpg"
    frame = views[0].view.frame()
    assert frame.camera.width == 1536 and frame.camera.focal_px[0] == pytest.approx(2759.48 / 2)


def row_with_truth(pose: Pose) -> str:
    k = "500 0 15.5 0 510 11.5 0 0 1"
    return f"a.png b.png 0 0 {k} {k} {' '.join(f'{v:.12f}' for v in pose.matrix.ravel())}\n"


def test_pair_list_with_and_without_truth(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, FLAT)
    pose = Pose(so3_exp([0.1, 0.2, -0.3]), np.array([1.0, 0.5, -0.2]))
    (tmp_path / "pairs.txt").write_text(f"# pairs\na.png b.png\na.png a.png\n{row_with_truth(pose)}b.png a.png 0 0\n")
    pairs = pair_lists.read_pair_list(tmp_path / "pairs.txt", tmp_path)
    assert [p.second_from_first is None for p in pairs] == [True, False, True] and pairs[0].first.camera is None
    np.testing.assert_allclose(pairs[1].second_from_first.matrix, pose.matrix, atol=1e-9)  # type: ignore[union-attr]
    assert pairs[1].second.camera == Camera.pinhole(32, 24, 500, 510, 16, 12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.png b.png 1 0\n", "wants its images rotated"),
        ("a.png\n", "holds no pairs"),
        ("a.png b.png c.png\n", "line 1: has 3 words"),
        ("a.png absent.png\n", "absent.png: no such image"),
        (row_with_truth(Pose.identity()).replace("510", "x"), "line 1: could not convert"),
        ("\n", "holds no pairs"),
    ],
)
def test_damaged_pair_lists_are_one_line(tmp_path: Path, text: str, expected: str) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, FLAT)
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=expected):
        pair_lists.read_pair_list(tmp_path / "pairs.txt", tmp_path)


@given(st.lists(st.lists(st.floats(-3, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_poses_to_hand_in_come_back(tmp_path_factory: pytest.TempPathFactory, twists: list[list[float]]) -> None:
    path = tmp_path_factory.mktemp("poses") / "submission.txt"
    poses = {f"query/night/{k}.jpg": Pose.exp(twist) for k, twist in enumerate(twists)}
    localization_lists.write_poses(path, poses)
    found = localization_lists.read_poses(path)
    assert list(found) == [f"{k}.jpg" for k in range(len(twists))]
    for pose, again in zip(poses.values(), found.values(), strict=True):
        np.testing.assert_allclose(again.matrix, pose.matrix, atol=1e-9)


def test_submission_is_in_the_order_of_the_benchmark(tmp_path: Path) -> None:
    localization_lists.write_poses(tmp_path / "s.txt", {"a/q.jpg": Pose(so3_exp([np.pi / 2, 0, 0]), np.array([1.0, 2.0, 3.0]))})
    name, *numbers = (tmp_path / "s.txt").read_text().split()
    assert name == "q.jpg" and np.array(numbers, float) == pytest.approx([np.sqrt(0.5), np.sqrt(0.5), 0, 0, 1, 2, 3])
    with pytest.raises(DataError, match="same name"):
        localization_lists.write_poses(tmp_path / "s.txt", {"a/q.jpg": Pose.identity(), "b/q.jpg": Pose.identity()})


def test_lists_of_queries_and_pairs(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("query/day/1.jpg SIMPLE_RADIAL 1600 1200 1500.5 800 600 -0.01\n\n")
    assert localization_lists.read_queries(tmp_path / "q.txt") == {
        "query/day/1.jpg": Camera("SIMPLE_RADIAL", 1600, 1200, (1500.5, 800.0, 600.0, -0.01))
    }
    (tmp_path / "p.txt").write_text("b.jpg a.jpg\na.jpg b.jpg\na.jpg a.jpg\n")
    assert localization_lists.read_pairs(tmp_path / "p.txt") == [("a.jpg", "b.jpg")]
    (tmp_path / "q.txt").write_text("1.jpg SIMPLE_RADIAL 1600 1200 1500.5 800 600\n")
    with pytest.raises(DataError, match="q.txt: line 1: .*parameters"):
        localization_lists.read_queries(tmp_path / "q.txt")


def test_colmap_project_of_others(shared_data: Path) -> None:
    folder = shared_data / "colmap_project_bartoszek" / "dense" / "0"
    model = colmap_models.read_colmap_model(colmap_models.find_colmap_model(folder) or folder)
    views = colmap_models.model_views(model, folder / "images")
    pairs = colmap_models.covisible_pairs(model, 2)
    assert len(views) == model.num_reg_images() and {name for pair in pairs for name in pair} <= {v.view.name for v in views}
    assert read_image(folder / "images" / views[0].view.name).shape[1::-1] == (views[0].view.camera.width, views[0].view.camera.height)  # type: ignore[union-attr]


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no COLMAP model"):
        colmap_models.read_colmap_model(tmp_path)
    for name in ("images.bin", "cameras.bin", "points3D.bin"):
        (tmp_path / name).write_bytes(b"\x03\x00\x00\x00\x00\x00\x00\x00damaged")
    with pytest.raises(DataError, match="COLMAP model"):
        colmap_models.read_colmap_model(tmp_path)


def test_views_of_a_recording_are_the_poses_of_its_cameras(shared_data: Path) -> None:
    from ros2_loc.io.image_pairs import posed_views

    sequence = open_sequence(shared_data / "kitti" / "03", stop=12, every=10)
    first, second = posed_views(sequence)
    moved = second.camera_from_world @ first.camera_from_world.inverse()
    assert moved.translation[2] < -3 and abs(moved.translation[0]) < 1  # forward: what was ahead comes nearer
