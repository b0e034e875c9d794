"""Pictures of blobs with exact boxes and masks, and a detector that knows the truth and spoils it as much as it is told."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros2_loc import registry
from ros2_loc.core.types import Detection, Frame
from ros2_loc.io.coco import rle_of_mask, write_coco
from ros2_loc.io.coco_results import FoundObjects
from ros2_loc.io.detection_datasets import open_detection_dataset
from ros2_loc.io.images import write_image
from ros2_loc.io.labelled_images import DetectionDataset, LabelledImage, Rle

LABELS = ("car", "truck", "person")
_COLORS = ((40, 90, 200), (210, 120, 30), (200, 40, 90))


def image_of(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    ignored: Sequence[bool] | None = None,
    size: tuple[int, int] = (100, 100),
    name: str = "a.png",
    masks: Sequence[Rle | None] | None = None,
    number: int = 1,
) -> LabelledImage:
    """An image that nobody has to read."""
    return LabelledImage(
        name=name,
        path=Path(name),
        size=size,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        ignored=np.array(ignored if ignored is not None else [False] * len(labels), dtype=bool),
        masks=tuple(masks or [None] * len(labels)),
        id=number,
    )


def set_of(*images: LabelledImage, labels: tuple[str, ...] = LABELS) -> DetectionDataset:
    """A data set of such images."""
    return DetectionDataset("cases", labels, tuple(images), Path("cases"))


def found(*rows: tuple[Sequence[float], int, float]) -> FoundObjects:
    """Detections (box, label, score)."""
    return FoundObjects.of_rows((box, label, score, None) for box, label, score in rows)


def blobs(folder: Path, count: int = 6, seed: int = 0, size: tuple[int, int] = (160, 120), objects: int = 4) -> DetectionDataset:
    """`count` pictures of ellipses as a COCO folder; the last shows none."""
    rng = np.random.default_rng(seed)
    images = []
    for k in range(count):
        picture = rng.integers(90, 160, (size[1], size[0], 3), dtype=np.uint8)
        masks, labels = [], []
        for _ in range(0 if k == count - 1 else objects):
            label = int(rng.integers(len(LABELS)))
            centre = (int(rng.integers(15, size[0] - 15)), int(rng.integers(15, size[1] - 15)))
            axes = tuple(int(v) for v in rng.integers(6, 22, 2))
            mask = cv2.ellipse(np.zeros(picture.shape[:2], np.uint8), centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
            picture[mask > 0] = _COLORS[label]
            masks = [m & (mask == 0) for m in masks] + [mask > 0]
            labels.append(label)
        kept = [(m, label) for m, label in zip(masks, labels, strict=True) if m.sum() > 20]
        write_image(folder / "images" / f"{k:03d}.png", picture)
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (cv2.boundingRect(m.astype(np.uint8)) for m, _ in kept)]
        image = image_of(boxes, [label for _, label in kept], None, size, f"{k:03d}.png", [rle_of_mask(m) for m, _ in kept], k + 1)
        images.append(image)
    write_coco(folder, DetectionDataset(folder.name, LABELS, tuple(images), folder / "images"))
    return open_detection_dataset(folder)


class Oracle:
    """Knows an image by its bytes; misses, shifts, mislabels and makes up objects, the same for the same image."""

    @dataclass(frozen=True)
    class Config:
        """Shares of objects; `shift` of their size."""

        truth: str = ""
        miss: float = 0.0
        shift: float = 0.0
        mislabel: float = 0.0
        made_up: int = 0
        masks: bool = True
        labels: tuple[str, ...] = ()
        min_score: float = 0.3
        batch_size: int = 2

    asked = 0

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.name, self.batch_size, self._config = "oracle", config.batch_size, config
        self._truth = open_detection_dataset(config.truth)
        self.labels = config.labels or self._truth.labels
        self._known = {_hash(self._truth.image(i)): i for i in range(len(self._truth))}

    def detect(self, frame: Frame) -> list[Detection]:
        return self.detect_many([frame])[0]

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        type(self).asked += len(frames)
        return [self._detect(frame.image) for frame in frames]

    def _detect(self, image: np.ndarray) -> list[Detection]:
        config, i = self._config, self._known[_hash(image)]
        rng = np.random.default_rng(i)
        truth, rows = self._truth.images[i], []
        for k in np.flatnonzero(~truth.ignored):
            drawn = rng.uniform(size=2)
            box = truth.boxes[k] + rng.normal(0, 1, 4) * config.shift * np.tile(truth.boxes[k][2:] - truth.boxes[k][:2], 2)
            if drawn[0] < config.miss or (box[2:] <= box[:2]).any():
                continue
            label = self.labels[(int(truth.labels[k]) + (drawn[1] < config.mislabel)) % len(self.labels)]
            mask = self._truth.mask(i, int(k)) if config.masks else None
            rows.append(Detection(box.astype(np.float32), label, float(rng.uniform(0.5, 1.0)), mask))
        for _ in range(config.made_up):
            x, y = rng.uniform(0, 0.7, 2) * truth.size
            box = np.array([x, y, x + 0.2 * truth.size[0], y + 0.2 * truth.size[1]], dtype=np.float32)
            mask = np.zeros(image.shape[:2], bool) if config.masks else None
            if mask is not None:
                mask[int(y) + 2 : int(box[3]) - 2, int(x) + 2 : int(box[2]) - 2] = True
            rows.append(Detection(box, self.labels[0], float(rng.uniform(0.05, 0.7)), mask))
        return sorted((d for d in rows if d.score >= config.min_score), key=lambda d: -d.score)


def _hash(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def register_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """`oracle` as the name of a detector, for one test."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(registry.TABLE["detector"], "oracle", registry.Component("detection_cases:Oracle", "knows the truth"))
