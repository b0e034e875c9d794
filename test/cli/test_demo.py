"""`ros2-loc demo`: what it leaves out and says, and one whole run without nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ros2_loc.errors import DataError
from ros2_loc.evaluation.records import Evaluation
from ros2_loc.io.images import read_image
from ros2_loc.mapping.tile_database import TileDatabase


def stop(*_: Any) -> None:
    raise DataError("that is enough")


def test_without_the_packages_of_networks_one_line_says_what_is_left_out(
    tmp_path: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ros2_loc.cli.ros_installation.has_package", lambda name: name != "torch")
    monkeypatch.setattr("ros2_loc.cli.demo_stages.record", stop)
    said = call("demo", "--offline", "--out", tmp_path / "demo")
    assert said.code == 1 and said.err == "ros2-loc: error: that is enough\n"
    assert said.out.startswith("without cross_view_localizer, which needs torch: ") and "pip install torch" in said.out
    assert said.out.count("\n") == 1 and not (tmp_path / "demo" / "cross_view.yaml").exists()


def test_the_pipelines_lie_beside_the_results(tmp_path: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros2_loc.cli.ros_installation.has_package", lambda name: True)
    monkeypatch.setattr("ros2_loc.cli.demo_stages.record", stop)
    assert call("demo", "--offline", "--out", tmp_path / "demo", "--set", "solver.min_inliers=17").out == ""
    assert "min_inliers: 17" in (tmp_path / "demo" / "pipeline.yaml").read_text()
    assert "weights: small" in (tmp_path / "demo" / "cross_view.yaml").read_text()
    assert call("demo", "--offline", "--out", tmp_path / "kitti", "--kitti", tmp_path).out == ""
    assert not (tmp_path / "kitti" / "cross_view.yaml").exists()  # KITTI comes without imagery


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_both_localizers_in_one_town(tmp_path: Path, call: Callable) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install torch torchvision timm safetensors tensorboard")
    out = tmp_path / "demo"
    said = call("demo", "--offline", "--out", out)
    assert said.code == 0, said.err
    assert len(TileDatabase.load(out / "tiles")) > 500
    worth = json.loads((out / "localizers.json").read_text())
    mapped, others = worth["on mapped streets"], worth["on streets that are not in the map"]
    assert mapped["map_localizer"]["answered"] > 0.95 * mapped["map_localizer"]["asked"]
    assert mapped["map_localizer"]["position_m"]["p95"] < 0.1
    assert others["map_localizer"]["answered"] <= 0.05 * others["map_localizer"]["asked"]  # mapped houses come into sight before the street
    assert others["cross_view_localizer"]["answered"] > 0.8 * others["cross_view_localizer"]["asked"] > 10
    assert others["cross_view_localizer"]["position_m"]["p95"] < 10.0
    assert others["pose_fusion"]["answered"] > 0.95 * others["pose_fusion"]["asked"]
    assert others["pose_fusion"]["position_m"]["p95"] < 5.0
    assert sum(of["wrong_and_confident"] for stretch in worth.values() for of in stretch.values()) == 0
    assert len(Evaluation.read_json(out / "evaluation.json").frames) > 100
    assert min(read_image(out / "localizers.png").shape[:2]) > 800 and (out / "report.html").is_file()
    assert "cross_view_localizer" in said.out and "tiles:=" in said.out
