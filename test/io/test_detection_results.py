"""Detections in COCO's form: what pycocotools reads of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.labels import COCO as COCO_LABELS
from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError
from ros2_loc.io.detection_results import DetectionResults


def found(label: str, mask: np.ndarray | None = None) -> Detection:
    return Detection(np.array([10.25, 20.0, 40.0, 60.5], np.float32), label, 0.75, mask)


def test_pycocotools_reads_what_was_found(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed: pip install pycocotools")
    mask = np.random.default_rng(0).random((80, 100)) > 0.5
    results = DetectionResults(("car", "person"), {"detector": "test"})
    results.add("a.png", (100, 80), [found("person", mask), found("car")])
    results.add("b.png", (100, 80), [])
    path = results.write(tmp_path / "out")
    read = coco.COCO(str(path.with_name("images.json"))).loadRes(str(path))
    assert [image["file_name"] for image in read.loadImgs([1, 2])] == ["a.png", "b.png"]
    first, second = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert first["bbox"] == [10.25, 20.0, 29.75, 40.5] and first["score"] == 0.75
    assert [read.cats[one["category_id"]]["name"] for one in (first, second)] == ["person", "car"]
    np.testing.assert_array_equal(read.annToMask(first), mask)
    assert len(results) == 2 and not read.getAnnIds(imgIds=[2])


def test_names_and_classes_of_coco_keep_their_numbers(tmp_path: Path) -> None:
    results = DetectionResults(COCO_LABELS)
    results.add("val2017/000000000139.jpg", (64, 48), [found("toothbrush")])
    (row,) = json.loads(results.write(tmp_path).read_text())
    assert (row["image_id"], row["category_id"]) == (139, 90) and "segmentation" not in row


def test_a_label_of_nobody_is_refused() -> None:
    with pytest.raises(DataError, match="'tank' is none of the detector's labels: car"):
        DetectionResults(("car",)).add("a.png", (9, 9), [found("tank")])
