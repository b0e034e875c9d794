"""`ros2-loc evaluate detection`: tables, files and pictures of a small call; wrong calls are one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ros2_loc.evaluation.detection_records import DetectionEvaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from detection_cases import blobs, register_oracle


@pytest.fixture(autouse=True)
def oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A detector that knows the folder `blobs`."""
    register_oracle(monkeypatch)
    blobs(tmp_path / "blobs", 4)
    return f"oracle:truth={tmp_path / 'blobs'}"


def test_methods_side_by_side_are_printed_written_and_drawn(tmp_path: Path, oracle: str, call: Callable) -> None:
    words = ["--dataset", tmp_path / "blobs", "--detector", oracle, f"{oracle},miss=0.4,made_up=2", "--out", tmp_path / "out"]
    said = call("evaluate", "detection", *words, "--pictures", 2)
    assert said.code == 0, said.err
    for title in ("Average precision", "Average recall", "False discovery", "Mistakes", "Where to cut", "Labels", "PASCAL, IoU 0.7"):
        assert f"\n{title}\n" in said.out
    assert "blobs: 4 images" in said.out
    evaluation = DetectionEvaluation.read_json(tmp_path / "out" / "detection.json")
    assert [cell.scores is not None for cell in evaluation.cells] == [True, True]
    assert {"commit", "machine", "ros2_loc", "methods", "call"} <= set(evaluation.settings)
    pictures = sorted((tmp_path / "out" / "pictures").glob("*.png"))
    assert len(pictures) == 4 and all(cv2.imread(str(p)).std() > 5 for p in pictures)
    assert (tmp_path / "out" / "detection.html").stat().st_size > 50_000
    results = [json.loads(p.read_text()) for p in sorted((tmp_path / "out" / "detections").glob("*.json"))]
    assert len(results) == 2 and set(results[0][0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take their time, and are looked at above."""
    monkeypatch.setattr("ros2_loc.evaluation.report.detection_figures.png", lambda height_in, draw: b"")


@pytest.mark.usefixtures("no_plots")
def test_files_of_detections_alone(tmp_path: Path, oracle: str, call: Callable) -> None:
    folder = ["--dataset", tmp_path / "blobs", "--out", tmp_path / "out"]
    assert call("evaluate", "detection", *folder, "--detector", oracle, "--pictures", 0).code == 0
    file = next((tmp_path / "out" / "detections").glob("*.json"))
    said = call("evaluate", "detection", *folder, "--detections", f"again={file}", "--pictures", 0, "--same", "truck=car")
    assert said.code == 0 and "again" in said.out and "\nTime\n" not in said.out
    assert not (tmp_path / "out" / "pictures").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--dataset", "{set}", "--detector", "oracle"], "--out"),
        (["--detector", "oracle", "--out", "{out}"], "--dataset"),
        (["--dataset", "{set}", "--out", "{out}"], "nothing to evaluate"),
        (["--dataset", "absent", "--detector", "{oracle}", "--out", "{out}"], "absent: no such folder or file"),
        (["--dataset", "{set}", "--detector", "{oracle}", "--out", "{out}", "--kind", "voc"], "kind 'voc'"),
        (["--dataset", "{set}", "--detector", "{oracle}", "--out", "{out}", "--limit", "0"], "--limit 0"),
        (["--dataset", "{set}", "--detector", "{oracle}", "--out", "{out}", "--same", "car"], "--same car: give A=B"),
        (["--dataset", "{set}", "--detector", "{oracle},labels=[x]", "--out", "{out}"], "no label in common"),
        (["--dataset", "{set}", "--detector", "centrenet", "--out", "{out}"], "centrenet"),
        (["--dataset", "{set}", "--detections", "{set}/annotations.json", "--out", "{out}"], "is no list of results"),
    ],
)
def test_wrong_calls_are_one_line(words: list[str], expected: str, tmp_path: Path, oracle: str, call: Callable) -> None:
    given = {"set": tmp_path / "blobs", "out": tmp_path / "out", "oracle": oracle}
    said = call("evaluate", "detection", *(word.format(**given) for word in words))
    assert said.code in (1, 2) and expected in said.err and said.err.count("\n") == 1 and not said.out


@pytest.mark.usefixtures("no_plots")
def test_boxes_without_an_area_are_told(tmp_path: Path, oracle: str, call: Callable) -> None:
    file = tmp_path / "blobs" / "annotations.json"
    content = json.loads(file.read_text())
    content["annotations"].append({"id": 999, "image_id": 1, "category_id": 1, "bbox": [5, 5, 0, 3]})
    file.write_text(json.dumps(content))
    words = ["--dataset", tmp_path / "blobs", "--detector", oracle, "--out", tmp_path / "out", "--pictures", 0]
    said = call("evaluate", "detection", *words)
    assert said.code == 0 and "1 without an area left out" in said.out
    said = call("evaluate", "detection", *words, "--strict")
    assert said.code == 1 and "annotations.json: annotation 999: box 5, 5, 5, 8 has no area" in said.err
