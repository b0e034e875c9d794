"""How good detections are. COCO's average precision by pycocotools, PASCAL's and KITTI's by their rules; pure functions of records.

COCO: Lin et al., ECCV 2014, and pycocotools, the reference. False discovery rates: CenterNet (Duan et al., ICCV 2019), tables 1 and 3:
1 - AP at IoU 0.05 to 0.5. PASCAL VOC: Everingham et al., IJCV 2010. UAVDT: Du et al., ECCV 2018. KITTI: Geiger et al., CVPR 2012, 40
recall positions of Simonelli et al., ICCV 2019. Every average over labels is one over those that have an object.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ros2_loc.core.labels import plain_label
from ros2_loc.evaluation import detection_matching as dm
from ros2_loc.io.coco import annotations_of, numbered
from ros2_loc.io.coco_results import FoundObjects, result_rows
from ros2_loc.io.kitti_object import DIFFICULTIES, MIN_HEIGHT_PX
from ros2_loc.io.labelled_images import DetectionDataset

Array = NDArray[np.float64]

MAX_DETECTIONS = 100
SIZES = ("small", "medium", "large")  # up to 32 x 32 px, up to 96 x 96 px, larger
FALSE_DISCOVERY_IOUS = tuple(k / 100 for k in range(5, 55, 5))
COCO_IOUS = tuple(k / 100 for k in range(50, 100, 5))
CURVE_IOUS = (0.5, 0.75)
UAVDT_IOU = 0.7
KITTI_IOUS = {"car": 0.7, "pedestrian": 0.5, "person": 0.5, "cyclist": 0.5}  # a person: a pedestrian to detectors of other sets
_KITTI_NEIGHBOURS = {"car": "van", "pedestrian": "person sitting", "person": "person sitting"}


@dataclass(frozen=True, slots=True)
class CocoScores:
    """COCO's numbers in [0, 1]; None where the data set has no such objects.

    Attributes:
        ap: mean over IoU 0.5 to 0.95; `ap_at` at 0.5 and at 0.75.
        by_size: AP of SIZES.
        recall: AR of at most 1, 10 and all detections an image, then of SIZES, as COCO lists them.
        by_label: AP of each label.
        curves: IoU -> precision at the 101 recalls 0, 0.01, ... 1, mean over labels.
    """

    ap: float | None
    ap_at: dict[str, float | None]
    by_size: dict[str, float | None]
    recall: dict[str, float | None]
    by_label: dict[str, float | None]
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FalseDiscovery:
    """1 - AP: mean over IoU 0.05 to 0.5, at each of these, and the mean by size."""

    mean: float | None
    at: dict[str, float | None]
    by_size: dict[str, float | None]


def coco_scores(
    dataset: DetectionDataset,
    found: Sequence[FoundObjects],
    what: Literal["bbox", "segm"] = "bbox",
    max_detections: int = MAX_DETECTIONS,
) -> CocoScores:
    """COCO's evaluation of boxes or masks.

    Args:
        found: of each image, labels as indices of the data set's.
        max_detections: an image and label, best first (COCO: 100).
    """
    return _coco(dataset, *_accumulated(dataset, found, what, COCO_IOUS, max_detections), max_detections)


def false_discovery(dataset: DetectionDataset, found: Sequence[FoundObjects], max_detections: int = MAX_DETECTIONS) -> FalseDiscovery:
    """CenterNet's FD rates of boxes (its tables 1 and 3)."""
    return _false_discovery(_accumulated(dataset, found, "bbox", FALSE_DISCOVERY_IOUS, max_detections)[0])


def box_scores(
    dataset: DetectionDataset, found: Sequence[FoundObjects], max_detections: int = MAX_DETECTIONS
) -> tuple[CocoScores, FalseDiscovery]:
    """Both of boxes, in one run of pycocotools."""
    ious = sorted({*COCO_IOUS, *FALSE_DISCOVERY_IOUS})
    precision, recall = _accumulated(dataset, found, "bbox", ious, max_detections)
    of_coco, of_fd = ([ious.index(iou) for iou in wanted] for wanted in (COCO_IOUS, FALSE_DISCOVERY_IOUS))
    return _coco(dataset, precision[of_coco], recall[of_coco], max_detections), _false_discovery(precision[of_fd])


def _coco(dataset: DetectionDataset, precision: Array, recall: Array, max_detections: int) -> CocoScores:
    at = {f"{iou:g}": _mean(precision[COCO_IOUS.index(iou), :, :, 0, -1]) for iou in CURVE_IOUS}
    named = {f"AR {n}": _mean(recall[:, :, 0, k]) for k, n in enumerate((1, 10, max_detections))}
    named |= {f"AR {size}": _mean(recall[:, :, k, -1]) for k, size in enumerate(SIZES, 1)}
    return CocoScores(
        ap=_mean(precision[..., 0, -1]),
        ap_at=at,
        by_size={size: _mean(precision[..., k, -1]) for k, size in enumerate(SIZES, 1)},
        recall=named,
        by_label={label: _mean(precision[:, :, k, 0, -1]) for k, label in enumerate(dataset.labels)},
        curves={f"{iou:g}": _curve(precision[COCO_IOUS.index(iou), :, :, 0, -1]) for iou in CURVE_IOUS},
    )


def _false_discovery(precision: Array) -> FalseDiscovery:
    return FalseDiscovery(
        mean=_rest(_mean(precision[..., 0, -1])),
        at={f"{iou:g}": _rest(_mean(precision[k, :, :, 0, -1])) for k, iou in enumerate(FALSE_DISCOVERY_IOUS)},
        by_size={size: _rest(_mean(precision[..., k, -1])) for k, size in enumerate(SIZES, 1)},
    )


def _accumulated(
    dataset: DetectionDataset, found: Sequence[FoundObjects], what: str, ious: Sequence[float], max_detections: int
) -> tuple[Array, Array]:
    """pycocotools' precision (IoU, 101 recalls, labels, 1 + sizes, 3) and recall (IoU, labels, 1 + sizes, 3); -1 where there is none."""
    dataset = numbered(dataset)
    truth = COCO()
    annotations = annotations_of(dataset)
    truth.dataset = {
        "images": [{"id": i.id, "width": i.size[0], "height": i.size[1]} for i in dataset.images],
        "annotations": [_outlined(a) for a in annotations] if what == "segm" else annotations,
        "categories": [{"id": number, "name": name} for number, name in zip(dataset.category_ids, dataset.labels, strict=True)],
    }
    rows = [row for i, f in zip(dataset.images, found, strict=True) for row in result_rows(f, i.id, dataset.category_ids)]
    if what == "segm":  # without its box, an area is that of the mask
        rows = [{k: v for k, v in row.items() if k != "bbox"} for row in rows if "segmentation" in row]
    else:
        rows = [{k: v for k, v in row.items() if k != "segmentation"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = truth.loadRes(rows) if rows else _no_results(truth)
        run = COCOeval(truth, results, what)
        run.params.iouThrs = np.array(ious)
        run.params.maxDets = [min(1, max_detections), min(10, max_detections), max_detections]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"], run.eval["recall"]


def _no_results(truth: COCO) -> COCO:
    """`loadRes` can't take an empty list."""
    results = COCO()
    results.dataset = {**truth.dataset, "annotations": []}
    results.createIndex()
    return results


def _outlined(annotation: dict[str, Any]) -> dict[str, Any]:
    """An ignored region without a mask is its box."""
    if "segmentation" in annotation:
        return annotation
    x, y, w, h = annotation["bbox"]
    return {**annotation, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}


def _mean(values: Array) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _rest(value: float | None) -> float | None:
    return None if value is None else 1.0 - value


def _curve(precision: Array) -> tuple[float, ...]:
    """(101, labels) -> mean over the labels that have objects."""
    known = precision[:, (precision > -1).any(axis=0)]
    return tuple(float(v) for v in known.mean(axis=1)) if known.size else ()


def pascal_scores(
    dataset: DetectionDataset, found: Sequence[FoundObjects], iou: float = UAVDT_IOU, ignored_share: float = 0.5
) -> dict[str, dict[str, float | None]]:
    """PASCAL's AP of boxes by label: "all" points of the curve (VOC 2010), and "11" points (VOC 2007).

    What lies with at least `ignored_share` of its area in ignored regions is taken away first, objects and detections, as the
    development kit of UAVDT does.
    """
    pairs = [dm.without_ignored(i, f, ignored_share) for i, f in zip(dataset.images, found, strict=True)]
    scores: dict[str, dict[str, float | None]] = {}
    for k, label in enumerate(dataset.labels):
        shown = [(image, f) for image, f in pairs if (image.labels == k).any() or (f.labels == k).any()]
        judged = dm.Judged.join([dm.match_pascal(image, f, k, iou) for image, f in shown])
        scores[label] = {"all": judged.average_precision("all"), "11": judged.average_precision(11)}
    return scores


def kitti_scores(dataset: DetectionDataset, found: Sequence[FoundObjects], points: int = 40) -> dict[str, dict[str, float | None]]:
    """KITTI's AP of boxes at its own IoU, by label and difficulty, at 40 (or 11) recalls.

    Harder objects, `Van` for `Car` and `Person_sitting` for `Pedestrian`, and `DontCare` are neither right nor wrong; detections less high
    than the difficulty asks for don't count when they match nothing.
    """
    names = [plain_label(label) for label in dataset.labels]
    scores: dict[str, dict[str, float | None]] = {}
    for k, name in enumerate(names):
        if name not in KITTI_IOUS:
            continue
        neighbours = [j for j, other in enumerate(names) if other == _KITTI_NEIGHBOURS.get(name)]
        scores[dataset.labels[k]] = {
            word: dm.Judged.join(
                [
                    dm.match_kitti(image, f, k, neighbours, grade, KITTI_IOUS[name], MIN_HEIGHT_PX[grade])
                    for image, f in zip(dataset.images, found, strict=True)
                ]
            ).average_precision(points)
            for grade, word in enumerate(DIFFICULTIES)
        }
    return scores


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The score at which precision and recall of all labels together make the best F1, at IoU 0.5."""

    min_score: float
    precision: float
    recall: float
    f1: float


def best_operating_point(judged: dm.Judged) -> OperatingPoint | None:
    """Which `min_score` balances false and missed objects; None without objects or detections."""
    scores, precision, recall = judged.curve()
    if not len(scores):
        return None
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    last = np.append(scores[1:] != scores[:-1], True)  # a threshold can't part equal scores
    k = int(np.argmax(np.where(last, f1, -1.0)))
    return OperatingPoint(float(scores[k]), float(precision[k]), float(recall[k]), float(f1[k]))


def mean_of(values: Mapping[str, float | None]) -> float | None:
    """Of those that there are."""
    known = [v for v in values.values() if v is not None]
    return float(np.mean(known)) if known else None
