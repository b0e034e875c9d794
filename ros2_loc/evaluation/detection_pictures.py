"""What detectors saw, missed and made up, drawn on the images that tell most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Detection
from ros2_loc.evaluation import detection_matching as dm
from ros2_loc.evaluation.detection import Measured
from ros2_loc.evaluation.detection_records import DetectionCell
from ros2_loc.io.coco import mask_of_rle
from ros2_loc.io.coco_results import FoundObjects
from ros2_loc.io.images import RGB
from ros2_loc.io.labelled_images import DetectionDataset
from ros2_loc.visualization.colors import GRAY, Color
from ros2_loc.visualization.detections import Drawing, draw_detections

IMAGES = 4
_LEAST_PX = 960  # pictures of narrow images are enlarged
# brighter than those of plots: they lie on photographs
_COLORS: dict[str, Color] = {"right": (52, 211, 110), "wrong": (248, 60, 60), "missed": (255, 176, 32), "ignored": GRAY}


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One image as one method sees it; `picture` is (H, W, 3) uint8 RGB, `file` a name for it without suffix."""

    method: str
    image: str
    caption: str
    picture: RGB

    @property
    def file(self) -> str:
        """Letters, digits, and what else a file's name may have."""
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{self.image.rpartition('.')[0]}_{self.method}")


def pictures_of(measured: Measured, count: int = IMAGES) -> list[Shown]:
    """`count` images, each with what every method made of it.

    Chosen are those on which the methods differ most; with one method, some from its worst to its best. Shown are detections from the
    score on that makes the method's best F1. Green: right at IoU 0.5; red: wrong; amber: missed; gray: ignored.
    """
    shown = [(cell, found) for cell, found in zip(measured.cells, measured.found, strict=True) if found is not None]
    kept = [[f.subset(f.scores >= _cut(cell)) for f in found] for cell, found in shown]
    drawn = []
    for k in telling_images(measured.dataset, kept, count):
        image = measured.dataset.images[k]
        for (cell, _), found in zip(shown, kept, strict=True):
            picture, counts = _draw(measured.dataset, k, found[k])
            said = ", ".join(f"{counts[word]} {word}" for word in ("right", "wrong", "missed"))
            drawn.append(Shown(cell.method, image.name, f"{cell.method}: {said}, scores from {_cut(cell):.2f}", picture))
    return drawn


def telling_images(dataset: DetectionDataset, found: Sequence[Sequence[FoundObjects]], count: int) -> list[int]:
    """Indices of images: by how much the methods differ, or with one method evenly from the worst to the best."""
    worth = np.array([[_worth(dataset, k, f) for k, f in enumerate(of)] for of in found])
    busy = np.flatnonzero([len(i) > 0 or any(len(of[k]) for of in found) for k, i in enumerate(dataset.images)])
    if worth.size == 0 or not len(busy):
        return []
    if len(found) > 1 and (spread := worth.max(axis=0) - worth.min(axis=0)).max() > 0:
        return [int(k) for k in np.argsort(-spread, kind="stable")[:count]]
    ordered = busy[np.argsort(worth[0][busy], kind="stable")]
    return [int(ordered[k]) for k in np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))]


def _worth(dataset: DetectionDataset, k: int, found: FoundObjects) -> int:
    image = dataset.images[k]
    verdicts = dm.match_coco(image, found).verdicts
    right = int((verdicts == dm.RIGHT).sum())
    return right - int((verdicts == dm.WRONG).sum()) - (int((~image.ignored).sum()) - right)


def _draw(dataset: DetectionDataset, k: int, found: FoundObjects) -> tuple[RGB, dict[str, int]]:
    image = dataset.images[k]
    pairs = dm.match_coco(image, found)
    taken = np.zeros(len(image), dtype=bool)
    taken[pairs.objects[pairs.objects >= 0]] = True
    groups = {
        "ignored": _of_truth(dataset, k, image.ignored),
        "missed": _of_truth(dataset, k, ~taken & ~image.ignored),
        "wrong": _of_found(dataset, found.subset(pairs.verdicts == dm.WRONG)),
        "right": _of_found(dataset, found.subset(pairs.verdicts == dm.RIGHT)),
    }
    everything, colors, texts = [], [], []
    for word, color in _COLORS.items():
        for one in groups[word]:
            everything.append(one)
            colors.append(color)
            is_found = word in ("right", "wrong")
            texts.append(f"{one.label} {100 * one.score:.0f}" if is_found else f"missed {one.label}" if word == "missed" else "")
    scale = max(1.0, min(4.0, _LEAST_PX / image.size[0]))
    picture = draw_detections(dataset.image(k), everything, Drawing(scale=scale), colors, texts)
    return picture, {word: len(group) for word, group in groups.items()}


def _of_truth(dataset: DetectionDataset, k: int, chosen: NDArray[np.bool_]) -> list[Detection]:
    image = dataset.images[k]
    found = []
    for n in np.flatnonzero(chosen):
        rle, label = image.masks[n], int(image.labels[n])
        found.append(Detection(image.boxes[n], dataset.labels[label] if label >= 0 else "", 1.0, None if rle is None else mask_of_rle(rle)))
    return found


def _of_found(dataset: DetectionDataset, found: FoundObjects) -> list[Detection]:
    masks = [None if rle is None else mask_of_rle(rle) for rle in found.masks]
    return [Detection(found.boxes[n], dataset.labels[int(found.labels[n])], float(found.scores[n]), masks[n]) for n in range(len(found))]


def _cut(cell: DetectionCell) -> float:
    return 0.0 if cell.scores is None or cell.scores.operating is None else cell.scores.operating.min_score
