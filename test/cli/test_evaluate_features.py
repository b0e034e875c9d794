"""`ros2-loc evaluate features`: tables, files and pictures of a small call; wrong calls are one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ros2_loc.evaluation.features_records import FeaturesEvaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from feature_cases import hpatches_folder, image_folder


def test_extractors_side_by_side_are_printed_written_and_drawn(tmp_path: Path, call: Callable) -> None:
    hpatches_folder(tmp_path / "hp")
    out = ["--json", tmp_path / "e.json", "--report", tmp_path / "e.html", "--pictures", tmp_path / "pictures", "--keep", tmp_path / "kept"]
    words = ["--extractors", "sift:max_keypoints=300", "orb:max_keypoints=300", "--homographies", tmp_path / "hp", "--pairs", 2, *out]
    said = call("evaluate", "features", *words)
    assert said.code == 0, said.err
    assert "hp: HPatches" in said.out and "MMA 3 px" in said.out and "viewpoint" in said.out and "Time" in said.out
    found = FeaturesEvaluation.read_json(tmp_path / "e.json")
    assert [c.method for c in found.cells] == ["sift", "orb"] and all(len(c.results) == 2 for c in found.cells)
    assert found.settings["methods"]["sift"]["extractor"] == {"name": "sift", "max_keypoints": 300}
    assert {"commit", "machine", "ros2_loc"} <= set(found.settings) and len(list((tmp_path / "kept").glob("*.json"))) == 2
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 2 and all(cv2.imread(str(p)).std() > 5 for p in pictures)
    assert (tmp_path / "e.html").stat().st_size > 50_000
    again = call("evaluate", "features", *words)
    assert again.out == said.out


def test_images_without_truth_have_their_matches_counted(tmp_path: Path, call: Callable) -> None:
    said = call("evaluate", "features", "--extractors", "orb", "--two-view", image_folder(tmp_path / "pile", 3))
    assert said.code == 0, said.err
    assert "pile: pairs without truth" in said.out and "No truth" in said.out and "AUC" not in said.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--homographies", "hp"], "give --extractors"),
        (["--extractors", "sift"], "give data"),
        (["--extractors", "sift", "--homographies", "absent"], "absent"),
        (["--extractors", "sift", "--two-view", "absent"], "absent: no such file or folder"),
        (["--extractors", "sift", "--localization", "absent"], "absent: no such folder"),
        (["--extractors", "sieft", "--homographies", "{hp}"], "there is no extractor 'sieft'"),
        (["--extractors", "sift:colour=3", "--homographies", "{hp}"], "colour"),
        (["--extractors", "sift:max_keypoints=many", "--homographies", "{hp}"], "many"),
        (["--extractors", "sift", "sift", "--homographies", "{hp}"], "comes twice"),
        (["--extractors", "sift", "--matcher", "a", "b", "--homographies", "{hp}"], "give one, or one for each"),
        (["--extractors", "methods.yaml", "--homographies", "{hp}"], "methods.yaml: no such file"),
        (["--extractors", "sift", "--homographies", "{hp}", "{hp}"], "two data sets are called"),
        (["--extractors", "sift", "--homographies", "{hp}", "--pairs", "0"], "must be positive"),
        (["--extractors", "sift", "--homographies", "{hp}", "--submissions", "out"], "--submissions needs --localization"),
        (["--ablation", "a.pt", "b.pt", "--homographies", "{hp}"], "expected 3 arguments"),
    ],
)
def test_wrong_calls_are_one_line(words: list[str], expected: str, tmp_path: Path, call: Callable) -> None:
    hpatches_folder(tmp_path / "hp")
    said = call("evaluate", "features", *(word.format(hp=tmp_path / "hp") for word in words))
    assert said.code in (1, 2) and expected in said.err and said.err.count("\n") == 1 and not said.out


def test_ctrl_c_leaves_what_is_done(tmp_path: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from ros2_loc.evaluation import features as evaluation_of_features

    hpatches_folder(tmp_path / "hp")
    real, done = evaluation_of_features.measure, []

    def interrupted(*words: object, **named: object) -> object:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation_of_features, "measure", interrupted)
    words = ["--extractors", "orb", "orb:max_keypoints=100", "--homographies", tmp_path / "hp", "--pairs", 1, "--keep", tmp_path / "kept"]
    said = call("evaluate", "features", *words)
    assert said.code == 130 and "stopped" in said.err
    assert len(list((tmp_path / "kept").glob("*.json"))) == 1
    monkeypatch.setattr(evaluation_of_features, "measure", real)
    assert call("evaluate", "features", *words).code == 0
