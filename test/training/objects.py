"""Images of blocks of four kinds, with exact boxes and masks, and folders of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from ros2_loc.io.images import write_image
from ros2_loc.training.detection_samples import Sample

LABELS = ("car", "truck", "person", "cyclist")
WIDTH, HEIGHT = 160, 120
_SIDES = ((30, 18), (40, 34), (8, 26), (18, 24))  # width and height by kind


def drawn(seed: int, count: int = 4) -> Sample:
    """So many blocks, none of which hides another wholly; red tells kind and number of a block."""
    rng = np.random.default_rng([7, seed])
    owner = np.full((HEIGHT, WIDTH), -1)
    labels = rng.integers(0, len(LABELS), count)
    for k, label in enumerate(labels):
        width, height = (int(side * rng.uniform(0.8, 1.4)) for side in _SIDES[label])
        x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
        owner[y : y + height, x : x + width] = k
    seen = [k for k in range(count) if (owner == k).any()]
    image = np.full((HEIGHT, WIDTH, 3), (250, 200, 180), np.uint8)
    for k in seen:
        image[owner == k] = (40 * labels[k] + 5 + k, 60 * labels[k], 250 - 70 * labels[k])
    masks = np.stack([owner == k for k in seen])
    boxes = np.array([_box(mask) for mask in masks], np.float32)
    return Sample(image, boxes, labels[seen].astype(np.int64), masks)


def object_set(folder: Path, count: int, seed: int = 0, with_masks: bool = True) -> Path:
    """A folder in COCO's form."""
    images, annotations = [], []
    for k in range(count):
        sample = drawn(1000 * seed + k)
        write_image(folder / "images" / f"{k:04d}.png", sample.image)
        images.append({"id": k, "file_name": f"images/{k:04d}.png", "width": WIDTH, "height": HEIGHT})
        for box, label, mask in zip(sample.boxes.tolist(), sample.labels.tolist(), sample.masks, strict=True):  # type: ignore[arg-type]
            about = {"id": len(annotations) + 1, "image_id": k, "category_id": label + 1, "iscrowd": 0, "area": int(mask.sum())}
            about["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            if with_masks:
                code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
                about["segmentation"] = {"size": list(mask.shape), "counts": code["counts"].decode()}
            annotations.append(about)
    categories = [{"id": k + 1, "name": label} for k, label in enumerate(LABELS)]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return folder


def _box(mask: np.ndarray) -> list[int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
