"""`ros2-loc objects` as a user calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ros2_loc.io.detection_datasets import open_detection_dataset


@pytest.mark.slow
def test_synthesize(call: Callable, tmp_path: Path) -> None:
    out = tmp_path / "set"
    words = ("--seed", 4, "--extent", 200, "--size", 96, 64, "--count", 2, "--domains", "day,night", "--density", 0.3, 0.4)
    said = call("objects", "synthesize", out, *words)
    assert said.code == 0 and said.err == "" and "2 images with" in said.out
    dataset = open_detection_dataset(out)
    assert dataset.labels == ("car", "truck", "person", "cyclist") and dataset.image(1).shape == (64, 96, 3)
    other = call("objects", "synthesize", out, "--seed", 5)
    assert other.code == 2 and "other settings" in other.err and other.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--domains", "day,dark"), "there is no domain 'dark'"),
        (("--count", 0), "needs a domain, a town, a picture"),
        (("--density", 2, 1), "a positive density"),
        (("--extent", 90), "160 m of extent"),
    ],
)
def test_synthesize_wrongly(call: Callable, tmp_path: Path, words: tuple, said: str) -> None:
    answer = call("objects", "synthesize", tmp_path / "set", *words)
    assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1 and not (tmp_path / "set").exists()
