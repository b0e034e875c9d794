"""`ros2-loc detect`: lines, pictures, COCO results; a detector that finds what is red stands for the networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros2_loc import registry
from ros2_loc.core.types import Detection, Frame
from ros2_loc.io.images import read_image, write_image


class FindsRed:
    """A car where the image is red, and a person of low score beside it."""

    @dataclass(frozen=True)
    class Config:
        weights: str = ""
        size: int = 1

    name = "red"
    labels = ("car", "person")
    batch_size = 2

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config

    def detect(self, frame: Frame) -> list[Detection]:
        mask = (frame.image[..., 0] > 200) & (frame.image[..., 1] < 90)
        if not mask.any():
            return []
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        box = np.array([x, y, x + w, y + h], np.float32)
        return [Detection(box, "car", 0.9, mask), Detection(box * np.float32(0.5), "person", 0.2, None)]

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        assert len(frames) <= self.batch_size
        return [self.detect(frame) for frame in frames]


@pytest.fixture(autouse=True)
def _red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TABLE["detector"], "red", registry.Component(f"{__name__}:FindsRed", "finds what is red"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two with a red car, one without anything."""
    for k, box in enumerate([(10, 20, 30, 60), None, (0, 0, 100, 80)]):
        image = np.full((80, 600, 3), 120, np.uint8)
        if box:
            x0, y0, x1, y1 = box
            image[y0:y1, x0:x1] = (255, 0, 0)
        write_image(tmp_path / "images" / f"{k}.png", image)
    return tmp_path / "images"


def test_each_image_gets_a_line_a_picture_and_rows(call: Callable, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    said = call("detect", images, "--detector", "red", "--out", out)
    assert said.code == 0 and not said.err, said
    lines = said.out.splitlines()
    assert [line.partition("  (")[0] for line in lines[:3]] == ["0.png: 1 car", "1.png: nothing", "2.png: 1 car"]
    assert lines[3] == f"3 images: 2 car; in {out}" and len(lines) == 4
    assert sorted(file.name for file in out.iterdir()) == ["0.jpg", "1.jpg", "2.jpg", "detections.json", "images.json"]
    picture = read_image(out / "0.jpg")
    assert picture.shape == (80, 600, 3) and int(picture[30, 20, 2]) > 60  # the mask's blue on red
    rows = json.loads((out / "detections.json").read_text())
    told = [(row["image_id"], row["category_id"], round(row["score"], 4)) for row in rows]
    assert told == [(0, 1, 0.9), (0, 2, 0.2), (2, 1, 0.9), (2, 2, 0.2)]
    assert rows[0]["bbox"] == [10.0, 20.0, 20.0, 40.0]
    assert json.loads((out / "images.json").read_text())["info"]["detector"] == {"name": "red"}


def test_only_some_labels_and_no_pictures(call: Callable, images: Path, tmp_path: Path) -> None:
    words = ["--labels", "person", "--min-score", 0.1, "--no-pictures", "--set", "size=2", "--out", tmp_path / "found"]
    said = call("detect", images / "0.png", "--detector", "red", *words)
    assert said.code == 0 and said.out.startswith("0.png: 1 person")
    assert [row["category_id"] for row in json.loads((tmp_path / "found" / "detections.json").read_text())] == [2]
    assert not list((tmp_path / "found").glob("*.jpg"))


def test_damaged_images_are_named_and_the_others_go_on(call: Callable, images: Path, tmp_path: Path) -> None:
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:60])
    (images / "5.jpg").write_bytes(b"no image")
    said = call("detect", images, "--detector", "red", "--out", tmp_path / "found")
    assert said.code == 1 and said.err.count("\n") == 2 and "0.png" in said.err and "5.jpg" in said.err
    assert "2.png: 1 car" in said.out and "2 images: 1 car" in said.out


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["images", "--out", "found", "--detector", "nobody"], 2, "there is no detector 'nobody'; there are:"),
        (["images", "--out", "images", "--detector", "red"], 2, "--out images: holds images that are to be looked at"),
        (["images", "--out", "found", "--detector", "red", "--labels", "car,tank"], 2, "'tank' is unknown to these weights, they have"),
        (["images", "--out", "found", "--detector", "red", "--set", "colour=1"], 2, "colour"),
        (["images", "--out", "found", "--detector", "red", "--set", "size"], 2, "give KEY=VALUE"),
        (["images", "--out", "found", "--detector", "red", "--every", "0"], 2, "--every is 1 or more"),
        (["nothing.png", "--out", "found", "--detector", "red"], 1, "nothing.png: no such file"),
    ],
)
def test_one_line(
    call: Callable, images: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, expected: str
) -> None:
    monkeypatch.chdir(images.parent)
    said = call("detect", *words)
    assert said.code == code and said.err.count("\n") == 1 and expected in said.err, said
    assert not (images.parent / "found").exists()
