"""`ros2-loc evaluate retrieval`: tables, files and pictures of a small call; wrong calls are one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ros2_loc.evaluation.retrieval_records import RetrievalEvaluation
from ros2_loc.io.images import write_image

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from place_cases import place, place_folder

VLAD = "encoder: {name: vlad, num_words: 8}\nextractor: {name: sift, max_keypoints: 200}\n"


@pytest.fixture
def methods(tmp_path: Path) -> str:
    """Two small methods as files."""
    (tmp_path / "small.yaml").write_text(VLAD)
    (tmp_path / "small_ransac.yaml").write_text(VLAD + "reranker: {name: local_features}\n")
    return f"{tmp_path / 'small.yaml'},{tmp_path / 'small_ransac.yaml'}"


def test_methods_side_by_side_are_printed_written_and_drawn(tmp_path: Path, methods: str, call: Callable) -> None:
    place_folder(tmp_path / "blocks")
    words = ["--methods", methods, "--out", tmp_path / "out", "--limit", 2, "--adaptive"]
    said = call("evaluate", "retrieval", tmp_path / "blocks", *words)
    assert said.code == 0, said.err
    assert "blocks: 6 places, queries: 2 queries, 2 dark; right: within 25 m" in said.out
    for told in ("blocks: recall", "blocks: R@1 by candidates", "blocks: adaptive re-ranking", "Time", "Memory", "small_ransac, adaptive"):
        assert told in said.out
    found = RetrievalEvaluation.read_json(tmp_path / "out" / "retrieval.json")
    assert [c.method for c in found.cells] == ["small", "small_ransac", "small_ransac, adaptive"]
    assert all(len(c.results) == 4 for c in found.cells) and found.settings["call"]["limit"] == 2
    assert {"commit", "machine", "ros2_loc"} <= set(found.settings)
    pictures = sorted((tmp_path / "out" / "pictures").glob("*.png"))
    assert len(pictures) == 8 and all(cv2.imread(str(p)).std() > 5 for p in pictures)
    assert (tmp_path / "out" / "retrieval.html").stat().st_size > 50_000


def test_images_without_truth_are_shown(tmp_path: Path, methods: str, call: Callable) -> None:
    for k in range(3):
        write_image(tmp_path / "toy" / "database" / f"{k}.png", place(k))
    write_image(tmp_path / "toy" / "queries" / "q.png", place(1))
    said = call("evaluate", "retrieval", tmp_path / "toy", "--methods", methods, "--out", tmp_path / "out", "--no-pictures")
    assert said.code == 0, said.err
    assert "right: no truth" in said.out and "No truth is known" in said.out and not (tmp_path / "out" / "pictures").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{blocks}", "--methods", "vlad"], "--out"),
        (["{blocks}", "--out", "{out}"], "--methods"),
        (["absent", "--methods", "vlad", "--out", "{out}"], "absent: no such file or folder"),
        (["{blocks}", "--methods", "vlaad", "--out", "{out}"], "there is no method 'vlaad'"),
        (["{blocks}", "--methods", "mine.yaml", "--out", "{out}"], "there is no method 'mine.yaml'"),
        (["{blocks}", "--methods", ",", "--out", "{out}"], "give at least one"),
        (["{blocks}", "--methods", "vlad,vlad", "--out", "{out}"], "comes twice"),
        (["{blocks}", "{blocks}", "--methods", "vlad", "--out", "{out}"], "two data sets are called 'blocks'"),
        (["{blocks}", "--methods", "vlad", "--out", "{out}", "--limit", "0"], "--limit 0"),
        (["{blocks}", "--methods", "vlad", "--out", "{out}", "--radius", "-1"], "--radius -1"),
        (["{blocks}", "--methods", "vlad", "--out", "{out}", "--candidates", "0"], "--candidates 0"),
        (["{blocks}", "--methods", "vlad", "--out", "{out}", "--radius", "1", "--answerable"], "no query has a positive"),
        (["{blocks}::{blocks}", "--methods", "vlad", "--out", "{out}"], "blocks"),
    ],
)
def test_wrong_calls_are_one_line(words: list[str], expected: str, tmp_path: Path, call: Callable) -> None:
    place_folder(tmp_path / "blocks")
    said = call("evaluate", "retrieval", *(word.format(blocks=tmp_path / "blocks", out=tmp_path / "out") for word in words))
    assert said.code in (1, 2) and expected in said.err and said.err.count("\n") == 1 and not said.out


def test_ctrl_c_leaves_what_is_done(tmp_path: Path, methods: str, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from ros2_loc.evaluation import retrieval as evaluation_of_retrieval

    place_folder(tmp_path / "blocks", domains=("",))

    def interrupted(*words: object) -> object:
        raise KeyboardInterrupt

    words = ["evaluate", "retrieval", tmp_path / "blocks", "--methods", methods, "--out", tmp_path / "out", "--no-pictures"]
    monkeypatch.setattr(evaluation_of_retrieval, "Reranking", interrupted)
    said = call(*words)
    assert said.code == 130 and "stopped" in said.err
    assert len(list((tmp_path / "out" / "parts" / "cells").glob("*.json"))) == 1
    monkeypatch.undo()
    assert call(*words).code == 0
