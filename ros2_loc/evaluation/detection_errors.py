"""Which mistakes cost how much: the six kinds of TIDE, and what AP at IoU 0.5 would gain were each of them put right.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2. Its own package has had no release
since 2020; the definitions are those of its paper, on boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.evaluation import detection_matching as dm
from ros2_loc.io.coco_results import FoundObjects
from ros2_loc.io.labelled_images import DetectionDataset, LabelledImage

POSITIVE_IOU, BACKGROUND_IOU = 0.5, 0.1
KINDS = ("class", "localization", "both", "duplicate", "background", "missed")
_POINTS = 101
_CORRECT, _PASSED = "", "ignored"


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
    """One image: of each detection its kind ("" right) and the object that it is right or nearly right about; objects that are missed."""

    found: FoundObjects
    image: LabelledImage
    kinds: tuple[str, ...]
    objects: NDArray[np.int64]
    taken: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def error_breakdown(dataset: DetectionDataset, found: Sequence[FoundObjects]) -> ErrorBreakdown:
    """TIDE's breakdown of the boxes found in each image, labels as indices of the data set's."""
    told = [_told(image, f) for image, f in zip(dataset.images, found, strict=True)]
    labels = range(len(dataset.labels))
    ap = _mean_ap(told, labels, "")
    counts = {kind: sum(t.kinds.count(kind) for t in told) for kind in KINDS[:-1]}
    counts["missed"] = int(sum(t.missed.sum() for t in told))

    def gain(oracle: str) -> float | None:
        better = _mean_ap(told, labels, oracle)
        return None if ap is None or better is None else better - ap

    return ErrorBreakdown(ap, counts, {kind: gain(kind) for kind in KINDS}, gain("false positive"), gain("false negative"))


def _told(image: LabelledImage, found: FoundObjects) -> _Told:
    """Of section 2.2: what each wrong detection would have needed to be right."""
    pairs = dm.match_coco(image, found, POSITIVE_IOU)
    real = ~image.ignored
    taken = np.zeros(len(image), dtype=bool)
    taken[pairs.objects[pairs.objects >= 0]] = True
    overlaps = np.where(real[None, :], dm.box_iou(found.boxes, image.boxes), 0.0)
    same = found.labels[:, None] == image.labels[None, :]
    kinds, objects = [], pairs.objects.copy()
    for d in range(len(found)):
        if pairs.verdicts[d] != dm.WRONG:
            kinds.append(_CORRECT if pairs.verdicts[d] == dm.RIGHT else _PASSED)
            continue
        kind, k = _kind(overlaps[d], same[d], taken)
        kinds.append(kind)
        objects[d] = k
    explained = np.zeros(len(image), dtype=bool)
    for kind, k in zip(kinds, objects, strict=True):
        if kind in ("class", "localization"):
            explained[k] = True
    return _Told(found, image, tuple(kinds), objects, taken, real & ~taken & ~explained)


def _kind(overlaps: NDArray[np.float64], same: NDArray[np.bool_], taken: NDArray[np.bool_]) -> tuple[str, int]:
    """(kind, object that it would be right about or -1) of a wrong detection."""
    if not len(overlaps):
        return "background", -1
    own, other = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    if BACKGROUND_IOU <= own.max() < POSITIVE_IOU:
        return "localization", int(own.argmax())
    if other.max() >= POSITIVE_IOU:
        return "class", int(other.argmax())
    if np.where(taken, own, 0.0).max() >= POSITIVE_IOU:
        return "duplicate", -1
    return ("background", -1) if overlaps.max() < BACKGROUND_IOU else ("both", -1)


def _mean_ap(told: Sequence[_Told], labels: range, oracle: str) -> float | None:
    """Mean over labels of AP with one kind of mistakes put right; "" none."""
    rows = [row for t in told for row in _fixed(t, oracle)]
    scores, of_label, verdicts = (np.array([row[k] for row in rows], dtype=t) for k, t in enumerate((np.float64, np.int64, np.int64)))
    values = []
    for label in labels:
        lacking = sum(_forgiven(t, oracle, label) for t in told)
        objects = sum(int(((t.image.labels == label) & ~t.image.ignored).sum()) for t in told)
        if objects == 0:
            continue
        own = of_label == label
        ap = dm.Judged(scores[own], verdicts[own], objects - lacking).average_precision(_POINTS)
        # an oracle that forgives every object leaves nothing to find: right, where nothing is made up
        values.append(float(not own.any()) if ap is None else ap)
    return float(np.mean(values)) if values else None


def _forgiven(t: _Told, oracle: str, label: int) -> int:
    """Objects of a label that the oracle takes away."""
    if oracle == "missed":
        return int((t.missed & (t.image.labels == label)).sum())
    if oracle == "false negative":
        return int((~t.taken & ~t.image.ignored & (t.image.labels == label)).sum())
    return 0


def _fixed(t: _Told, oracle: str) -> list[tuple[float, int, int]]:
    """(score, label, verdict) of the detections that count, after the oracle's work."""
    free = ~t.taken & ~t.image.ignored
    rows = []
    for d in np.argsort(-t.found.scores, kind="stable"):
        kind, label, score = t.kinds[d], int(t.found.labels[d]), float(t.found.scores[d])
        if kind == _PASSED:
            continue
        if kind == _CORRECT:
            rows.append((score, label, dm.RIGHT))
        elif oracle == kind and kind in ("class", "localization"):
            k = t.objects[d]
            if free[k]:  # otherwise the object is found already: the corrected detection would be a duplicate
                free[k] = False
                rows.append((score, int(t.image.labels[k]), dm.RIGHT))
        elif oracle not in (kind, "false positive"):
            rows.append((score, label, dm.WRONG))
    return rows
