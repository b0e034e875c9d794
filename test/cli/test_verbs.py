"""The verbs on a small street: what they print, what they write, and that it is right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from ros2_loc import graph
from ros2_loc.cli.arguments import mounting
from ros2_loc.core.pose import BODY_FROM_OPTICAL
from ros2_loc.evaluation.records import Evaluation
from ros2_loc.io.trajectories import read_tum
from ros2_loc.mapping.sparse_map import SparseMap

SMALL = ["--set", "extractor.max_keypoints=800", "--set", "encoder.num_words=16"]


def source(folder: Path) -> list[object]:
    return [folder / "images", "--poses", folder / "poses.tum", "--camera", folder / "camera.yaml"]


@pytest.fixture(scope="module")
def street_map(street_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the command line from every second image."""
    from ros2_loc.cli.main import main

    out = tmp_path_factory.mktemp("cli_map") / "map"
    images, *options = source(street_folder)
    assert main([str(word) for word in ("map", "build", images, out, *options, "--every", 2, *SMALL)]) == 0
    return out


def test_a_built_map_is_a_map_of_the_street(street_map: Path, call: Callable) -> None:
    built = SparseMap.load(street_map)
    assert len(built.places) == 10 and len(built.points_m) > 300
    said = call("map", "info", street_map)
    assert said.code == 0
    for words in ("10", "points", "mean reprojection error", "mean track length", "mounting error found", "error model"):
        assert words in said.out


def test_check_finds_no_fault_in_a_good_map_and_names_the_file_of_a_bad_one(street_map: Path, tmp_path: Path, call: Callable) -> None:
    said = call("map", "check", street_map, *SMALL)
    assert said.code == 0 and "checksums are right" in said.out
    weak = call("map", "check", street_map, *SMALL, "--min-points", 100_000)
    assert weak.code == 0 and "10 of 10 places are weak" in weak.out
    other = call("map", "check", street_map)
    assert other.code == 1 and "encoder" in other.out
    shutil.copytree(street_map, tmp_path / "map")
    with (tmp_path / "map" / "features.h5").open("r+b") as file:
        file.truncate(1000)
    cut = call("map", "check", tmp_path / "map", *SMALL)
    assert cut.code == 1 and "features.h5" in cut.out and "cut short" in cut.out


def test_export_to_colmap_and_ply(street_map: Path, tmp_path: Path, call: Callable) -> None:
    said = call("map", "export", street_map, "--colmap", tmp_path / "colmap", "--text", "--ply", tmp_path / "points.ply")
    assert said.code == 0
    built, model = SparseMap.load(street_map), pycolmap.Reconstruction(str(tmp_path / "colmap"))
    assert model.num_reg_images() == 10 and model.num_points3D() == len(built.points_m)
    header, _, data = (tmp_path / "points.ply").read_bytes().partition(b"end_header\n")
    assert f"element vertex {len(built.points_m)}".encode() in header
    rows = np.frombuffer(data, dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    np.testing.assert_allclose(rows["xyz"], built.points_m, atol=1e-4)
    np.testing.assert_array_equal(rows["rgb"], built.point_colors)
    again = call("map", "export", street_map, "--colmap", tmp_path / "colmap")
    assert again.code == 1 and "exists already" in again.err


def test_localize_writes_trajectory_frames_and_report(street_map: Path, street_bag: Path, tmp_path: Path, call: Callable) -> None:
    files = {name: tmp_path / f"drive.{name}" for name in ("tum", "fused", "json", "html")}
    outputs = ["--trajectory", files["tum"], "--fused", files["fused"], "--json", files["json"], "--report", files["html"]]
    said = call("localize", street_map, street_bag, "--start", 1, "--every", 2, "--truth", *outputs, *SMALL)
    assert said.code == 0, said.err
    evaluation = Evaluation.read_json(files["json"])
    assert len(evaluation.frames) == 10 and evaluation.metrics.accepted >= 9
    assert evaluation.metrics.translation_m is not None and evaluation.metrics.translation_m.median < 0.1
    assert len(read_tum(files["tum"])) == evaluation.metrics.accepted
    assert len(read_tum(files["fused"])) >= 5 and "at the end TRACKING" in said.out
    assert files["html"].read_text().startswith("<!")

    scored = call("evaluate", "trajectory", files["json"], "--truth", street_bag, "--json", tmp_path / "scored.json")
    assert scored.code == 0 and f"{evaluation.metrics.accepted} of 10" in scored.out
    bare = call("evaluate", "trajectory", files["tum"], "--truth", street_bag, "--json", tmp_path / "bare.json")
    assert bare.code == 0
    errors = json.loads((tmp_path / "bare.json").read_text())
    assert errors["translation_m"]["rmse"] == pytest.approx(evaluation.metrics.translation_m.rmse, abs=1e-6)
    refused = call("evaluate", "trajectory", files["tum"], "--truth", street_bag, "--report", tmp_path / "r.html")
    assert refused.code == 2 and "covariances" in refused.err


def test_split_maps_one_part_and_asks_for_the_other(street_folder: Path, tmp_path: Path, call: Callable) -> None:
    images, *options = source(street_folder)
    out = ["--json", tmp_path / "split.json", "--report", tmp_path / "split.html", "--map", tmp_path / "map"]
    said = call("evaluate", "split", "--images", images, *options, "--map-every", 2, "--limit", 4, *out, *SMALL)
    assert said.code == 0, said.err
    evaluation = Evaluation.read_json(tmp_path / "split.json")
    mapped = {place.name for place in SparseMap.load(tmp_path / "map").places}
    assert len(evaluation.frames) == 4 and not mapped & {frame.name for frame in evaluation.frames}
    assert evaluation.metrics.accepted == 4 and not evaluation.metrics.wrong_and_confident
    content = json.loads((tmp_path / "split.json").read_text())["metrics"]
    assert {"recalls", "translation_m", "rejected", "wrong_and_confident", "nees_pose", "latency_s"} <= set(content)


@pytest.mark.parametrize(("every", "words"), [(1, "2 is the least"), (30, "too few")])
def test_a_split_without_a_second_part_is_refused(street_folder: Path, call: Callable, every: int, words: str) -> None:
    images, *options = source(street_folder)
    said = call("evaluate", "split", "--images", images, *options, "--map-every", every)
    assert said.code == 2 and words in said.err


def test_doctor_finds_a_good_bag_good(street_map: Path, street_bag: Path, call: Callable) -> None:
    said = call("doctor", "--map", street_map, "--bag", street_bag, *SMALL)
    lines = {line.split()[1]: line for line in said.out.splitlines() if line.strip()}
    for subject in ("map", "images", "calibration", "mounting", "odometry", "poses", "stamps", "qos"):
        assert lines[subject].startswith("ok"), lines[subject]
    assert said.code == (1 if "bad " in said.out else 0)


def test_doctor_names_what_is_wrong(street_folder: Path, tmp_path: Path, call: Callable) -> None:
    said = call("doctor", "--map", tmp_path, "--bag", street_folder / "images", "--quiet")
    assert said.code == 1
    assert "is not a map" in said.out
    assert "is no rosbag2" in said.out and "checks failed" in said.out


def test_components_lists_every_plugin(call: Callable) -> None:
    from ros2_loc.registry import TABLE

    said = call("components")
    assert said.code == 0 and all(name in said.out for rows in TABLE.values() for name in rows)
    assert "usable here" in said.out
    assert call("components", "--kind", "detector").code == 0


def test_run_shows_its_arguments_and_commands(street_map: Path, call: Callable) -> None:
    shown = call("run", "--show-args")
    assert all(f"{argument.name}:=" in shown.out for argument in graph.LOCALIZE.arguments)
    printed = call("run", "--print", f"map:={street_map}")
    assert printed.code == 0 and "ros2_loc.ros.map_localizer_node" in printed.out and "bag_player" not in printed.out


def test_nodes_without_ros_are_refused_in_one_line(street_map: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros2_loc.cli.ros_installation.has_package", lambda name: False)
    said = call("run", f"map:={street_map}")
    assert said.code == 1 and "there is no rclpy here" in said.err and said.err.count("\n") == 1


def test_demo_without_ros_asks_for_the_flag(tmp_path: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros2_loc.cli.ros_installation.has_package", lambda name: False)
    said = call("demo", "--out", tmp_path / "demo")
    assert said.code == 1 and "--offline" in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "demo").exists()


def test_a_mounting_is_where_the_cameras_body_sits() -> None:
    level = mounting("1,2,3,0,0,0")
    assert level is not None
    np.testing.assert_allclose(level.rotation, BODY_FROM_OPTICAL)
    np.testing.assert_allclose(level.translation, [1, 2, 3])
    left = mounting("0,0,0,0,0,90")
    assert left is not None
    np.testing.assert_allclose(left.rotation @ [0, 0, 1], [0, 1, 0], atol=1e-12)  # it looks to the left
    down = mounting("0,0,0,0,10,0")
    assert down is not None and (down.rotation @ [0, 0, 1])[2] < 0


@pytest.mark.slow
def test_split_of_kitti(shared_data: Path, tmp_path: Path, call: Callable) -> None:
    kitti = shared_data / "kitti" / "03"
    words = ["--images", kitti / "image_0", "--poses", kitti / "poses.txt", "--camera", kitti / "K.txt", "--stop", 30]
    assert call("evaluate", "split", *words, "--map-every", 5, "--json", tmp_path / "split.json").code == 0
    metrics = Evaluation.read_json(tmp_path / "split.json").metrics
    assert metrics.queries == 24 and metrics.recall(0.1, 0.5).of_all == 1.0 and not metrics.wrong_and_confident


@pytest.mark.slow
def test_another_place_is_rejected(shared_data: Path, tmp_path: Path, call: Callable) -> None:
    kitti = shared_data / "kitti"
    words = ["--images", kitti / "03", "--stop", 30, "--map-every", 5, "--queries-of", kitti / "06_frames0-50", "--limit", 10]
    assert call("evaluate", "split", *words, "--json", tmp_path / "split.json").code == 0
    assert Evaluation.read_json(tmp_path / "split.json").metrics.accepted == 0


@pytest.mark.slow
@pytest.mark.parametrize("offline", [True, False], ids=["offline", "nodes"])
def test_demo_on_kitti(shared_data: Path, tmp_path: Path, call: Callable, offline: bool) -> None:
    words = ["--kitti", shared_data / "kitti" / "03", "--stop", 60, "--out", tmp_path / "demo", "--rate", 0.5]
    said = call("demo", *words, *(["--offline"] if offline else []))
    assert said.code == 0, said.err
    evaluation = Evaluation.read_json(tmp_path / "demo" / "evaluation.json")
    assert evaluation.metrics.accepted >= 5 and not evaluation.metrics.wrong_and_confident
    assert (tmp_path / "demo" / "report.html").is_file() and "localize.rviz" in said.out
