"""Which mistakes cost how much: the six kinds of TIDE, and what AP at IoU 0.5 would gain were each of them put right.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2. Its own package has had no release
since 2020; the definitions are those of its paper, on boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.evaluation import detection_matching as dm
from ros2_loc.io.coco_results import FoundObjects
from ros2_loc.io.labelled_images import DetectionDataset, LabelledImage

POSITIVE_IOU, BACKGROUND_IOU = 0.5, 0.1
KINDS = ("class", "localization", "both", "duplicate", "background", "missed")
_POINTS = 101
_NAMES = ("right", "ignored", *KINDS)
_CORRECT, _PASSED = 0, 1
_CORRECTED = ("class", "localization")  # their oracle makes them right; those of the others take them away
_NO_FALSE, _NO_MISSED = "false positive", "false negative"


@dataclass(frozen=True, slots=True)
class ErrorBreakdown:
    """Mistakes by KINDS.

    Attributes:
        ap: mean AP over labels at IoU 0.5, of boxes.
        counts: how many of each kind.
        gains: what `ap` would gain by each kind's oracle alone.
        false_positive, false_negative: what it would gain without any wrong detection, or without any missed object.
    """

    ap: float | None
    counts: dict[str, int]
    gains: dict[str, float | None]
    false_positive: float | None
    false_negative: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """Detections with the number of their kind in _NAMES and of the object that they are right or nearly right about; all objects."""

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    kinds: NDArray[np.int64]
    objects: NDArray[np.int64]
    object_labels: NDArray[np.int64]
    real: NDArray[np.bool_]
    taken: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def error_breakdown(dataset: DetectionDataset, found: Sequence[FoundObjects]) -> ErrorBreakdown:
    """TIDE's breakdown of the boxes found in each image, labels as indices of the data set's."""
    told = _joined([_told(image, f) for image, f in zip(dataset.images, found, strict=True)])
    labels = range(len(dataset.labels))
    ap = _mean_ap(told, labels, "")
    counts = {kind: int((told.kinds == _NAMES.index(kind)).sum()) for kind in KINDS[:-1]}
    counts["missed"] = int(told.missed.sum())

    def gain(oracle: str) -> float | None:
        better = _mean_ap(told, labels, oracle)
        return None if ap is None or better is None else better - ap

    return ErrorBreakdown(ap, counts, {kind: gain(kind) for kind in KINDS}, gain(_NO_FALSE), gain(_NO_MISSED))


def _told(image: LabelledImage, found: FoundObjects) -> _Told:
    """Of section 2.2: what each wrong detection would have needed to be right."""
    pairs = dm.match_coco(image, found, POSITIVE_IOU)
    real = ~image.ignored
    taken = np.zeros(len(image), dtype=bool)
    taken[pairs.objects[pairs.objects >= 0]] = True
    overlaps = np.where(real[None, :], dm.box_iou(found.boxes, image.boxes), 0.0)
    same = found.labels[:, None] == image.labels[None, :]
    kinds, objects = np.where(pairs.verdicts == dm.RIGHT, _CORRECT, _PASSED), pairs.objects.copy()
    explained = np.zeros(len(image), dtype=bool)
    for d in np.flatnonzero(pairs.verdicts == dm.WRONG):
        kind, objects[d] = _kind(overlaps[d], same[d], taken)
        kinds[d] = _NAMES.index(kind)
        if kind in _CORRECTED:
            explained[objects[d]] = True
    scores = found.scores.astype(np.float64)
    return _Told(scores, found.labels, kinds, objects, image.labels, real, taken, real & ~taken & ~explained)


def _kind(overlaps: NDArray[np.float64], same: NDArray[np.bool_], taken: NDArray[np.bool_]) -> tuple[str, int]:
    """(kind, object that it would be right about or -1) of a wrong detection."""
    if not len(overlaps) or overlaps.max() < BACKGROUND_IOU:
        return "background", -1
    own, other = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    if BACKGROUND_IOU <= own.max() < POSITIVE_IOU:
        return "localization", int(own.argmax())
    if other.max() >= POSITIVE_IOU:
        return "class", int(other.argmax())
    return ("duplicate" if np.where(taken, own, 0.0).max() >= POSITIVE_IOU else "both"), -1


def _joined(parts: Sequence[_Told]) -> _Told:
    """All images in one; objects are numbered through."""
    before = np.cumsum([0, *(len(p.real) for p in parts)])
    objects = [np.where(p.objects >= 0, p.objects + n, -1) for p, n in zip(parts, before[:-1], strict=True)]

    def join(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(p, name) for p in parts])

    rest = ("object_labels", "real", "taken", "missed")
    return _Told(join("scores"), join("labels"), join("kinds"), np.concatenate(objects), *map(join, rest))


def _mean_ap(told: _Told, labels: range, oracle: str) -> float | None:
    """Mean over labels of AP with one kind of mistakes put right; "" none."""
    kept, right, of_label = _fixed(told, oracle)
    forgiven = told.missed if oracle == "missed" else told.real & ~told.taken if oracle == _NO_MISSED else np.zeros_like(told.real)
    values = []
    for label in labels:
        objects = told.real & (told.object_labels == label)
        if not objects.any():
            continue
        own = kept & (of_label == label)
        verdicts = np.where(right[own], dm.RIGHT, dm.WRONG).astype(np.int64)
        ap = dm.Judged(told.scores[own], verdicts, int((objects & ~forgiven).sum())).average_precision(_POINTS)
        # an oracle that forgives every object leaves nothing to find: right, where nothing is made up
        values.append(float(not own.any()) if ap is None else ap)
    return float(np.mean(values)) if values else None


def _fixed(told: _Told, oracle: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """(detections that count, those that are right, their labels) after the oracle's work."""
    kept, right, labels = told.kinds != _PASSED, told.kinds == _CORRECT, told.labels.copy()
    if oracle == _NO_FALSE:
        return kept & right, right, labels
    if oracle not in KINDS[:-1]:
        return kept, right, labels
    wrong = np.flatnonzero(told.kinds == _NAMES.index(oracle))
    kept[wrong] = False
    free = told.real & ~told.taken
    for d in wrong[np.argsort(-told.scores[wrong], kind="stable")] if oracle in _CORRECTED else ():
        k = told.objects[d]
        if free[k]:  # otherwise the object is found already: the corrected detection would be a duplicate
            free[k], kept[d], right[d], labels[d] = False, True, True, told.object_labels[k]
    return kept, right, labels
