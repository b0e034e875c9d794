"""What a detector found, in arrays, and in COCO's form of results: a list of `image_id, category_id, bbox, score` and masks as RLE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Detection, FloatArray
from ros2_loc.errors import DataError
from ros2_loc.io.coco import rle_of_mask, rle_of_segmentation
from ros2_loc.io.files import atomic_path, read_text
from ros2_loc.io.labelled_images import DetectionDataset, LabelledImage, Rle

_LISTED = 10


@dataclass(frozen=True, slots=True, eq=False)
class FoundObjects:
    """What was found in one image, best first.

    Attributes:
        boxes: (D, 4) float32 x0, y0, x1, y1 px.
        labels: (D,) int64 indices of a list of labels.
        scores: (D,) float32.
        masks: compressed RLE of each, or None.
    """

    boxes: FloatArray
    labels: NDArray[np.int64]
    scores: FloatArray
    masks: tuple[Rle | None, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    @staticmethod
    def of_rows(rows: Iterable[tuple[Sequence[float], int, float, Rle | None]]) -> FoundObjects:
        """Of (box, label, score, mask) in any order; equal scores stay in theirs."""
        ordered = sorted(rows, key=lambda row: -row[2])
        return FoundObjects(
            boxes=np.array([row[0] for row in ordered], dtype=np.float32).reshape(-1, 4),
            labels=np.array([row[1] for row in ordered], dtype=np.int64),
            scores=np.array([row[2] for row in ordered], dtype=np.float32),
            masks=tuple(row[3] for row in ordered),
        )

    @staticmethod
    def of_detections(detections: Sequence[Detection], index: Mapping[str, int]) -> FoundObjects:
        """Those of `detections` whose label is in `index`, which gives its number."""
        return FoundObjects.of_rows(
            (d.box.tolist(), index[d.label], float(d.score), None if d.mask is None else rle_of_mask(d.mask))
            for d in detections
            if d.label in index
        )

    def subset(self, kept: NDArray[Any]) -> FoundObjects:
        """Some of them: (D,) bool or indices."""
        rows = np.flatnonzero(kept) if kept.dtype == np.bool_ else kept
        return FoundObjects(self.boxes[rows], self.labels[rows], self.scores[rows], tuple(self.masks[k] for k in rows))


def result_rows(found: FoundObjects, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of COCO's results for one image."""
    rows = []
    for k, (x0, y0, x1, y1) in enumerate(found.boxes.astype(np.float64).tolist()):
        category, score = category_ids[int(found.labels[k])], float(found.scores[k])
        row = {"image_id": image_id, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
        rows.append(row if found.masks[k] is None else {**row, "segmentation": found.masks[k]})
    return rows


def write_coco_results(path: str | Path, dataset: DetectionDataset, found: Sequence[FoundObjects]) -> None:
    """Write what was found in each image of a data set, under the data set's numbers, for pycocotools or a test server."""
    rows = [row for image, f in zip(dataset.images, found, strict=True) for row in result_rows(f, image.id, dataset.category_ids)]
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(rows) + "\n", encoding="utf-8")


def read_coco_results(path: str | Path, dataset: DetectionDataset) -> list[FoundObjects]:
    """Results in COCO's form for the images of a data set; none of an image that the file does not name.

    Raises:
        DataError: no list of results, or one that is wrong: the line names file and result, counted from 0.
    """
    try:
        content = json.loads(read_text(path, "results in COCO's form"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); is the file cut short?") from error
    if not isinstance(content, list):
        raise DataError(f"{path}: is no list of results; give image_id, category_id, bbox, score of each")
    images = {image.id: image for image in dataset.images}
    return found_of_rows(content, images, {number: k for k, number in enumerate(dataset.category_ids)}, str(path))


def found_of_rows(rows: Sequence[Any], images: Mapping[int, LabelledImage], index: Mapping[int, int], where: str) -> list[FoundObjects]:
    """Rows of results by image, in the order of `images`; raises DataError as `read_coco_results`."""
    by_image: dict[int, list[tuple[Sequence[float], int, float, Rle | None]]] = {number: [] for number in images}
    for k, row in enumerate(rows):
        said = f"{where}: result {k}"
        try:
            number, category, score = int(row["image_id"]), int(row["category_id"]), float(row["score"])
            x, y, width, height = map(float, row["bbox"])
        except (KeyError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise DataError(f"{said}: needs image_id, category_id, score and a bbox of 4 numbers ({why})") from error
        if number not in images:
            raise DataError(f"{said}: is of image {number}, which the data set has not")
        if category not in index:
            known = ", ".join(map(str, list(index)[:_LISTED])) + (", ..." if len(index) > _LISTED else "")
            raise DataError(f"{said}: has category {category}; the data set has {known}")
        if not np.isfinite((x, y, width, height, score)).all():
            raise DataError(f"{said}: holds a number that is not finite")
        mask = rle_of_segmentation(row.get("segmentation"), images[number].size, said)
        by_image[number].append(((x, y, x + width, y + height), index[category], score, mask))
    return [FoundObjects.of_rows(found) for found in by_image.values()]
