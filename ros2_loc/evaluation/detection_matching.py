"""Which detections are right: matching with the objects of an image by the rules of COCO, PASCAL and KITTI, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.io.coco_results import FoundObjects
from ros2_loc.io.labelled_images import ANY_LABEL, LabelledImage

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

RIGHT, WRONG, IGNORED = 1, 0, -1


def box_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4) x0, y0, x1, y1."""
    shared, area_a, area_b = _overlap(a, b)
    union = area_a[:, None] + area_b[None, :] - shared
    return np.asarray(np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0))


def share_inside(a: ArrayLike, b: ArrayLike) -> Array:
    """(N, M) intersection over the area of a: how much of each box of a lies in each of b."""
    shared, area_a, _ = _overlap(a, b)
    return np.asarray(shared / np.maximum(area_a, 1e-12)[:, None])


def _overlap(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array, Array]:
    p, q = np.asarray(a, dtype=np.float64).reshape(-1, 4), np.asarray(b, dtype=np.float64).reshape(-1, 4)
    low, high = np.maximum(p[:, None, :2], q[None, :, :2]), np.minimum(p[:, None, 2:], q[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    return shared, (p[:, 2:] - p[:, :2]).prod(axis=1), (q[:, 2:] - q[:, :2]).prod(axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Detections with what became of them, and how many objects there were to find.

    Attributes:
        scores: (D,).
        verdicts: (D,) RIGHT, WRONG or IGNORED.
        objects: number of them.
    """

    scores: Array
    verdicts: Indices
    objects: int

    @staticmethod
    def join(parts: Sequence[Judged]) -> Judged:
        """Those of several images or labels."""
        if not parts:
            return Judged(np.zeros(0), np.zeros(0, dtype=np.int64), 0)
        return Judged(np.concatenate([p.scores for p in parts]), np.concatenate([p.verdicts for p in parts]), sum(p.objects for p in parts))

    def curve(self) -> tuple[Array, Array, Array]:
        """(scores, precision, recall), each (D',), of the detections that count, best first; empty where there are no objects."""
        kept = self.verdicts != IGNORED
        order = np.argsort(-self.scores[kept], kind="stable")
        scores, right = self.scores[kept][order], self.verdicts[kept][order] == RIGHT
        if self.objects == 0:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        hits = np.cumsum(right)
        return scores, hits / np.arange(1, len(hits) + 1), hits / self.objects

    def average_precision(self, points: Literal["all"] | int) -> float | None:
        """Area under the curve, its precision made monotone; None without objects.

        Args:
            points: "all" (VOC 2010), or the mean at so many recalls: 11 (0, 0.1, ... 1: VOC 2007), 101 (COCO), 40 (1/40, ... 1: KITTI).
        """
        if self.objects == 0:
            return None
        _, precision, recall = self.curve()
        falling = np.maximum.accumulate(precision[::-1])[::-1]
        if points == "all":
            return float(np.sum(np.diff(recall, prepend=0.0) * falling))
        at = np.linspace(0.0, 1.0, points) if points != 40 else np.arange(1, 41) / 40
        first = np.searchsorted(recall, at - 1e-12, side="left")
        return float(np.append(falling, 0.0)[np.minimum(first, len(falling))].mean())


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Detections of an image and what each was matched with.

    Attributes:
        objects: (D,) index of the object in the image, -1 without.
        verdicts: (D,) RIGHT, WRONG or IGNORED.
    """

    objects: Indices
    verdicts: Indices


def match_coco(image: LabelledImage, found: FoundObjects, iou: float = 0.5) -> Pairs:
    """COCO's rule for all labels of an image: best first, each detection takes the free object of its label with the highest IoU.

    Detections that match none and lie with a share `iou` in an ignored region of their label are ignored.
    """
    overlaps = box_iou(found.boxes, image.boxes)
    inside = share_inside(found.boxes, image.boxes)
    same = found.labels[:, None] == image.labels[None, :]
    region = image.ignored[None, :] & (same | (image.labels == ANY_LABEL)[None, :])
    objects = np.full(len(found), -1, dtype=np.int64)
    free = ~image.ignored
    for d in np.argsort(-found.scores, kind="stable"):
        candidates = np.where(free & same[d] & (overlaps[d] >= iou), overlaps[d], -1.0)
        if candidates.size and candidates.max() >= 0.0:
            objects[d] = int(candidates.argmax())
            free[objects[d]] = False
    passed = (region & (inside >= iou)).any(axis=1) if len(image) else np.zeros(len(found), dtype=bool)
    verdicts = np.where(objects >= 0, RIGHT, np.where(passed, IGNORED, WRONG))
    return Pairs(objects, verdicts.astype(np.int64))


def match_pascal(image: LabelledImage, found: FoundObjects, label: int, iou: float) -> Judged:
    """PASCAL's rule for one label: each detection looks at the object with the highest IoU alone; the second of one object is wrong.

    What matches an ignored object is ignored.
    """
    rows = np.flatnonzero(found.labels == label)
    truth = np.flatnonzero((image.labels == label) | ((image.labels == ANY_LABEL) & image.ignored))
    overlaps = box_iou(found.boxes[rows], image.boxes[truth])
    verdicts = np.full(len(rows), WRONG, dtype=np.int64)
    taken = np.zeros(len(truth), dtype=bool)
    for d in np.argsort(-found.scores[rows], kind="stable"):
        if not len(truth) or overlaps[d].max() < iou:
            continue
        k = int(overlaps[d].argmax())
        verdicts[d] = IGNORED if image.ignored[truth[k]] else WRONG if taken[k] else RIGHT
        taken[k] = True
    return Judged(found.scores[rows].astype(np.float64), verdicts, int((~image.ignored[truth]).sum()))


def match_kitti(
    image: LabelledImage, found: FoundObjects, label: int, neighbours: Sequence[int], grade: int, iou: float, min_height_px: float
) -> Judged:
    """KITTI's rule for one label and difficulty (`evaluate_object.cpp`), see `detection_metrics.kitti_scores`."""
    difficulty = np.zeros(len(image), dtype=np.int8) if image.difficulty is None else image.difficulty
    rows = np.flatnonzero(found.labels == label)
    counts = (image.labels == label) & ~image.ignored & (difficulty <= grade)
    passes = ~image.ignored & ~counts & ((image.labels == label) | np.isin(image.labels, list(neighbours)))
    regions = image.ignored & ((image.labels == ANY_LABEL) | (image.labels == label))
    overlaps = box_iou(found.boxes[rows], image.boxes)
    covered = (share_inside(found.boxes[rows], image.boxes) > iou) & regions
    low = (found.boxes[rows, 3] - found.boxes[rows, 1]) < min_height_px
    verdicts = np.where(low | covered.any(axis=1), IGNORED, WRONG).astype(np.int64)
    free = np.ones(len(image), dtype=bool)
    for d in np.argsort(-found.scores[rows], kind="stable"):
        if not len(image):
            break
        for group, verdict in ((counts, RIGHT), (passes, IGNORED)):
            candidates = np.where(free & group & (overlaps[d] > iou), overlaps[d], -1.0)
            if candidates.max() >= 0.0:
                free[candidates.argmax()] = False
                verdicts[d] = IGNORED if low[d] else verdict
                break
    return Judged(found.scores[rows].astype(np.float64), verdicts, int(counts.sum()))


def without_ignored(image: LabelledImage, found: FoundObjects, share: float) -> tuple[LabelledImage, FoundObjects]:
    """An image and its detections without what lies with at least `share` of its area in ignored regions, and without these."""
    if not image.ignored.any():
        return image, found
    regions = image.boxes[image.ignored]
    kept = _covered(image.boxes, regions) < share
    return image.subset(kept & ~image.ignored), found.subset(_covered(found.boxes, regions) < share)


def _covered(boxes: ArrayLike, regions: ArrayLike) -> Array:
    """(N,) share of each box that the union of regions (M, 4) covers: exact, over the cells between all their edges."""
    p, q = np.asarray(boxes, dtype=np.float64).reshape(-1, 4), np.asarray(regions, dtype=np.float64).reshape(-1, 4)
    xs, ys = np.unique(q[:, [0, 2]]), np.unique(q[:, [1, 3]])
    x, y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
    inside_x = (x > q[:, :1]) & (x < q[:, 2:3])
    inside_y = (y > q[:, 1:2]) & (y < q[:, 3:])
    union = (inside_y[:, :, None] & inside_x[:, None, :]).any(axis=0)
    wide = np.clip(np.minimum(p[:, 2:3], xs[1:]) - np.maximum(p[:, :1], xs[:-1]), 0.0, None)
    high = np.clip(np.minimum(p[:, 3:], ys[1:]) - np.maximum(p[:, 1:2], ys[:-1]), 0.0, None)
    area = (p[:, 2] - p[:, 0]) * (p[:, 3] - p[:, 1])
    return np.asarray(np.einsum("ny,yx,nx->n", high, union.astype(np.float64), wide) / np.maximum(area, 1e-12))
