"""`ros2-loc evaluate cross-view` on a street of the small town with an untrained network: all of it runs, and says what it needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ros2_loc.evaluation.cross_view_records import CrossViewEvaluation

NETWORK = {"cells": 16, "tile_px": 64, "image_px": (32, 64), "descriptor_channels": 2}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the town of `street_bag`."""
    from ros2_loc.mapping.tile_database import TileDatabase
    from ros2_loc.world.imagery import Imagery, town_mosaic
    from ros2_loc.world.layout import TownSize
    from ros2_loc.world.town import Town

    town = Town.generate(5, TownSize.small())
    mosaic = town_mosaic(town, 1.6, imagery=Imagery.plain())
    folder = tmp_path_factory.mktemp("tiles") / "town"
    TileDatabase.build(mosaic, town.origin, TileDatabase.Layout(1.6, 64, 10.0, min_valid=0.3), {}).save(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained variants."""
    from ros2_loc.models.cvlnet import CVLNet, random
    from ros2_loc.models.weights import save_model

    folder = tmp_path_factory.mktemp("models")
    about = {"recipe": "none", "seed": 0, "licence": "Apache-2.0"}
    for name, shifts in (("ours", True), ("no_ssm", False)):
        save_model(folder / f"{name}.safetensors", random(CVLNet.Config(**NETWORK, shifts=shifts), 0), about)
    return folder


@pytest.mark.slow
def test_single_shots_are_printed_written_and_drawn(street_bag: Path, tiles: Path, models: Path, tmp_path: Path, call: Callable) -> None:
    words = ["--drives", street_bag, "--tiles", tiles, "--weights", models / "ours.safetensors", "--frames", 1, 2, "--frame-spacing", 3]
    out = ["--json", tmp_path / "e.json", "--report", tmp_path / "e.html", "--pictures", tmp_path / "pictures"]
    said = call("evaluate", "cross-view", *words, "--queries", 4, *out)
    assert said.code == 0, said.err
    assert "Recall: within 10 m" in said.out and "2 frames" in said.out and "Displacement" in said.out
    found = CrossViewEvaluation.read_json(tmp_path / "e.json")
    assert [s.frames for s in found.single] == [1, 2] and all(len(s.queries) == 4 for s in found.single)
    settings = json.loads((tmp_path / "e.json").read_text())["settings"]
    assert settings["model"]["fingerprint"].startswith("cvlnet:") and settings["QueryConfig"]["frame_spacing_m"] == 3.0
    assert {"commit", "machine", "ros2_loc"} <= set(settings)
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) >= 2 and all(cv2.imread(str(p)).std() > 5 for p in pictures)
    assert (tmp_path / "e.html").stat().st_size > 100_000


@pytest.mark.slow
def test_ablation_says_what_is_missing(street_bag: Path, tiles: Path, models: Path, tmp_path: Path, call: Callable) -> None:
    words = ["--drives", street_bag, "--tiles", tiles, "--models", models, "--queries", 2, "--frame-spacing", 2]
    said = call("evaluate", "cross-view", *words, "--ablation", "ssm", "views", "--json", tmp_path / "a.json")
    assert said.code == 0, said.err
    assert "no network for: w/o U;" in said.out and "no network for: w/o GVP (U-Net), w/o GVP;" in said.out and "(21.8)" in said.out
    assert CrossViewEvaluation.read_json(tmp_path / "a_ssm.json").missing == ("w/o U",)
    assert (tmp_path / "a_views.json").is_file()


@pytest.mark.slow
def test_runs_of_the_filter(street_bag: Path, tiles: Path, models: Path, tmp_path: Path, call: Callable) -> None:
    words = ["--drives", street_bag, "--tiles", tiles, "--weights", models / "ours.safetensors", "--filter", "--runs", 1]
    said = call("evaluate", "cross-view", *words, "--run-length", 20, "--only-measured", "--json", tmp_path / "f.json")
    assert said.code == 0, said.err
    assert "as measured" in said.out and "after 100 m" in said.out
    (condition,) = CrossViewEvaluation.read_json(tmp_path / "f.json").filters
    assert len(condition.runs) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--drives", "town:west"], "--drives town:west: give a seed"),
        (["--drives", "some_bag"], "need --tiles DIR"),
        (["--drives", "list.txt", "--tiles", "t"], "needs --kitti-raw DIR"),
        (["--drives", "town:1", "--ablation", "ssm"], "--ablation and --models belong together"),
        (["--drives", "town:1", "--ablation", "ssm", "--models", "m", "--filter"], "three things"),
        (["--drives", "town:1", "--frames", "0"], "must be positive"),
        (["--drives", "town:1", "--weights", "absent.safetensors"], "absent.safetensors"),
        (["--drives", "town:1", "--ablation", "ssm", "--models", "absent"], "absent: is no folder"),
        (["--drives", "absent_bag", "--tiles", "absent_tiles"], "absent"),
        (["--drives", "town:1", "--ablation", "colours", "--models", "m"], "invalid choice: 'colours'"),
    ],
)
def test_wrong_calls_are_one_line(words: list[str], expected: str, models: Path, call: Callable) -> None:
    weights = [] if "--weights" in words else ["--weights", models / "ours.safetensors"]
    said = call("evaluate", "cross-view", *words, *weights)
    assert said.code in (1, 2) and expected in said.err and said.err.count("\n") == 1
