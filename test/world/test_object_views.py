"""Sets of objects: COCO's format with exact boxes and masks, the same for the same settings, taken up after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.detection_datasets import open_detection_dataset
from ros2_loc.world.movers import LABELS
from ros2_loc.world.object_views import ObjectSet, write_object_set
from ros2_loc.world.objects import MIN_PIXELS, box_of

HOW = ObjectSet(seed=4, count=3, size_px=(160, 96), domains=("day", "drawn"), density=(0.5, 0.6), extent_m=200.0, patterns=1)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("objects") / "set"
    said: list[tuple[int, int]] = []
    count = write_object_set(out, HOW, progress=lambda done, total: said.append((done, total)))
    assert said == [(1, 3), (2, 3), (3, 3)] and count > 0
    return out


def test_boxes_and_masks_are_those_of_the_format(objects: Path) -> None:
    dataset = open_detection_dataset(objects)
    assert dataset.labels == LABELS and len(dataset) == 3 and dataset.has_masks
    for i, image in enumerate(dataset.images):
        assert dataset.image(i).shape == (96, 160, 3)
        masks = [dataset.mask(i, k) for k in range(len(image))]
        for k, mask in enumerate(masks):
            assert tuple(image.boxes[k].tolist()) == box_of(mask) and mask.sum() == image.object_areas[k] >= MIN_PIXELS
        assert not masks or np.sum(masks, axis=0).max() <= 1  # no pixel is two things


def test_annotations_say_what_is_hidden_and_what_moves(objects: Path) -> None:
    content = json.loads((objects / "annotations.json").read_text())
    assert {image["domain"] for image in content["images"]} <= set(HOW.domains)
    for row in content["annotations"]:
        small = max(row["bbox"][2:]) < HOW.min_side_px
        assert bool(row["iscrowd"]) == (row["visible_share"] < HOW.hidden_share or small)
        assert isinstance(row["moving"], bool) and row["track"] > 0


def test_an_interrupted_set_is_finished_and_may_grow(objects: Path) -> None:
    before = {path: path.read_bytes() for path in (objects / "images").iterdir()}
    annotations = (objects / "annotations.json").read_bytes()
    victim, kept = sorted(before)[1:3]
    stamp = kept.stat().st_mtime_ns
    victim.unlink()
    write_object_set(objects, HOW)
    assert victim.read_bytes() == before[victim] and kept.stat().st_mtime_ns == stamp
    assert (objects / "annotations.json").read_bytes() == annotations
    write_object_set(objects, replace(HOW, count=4))
    assert len(open_detection_dataset(objects)) == 4 and kept.stat().st_mtime_ns == stamp


def test_folders_of_other_settings_are_refused(objects: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="other settings \\(seed\\)"):
        write_object_set(objects, replace(HOW, seed=5))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no set of objects"):
        write_object_set(tmp_path, HOW)
    (tmp_path / "mine.txt").rename(tmp_path / "objects.json")
    with pytest.raises(DataError, match="is damaged"):
        write_object_set(tmp_path, HOW)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"domains": ("dark",)}, "no domain 'dark'"),
        ({"domains": ()}, "needs a domain"),
        ({"count": 0}, "a picture"),
        ({"density": (2.0, 1.0)}, "a positive density"),
    ],
)
def test_settings_that_can_not_be(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ObjectSet(**values)


@pytest.mark.slow
def test_processes_write_the_same(objects: Path, tmp_path: Path) -> None:
    write_object_set(tmp_path / "set", replace(HOW, count=4), workers=2)
    for path in (objects / "images").iterdir():
        assert (tmp_path / "set" / "images" / path.name).read_bytes() == path.read_bytes()
