"""Where pairs come from: flow files, depth and poses, maps, synthetic streets, folders of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import picture

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import DataError
from ros2_loc.io.depth import write_depth
from ros2_loc.io.images import write_image
from ros2_loc.mapping.sparse_map import Place
from ros2_loc.training.feature_maps import MapPairs, filled, map_pairs
from ros2_loc.training.feature_pair_sources import flow_pairs, folder_pairs, split_at_the_end, split_evenly
from ros2_loc.training.feature_pairs import FeaturePairs
from ros2_loc.training.feature_scenes import DepthPairs, DepthView, correspondences, scene_pairs
from ros2_loc.training.feature_towns import TownScenes
from ros2_loc.training.feature_warps import Warp, pixel_centres

RNG = np.random.default_rng


# flow


def _flow_folder(folder: Path, form: str) -> NDArray[np.float32]:
    """Three images and the flow between them, all the same."""
    flow = np.zeros((80, 100, 2), np.float32)
    flow[..., 0], flow[..., 1] = 4.5, -2.0
    flow[:5, :5] = 1e10
    names = {"kitti": "image_2/{:06d}_1{}.png", "sintel": "clean/alley/frame_{:04d}.png", "list": "{:02d}.png"}
    for k in range(3):
        if form == "kitti":
            for end in (0, 1):
                write_image(folder / names[form].format(k, end), picture(k, 100, 80))
            stored = np.dstack([flow[..., 0] < 1e9, *(np.where(flow[..., c] < 1e9, flow[..., c] * 64 + 2**15, 0) for c in (1, 0))])
            (folder / "flow_noc").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / f"flow_noc/{k:06d}_10.png"), stored.astype(np.uint16))
        else:
            write_image(folder / names[form].format(k), picture(k, 100, 80))
            if k < 2:
                (folder / "flow/alley").mkdir(parents=True, exist_ok=True)
                cv2.writeOpticalFlow(str(folder / f"flow/alley/frame_{k:04d}.flo"), flow)
    if form == "list":
        rows = [f"{k:02d}.png {k + 1:02d}.png flow/alley/frame_{k:04d}.flo" for k in range(2)]
        (folder / "pairs.txt").write_text("# first second flow\n" + "\n".join(rows) + "\n")
    return flow


@pytest.mark.parametrize(("form", "count"), [("list", 2), ("kitti", 3), ("sintel", 2)])
def test_flow_leads_to_the_pixel_it_says(tmp_path: Path, form: str, count: int) -> None:
    flow = _flow_folder(tmp_path, form)
    data = flow_pairs(tmp_path, 0.0)
    assert len(data.pairs) == count and not data.held_out
    pair = data.pairs.pair(1, RNG(0))
    wanted = pixel_centres(100, 80) + flow
    inside = (wanted >= 0).all(axis=2) & (wanted < [100, 80]).all(axis=2)
    assert np.array_equal(pair.valid, inside) and not pair.valid[:5, :5].any() and pair.valid.mean() > 0.9
    assert np.allclose(pair.points2_px[inside], wanted[inside], atol=1e-3)
    assert np.array_equal(pair.image, picture(1, 100, 80)) and np.array_equal(pair.image2, picture(1 if form == "kitti" else 2, 100, 80))
    assert len(flow_pairs(tmp_path, 0.4).held_out) == 1
    FeaturePairs(FeaturePairs.Config(batch_size=1, crop_px=64), data.pairs).batch(0)


def test_folders_without_flow_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pairs with flow"):
        flow_pairs(tmp_path, 0.1)
    (tmp_path / "image_2").mkdir()
    with pytest.raises(DataError, match="neither flow_noc nor flow_occ"):
        flow_pairs(tmp_path, 0.1)
    (tmp_path / "pairs.txt").write_text("a.png b.png\n")
    with pytest.raises(DataError, match="image image flow"):
        flow_pairs(tmp_path, 0.1)


# depth and poses

CAMERA = Camera.pinhole(80, 60, 70.0, 70.0, 40.0, 30.0)


def _views(folder: Path, shifts_m: list[float], box: bool = False) -> list[DepthView]:
    """A wall at 4 m, seen from places along x; in the first view perhaps behind a box at 2 m that the others don't have before them."""
    views = []
    for k, shift in enumerate(shifts_m):
        depth = np.full((60, 80), 4.0)
        if box and k == 0:
            depth[20:40, 30:50] = 2.0
        write_image(folder / f"{k}.png", picture(k, 80, 60))
        write_depth(folder / f"{k}.depth.png", depth)
        pose = Pose(np.eye(3), np.array([shift, 0.0, 0.0]))
        views.append(DepthView(folder / f"{k}.png", folder / f"{k}.depth.png", CAMERA, CAMERA, pose, "wall"))
    return views


def test_a_wall_moves_by_focal_length_times_baseline_over_depth(tmp_path: Path) -> None:
    first, second = _views(tmp_path, [0.0, 0.4])
    points, valid = correspondences(first, second)
    assert np.allclose(points[valid], (pixel_centres(80, 60) - [7.0, 0.0])[valid], atol=1e-3)
    assert np.array_equal(valid, np.broadcast_to(np.arange(80) >= 7, (60, 80)))


def test_depth_of_another_camera_is_looked_up_along_the_ray(tmp_path: Path) -> None:
    """As of 7-Scenes: the depth camera sees less than the colour camera, at another scale."""
    first, second = _views(tmp_path, [0.0, 0.4])
    depth = np.full((60, 80), 4.0)
    depth[:, 50:] = 2.0
    write_depth(first.depth, depth)
    narrow = Camera.pinhole(80, 60, 140.0, 140.0, 40.0, 30.0)
    points, valid = correspondences(replace(first, depth_camera=narrow), replace(second, depth_camera=narrow))
    moved = (pixel_centres(80, 60)[..., 0] - points[..., 0])[30]
    assert not valid[:, :27].any() and not valid[:15].any()  # 40 px to either side of the depth camera's axis are 20 px here
    assert np.allclose(moved[28:44], 7.0, atol=1e-3) and not valid[30, 46:].any()  # the second view sees the wall there at 4 m


def test_what_is_hidden_or_hides_is_left_out(tmp_path: Path) -> None:
    with_box, without = _views(tmp_path, [0.0, 0.4], box=True)
    assert not correspondences(with_box, without)[1][20:40, 30:50].any(), "the box is not where the other view sees the wall"
    points, valid = correspondences(without, with_box)
    hidden = (points[..., 0] > 30) & (points[..., 0] < 50) & (points[..., 1] > 20) & (points[..., 1] < 40)
    assert not valid[hidden].any() and valid.mean() > 0.6


def test_pairs_are_of_views_that_overlap(tmp_path: Path) -> None:
    views = _views(tmp_path, [0.0, 0.8, 1.6, 40.0])
    pairs = DepthPairs(views)
    assert pairs._pairs == [(0, 1), (0, 2), (1, 2)]
    seen = {pairs.pair(0, RNG(seed)).image.tobytes() for seed in range(8)}
    assert len(seen) == 2, "in both orders"
    with pytest.raises(DataError, match="in common"):
        DepthPairs([views[0], views[3]])


def _scene(folder: Path, views: int = 6) -> None:
    for k in range(views):
        write_image(folder / f"frame-{k:06d}.color.png", picture(k, 80, 60))
        write_depth(folder / f"frame-{k:06d}.depth.png", np.full((60, 80), 4.0))
        pose = Pose(so3_exp([0.0, 0.02 * k, 0.0]), np.array([0.3 * k, 0.0, 0.0]))
        (folder / f"frame-{k:06d}.pose.txt").write_text("\n".join(" ".join(map(str, row)) for row in pose.matrix))
    (folder / "camera-intrinsics.txt").write_text("70 0 39.5\n0 70 29.5\n0 0 1\n")


def test_folders_as_of_seven_scenes(tmp_path: Path) -> None:
    _scene(tmp_path)
    data = scene_pairs([tmp_path], 0.2)
    assert len(data.pairs) > 3 and len(data.held_out) == 1 and np.array_equal(data.held_out[0](), picture(5, 80, 60))
    batch = FeaturePairs(FeaturePairs.Config(batch_size=2, crop_px=48), data.pairs).batch(0)
    assert float(batch["valid"].float().mean()) > 0.3
    for path in tmp_path.glob("*.depth.png"):
        path.unlink()
    with pytest.raises(DataError, match="has no frame"):
        scene_pairs([tmp_path], 0.2)
    with pytest.raises(DataError, match="no folder of 7-Scenes"):
        scene_pairs([tmp_path / "other"], 0.2)


def test_real_depth_agrees_with_real_images(shared_data: Path) -> None:
    folder = shared_data / "7scenes_redkitchen"
    if not folder.is_dir():
        pytest.skip(f"no 7-Scenes at {folder}")
    from ros2_loc.training.feature_scenes import scene_views

    views = scene_views(folder)[:9]
    pairs = DepthPairs(views)
    close = [abs(a - b) for a, b in pairs._pairs]
    pair = pairs.pair(int(np.argmin(close)), RNG(0))
    seen = cv2.remap(pair.image2, pair.points2_px - 0.5, None, cv2.INTER_LINEAR)
    right = np.abs(seen.astype(float) - pair.image)[pair.valid].mean()
    unmoved = np.abs(pair.image2.astype(float) - pair.image)[pair.valid].mean()
    assert pair.valid.mean() > 0.3 and right < 0.6 * unmoved, (right, unmoved)


@pytest.mark.slow
def test_synthetic_streets_under_two_lights(tmp_path: Path) -> None:
    config = TownScenes.Config(count=2, views=3, step_m=1.5, extent_m=200.0, size_px=(160, 120))
    told: list[tuple[int, int]] = []
    data = TownScenes(config, tmp_path).pairs(lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12) and len(data.held_out) == 6
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.color.png")}
    again = TownScenes(config, tmp_path).pairs()
    assert len(stamps) == 12 and stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.color.png")}
    pairs = [again.pairs.pair(k, RNG(0)) for k in range(len(again.pairs))]
    assert len(pairs) >= 5
    gains = []
    for pair in pairs:
        seen = cv2.remap(pair.image2, pair.points2_px - 0.5, None, cv2.INTER_LINEAR)
        grey, grey2 = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float64)[pair.valid] for i in (pair.image, seen))
        unmoved = cv2.cvtColor(pair.image2, cv2.COLOR_RGB2GRAY).astype(np.float64)[pair.valid]
        gains.append(np.corrcoef(grey, grey2)[0, 1] - np.corrcoef(grey, unmoved)[0, 1])
    assert min(gains) > -1e-9 and np.median(gains) > 0.1, gains


# maps


def _places(count: int = 3) -> tuple[list[Place], NDArray[np.float64]]:
    """Places before a wall with 150 points, whose second image is the first under a known affine map, and so on."""
    points = RNG(5).uniform([5, 5], [95, 75], (150, 2))
    step = np.array([[1.05, 0.1, -4.0], [-0.08, 0.95, 6.0]])
    places = []
    for k in range(count):
        inside = np.flatnonzero(((points >= 0) & (points < [100, 80])).all(axis=1))
        n = len(inside)
        rest = np.ones((n, 4), np.float32), *np.ones((2, n), np.float32)
        features = LocalFeatures(points[inside].astype(np.float32), *rest, "test", (100, 80))
        places.append(Place(f"{k}.png", k, Pose.identity(), Pose.identity(), features, inside))
        points = points @ step[:, :2].T + step[:, 2]
    return places, step


def test_common_points_of_a_map_are_correspondences_and_fill_what_lies_between() -> None:
    places, step = _places()
    pairs = MapPairs(places, lambda name: picture(int(name[0]), 100, 80))
    assert pairs._pairs == [(0, 1), (0, 2), (1, 2)]
    pair = next(p for p in (pairs.pair(0, RNG(seed)) for seed in range(9)) if np.array_equal(p.image, picture(0, 100, 80)))
    wanted = pixel_centres(100, 80) @ step[:, :2].T + step[:, 2]
    assert 0.5 < pair.valid.mean() < 0.95 and np.abs(pair.points2_px - wanted)[pair.valid].max() < 0.15
    with pytest.raises(DataError, match="in the map 100x80"):
        MapPairs(places, lambda name: picture(0, 90, 80)).pair(0, RNG(0))
    with pytest.raises(DataError, match="points in common"):
        MapPairs(places[:1], lambda name: picture(0))


def test_where_points_are_far_apart_or_torn_only_their_pixels_are_known() -> None:
    corners = np.array([[10, 10], [90, 10], [10, 70], [90, 70]], np.float32)
    points, valid = filled(corners, corners + 3.25, (100, 80))
    assert valid.sum() == 4 and np.allclose(points[10, 10] - pixel_centres(100, 80)[10, 10], 3.25)
    near = np.array([[40, 40], [50, 40], [45, 50]], np.float32)
    assert filled(near, near + 1, (100, 80))[1].sum() > 40
    torn = near + np.array([[0, 0], [60, 0], [0, 0]], np.float32)
    mirrored = near * [-1, 1] + [90, 0]
    assert filled(near, torn, (100, 80))[1].sum() == filled(near, mirrored, (100, 80))[1].sum() == 3
    line = np.array([[10, 10], [20, 20], [30, 30], [40, 40]], np.float32)
    assert filled(line, line, (100, 80))[1].sum() == 4 and filled(line[:0], line[:0], (100, 80))[1].sum() == 0


@pytest.mark.slow
def test_a_map_of_a_town_gives_pairs(town_map, town_sequence, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for i, name in enumerate(town_sequence.names):
        write_image(tmp_path / name, town_sequence.image(i))
    data = map_pairs(town_map.folder, tmp_path, 0.2)
    assert len(data.pairs) >= 5 and len(data.held_out) == 2
    batch = FeaturePairs(FeaturePairs.Config(batch_size=4, crop_px=128), data.pairs).batch(0)
    assert (batch["valid"].flatten(1).sum(dim=1) > 50).all()
    with pytest.raises(DataError, match="recording that the map was built from"):
        map_pairs(town_map.folder, _other_images(tmp_path / "other"), 0.2)


def _other_images(folder: Path) -> Path:
    _scene(folder, 2)
    return folder


# folders


def test_folders_hold_some_images_out_and_leave_depth_alone(tmp_path: Path) -> None:
    _scene(tmp_path)
    data = folder_pairs([tmp_path, tmp_path], Warp(edge_px=(64, 80)), 48, 0.25)
    assert len(data.pairs) == 9 and len(data.held_out) == 3
    pair = data.pairs.pair(0, RNG(0))
    assert pair.image.shape == pair.image2.shape and pair.valid.mean() > 0.3


@pytest.mark.parametrize("count", [2, 3, 10, 97])
def test_held_out_items_are_never_trained_on(count: int) -> None:
    for split in (split_evenly, split_at_the_end):
        train, kept = split(range(count), 0.1)
        assert sorted([*train, *kept]) == list(range(count)) and train and len(kept) == max(1, round(count / 10))
        assert split(range(count), 0.0) == (list(range(count)), [])
        with pytest.raises(DataError, match="give more"):
            split([1], 0.1)
