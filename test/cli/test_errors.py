"""What goes wrong is one line that says what, where and what to do, and an exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ros2_loc.mapping.sparse_map import SparseMap


def one_line(err: str) -> bool:
    return err.startswith("ros2-loc: error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["map", "info", "/no/such/map"], 1, "is not a map"),
        (["map", "build", "/no/such/recording", "out"], 1, "/no/such/recording: no such file or folder"),
        (["map", "build", "/tmp", "out", "--pipeline", "quick"], 2, "there is no pipeline 'quick'; there are: "),
        (["map", "build", "/tmp", "out", "--set", "solver.min_inlier=3"], 2, "min_inlier"),
        (["map", "build", "/tmp", "out", "--set", "verbose"], 2, "give KEY=VALUE"),
        (["map", "export", "/tmp"], 2, "give --colmap DIR or --ply FILE"),
        (["convert", "kitti-odometry", "/no/such/folder", "bag"], 1, "/no/such/folder: no such folder"),
        (["convert", "kitti-raw", "/no/such/drive", "bag"], 1, "/no/such/drive"),
        (["convert", "kitti-odometry", "a", "b", "--jpeg-quality", "0"], 2, "give 1 to 100"),
        (["run", "map=/tmp"], 2, "did you mean map:=/tmp?"),
        (["run", "map:=/tmp", "map:=/tmp"], 2, "given twice"),
        (["run", "map:=/no/such/map"], 2, "no such map folder"),
        (["run", "mapp:=/tmp"], 2, "did you mean 'map'?"),
        (["play", "/no/such/bag"], 1, "/no/such/bag: no such bag"),
        (["evaluate", "split", "--images", "/no/such", "--map-every", "5"], 1, "/no/such: no such file or folder"),
        (["evaluate", "trajectory", "/no/such.json", "--truth", "/no/such"], 1, "/no/such"),
        (["demo", "--rate", "0"], 2, "--rate 0.0"),
        (["demo", "--out", "/etc"], 2, "/etc: holds something that is no demo of ours"),
    ],
)
def test_one_line(call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    said = call(*words)
    assert said.code == code and one_line(said.err) and expected in said.err, said
    assert not list(tmp_path.iterdir()), "something half-written is left"


def test_an_existing_map_is_not_overwritten(call: Callable, street_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "map").mkdir()
    said = call("map", "build", street_folder / "images", tmp_path / "map", "--camera", street_folder / "camera.yaml")
    assert said.code == 1 and one_line(said.err) and "exists already" in said.err


def test_images_without_poses_or_camera_say_what_to_give(call: Callable, street_folder: Path, tmp_path: Path) -> None:
    said = call("map", "build", street_folder / "images", tmp_path / "map")
    assert said.code == 1 and "camera" in said.err and one_line(said.err)
    said = call("map", "build", street_folder / "images", tmp_path / "map", "--camera", street_folder / "camera.yaml")
    assert said.code == 1 and "--poses FILE" in said.err and one_line(said.err)
    assert not list(tmp_path.iterdir())


def test_a_mounting_is_six_numbers(call: Callable, street_folder: Path, tmp_path: Path) -> None:
    said = call("map", "build", street_folder / "images", tmp_path / "map", "--mounting", "1,2,3")
    assert said.code == 2 and "six numbers" in said.err


def test_another_pipeline_than_the_maps_is_refused(call: Callable, town_map: SparseMap, street_folder: Path) -> None:
    said = call("localize", town_map.folder, street_folder / "images", "--camera", street_folder / "camera.yaml")
    assert said.code == 1 and one_line(said.err) and "encoder" in said.err


def test_ctrl_c_is_130_and_one_line(street_folder: Path, tmp_path: Path) -> None:
    words = ["map", "build", str(street_folder / "images"), str(tmp_path / "map"), "--camera", str(street_folder / "camera.yaml")]
    words += ["--poses", str(street_folder / "poses.tum")]
    process = subprocess.Popen(
        [sys.executable, "-m", "ros2_loc.cli.main", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline().startswith(str(street_folder))
    while process.poll() is None and not list(tmp_path.glob(".*/features.h5")):  # in the midst of its work
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == "ros2-loc: stopped" and "Traceback" not in err
    assert not (tmp_path / "map").exists()


def test_debug_shows_where(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ros2_loc.cli.main", "map", "info", str(tmp_path)],
        env={**os.environ, "ROS2_LOC_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in done.stderr and "DataError" in done.stderr
