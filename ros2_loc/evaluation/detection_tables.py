"""The tables of an evaluation of detectors as text cells, for a terminal and for a page alike."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_loc.evaluation.cross_view_tables import Cells, TextTable
from ros2_loc.evaluation.detection_errors import KINDS
from ros2_loc.evaluation.detection_metrics import (
    CURVE_IOUS,
    FALSE_DISCOVERY_IOUS,
    KITTI_IOUS,
    SIZES,
    UAVDT_IOU,
    CocoScores,
    mean_of,
)
from ros2_loc.evaluation.detection_records import DetectionCell, DetectionEvaluation, DetectionScores
from ros2_loc.io.kitti_object import DIFFICULTIES

_FD_SHOWN = (5, 25, 50)  # the columns of CenterNet's tables
_TIME_NOTE = "Of an image on this machine, in batches as the detector likes them (batch_size), without reading it."
_MOST_LABELS = 20  # more have no room: the rarest are left to the JSON


def tables(evaluation: DetectionEvaluation) -> list[TextTable]:
    """All that there is something for, in the order in which people ask."""
    cells = evaluation.cells
    found = [average_precision(cells), recall_table(cells), false_discovery_table(cells), error_table(cells), operating_table(cells)]
    found += [label_table(evaluation), pascal_table(evaluation)]
    return [t for t in [*found, kitti_table(cells), time_table(cells)] if t.rows]


def average_precision(cells: Sequence[DetectionCell]) -> TextTable:
    """COCO's AP of boxes, and of masks where there are any."""
    rows: list[Cells] = []
    for cell in cells:
        if cell.scores is None:
            rows.append((cell.method, "", *[""] * (1 + len(CURVE_IOUS) + len(SIZES)), f"not run: {cell.not_run}"))
            continue
        rows.append((cell.method, "boxes", *_coco_row(cell.scores.box)))
        if cell.scores.mask is not None:
            rows.append((cell.method, "masks", *_coco_row(cell.scores.mask)))
    header = ("", "of", "AP", *(f"AP {100 * iou:.0f}" for iou in CURVE_IOUS), *(f"AP {size}" for size in SIZES))
    note = "COCO's AP in %, by pycocotools: mean over IoU 0.5 to 0.95 and over labels. Small: to 32 x 32 px, medium: to 96 x 96 px."
    return TextTable("Average precision", header, tuple(rows), note)


def recall_table(cells: Sequence[DetectionCell]) -> TextTable:
    """COCO's AR."""
    known = [(cell.method, cell.scores) for cell in cells if cell.scores is not None]
    names = list(known[0][1].box.recall) if known else []
    rows = tuple((method, *(_percent(s.box.recall[name]) for name in names)) for method, s in known)
    note = "COCO's average recall of boxes in %: of so many detections an image and label, then by size."
    return TextTable("Average recall", ("", *names), rows, note)


def false_discovery_table(cells: Sequence[DetectionCell]) -> TextTable:
    """As CenterNet's tables 1 and 3."""
    rows = []
    for cell in cells:
        if cell.scores is not None:
            fd = cell.scores.false_discovery
            at = (fd.at[f"{k / 100:g}"] for k in _FD_SHOWN)
            rows.append((cell.method, _percent(fd.mean), *map(_percent, at), *(_percent(fd.by_size[size]) for size in SIZES)))
    header = ("", "FD", *(f"FD {k}" for k in _FD_SHOWN), "FD S", "FD M", "FD L")
    low, high = FALSE_DISCOVERY_IOUS[0], FALSE_DISCOVERY_IOUS[-1]
    note = f"False discovery rates in %, 1 - AP: mean over IoU {low:g} to {high:g}, at three of these, by size (CenterNet, tables 1 and 3)."
    return TextTable("False discovery", header, tuple(rows), note)


def error_table(cells: Sequence[DetectionCell]) -> TextTable:
    """TIDE's breakdown: gains, with counts behind."""
    rows = []
    for cell in cells:
        if cell.scores is not None:
            e = cell.scores.errors
            told = (f"{_percent(e.gains[kind])} ({e.counts[kind]})" for kind in KINDS)
            rows.append((cell.method, _percent(e.ap), *told, _percent(e.false_positive), _percent(e.false_negative)))
    note = (
        "AP at IoU 0.5 in %, and what it would gain were one kind of mistakes put right, with their number (TIDE): wrong class; right "
        "class at IoU 0.1 to 0.5; both; a second time; nothing there; missed. Then: without any false one, without any missed one."
    )
    return TextTable("Mistakes", ("", "AP 50", *KINDS, "all false", "all missed"), tuple(rows), note)


def operating_table(cells: Sequence[DetectionCell]) -> TextTable:
    """Which score to keep."""
    rows = []
    for cell in cells:
        p = None if cell.scores is None else cell.scores.operating
        if p is not None:
            rows.append((cell.method, f"{p.min_score:.2f}", _percent(p.precision), _percent(p.recall), _percent(p.f1)))
    note = "The least score with the best F1 at IoU 0.5, all labels together: a start for `min_score` of a pipeline."
    return TextTable("Where to cut", ("", "min_score", "precision", "recall", "F1"), tuple(rows), note)


def label_table(evaluation: DetectionEvaluation) -> TextTable:
    """AP of each label, the most frequent first."""
    counts = evaluation.judged_on.counts
    shown = sorted((label for label in counts if counts[label]), key=lambda label: -counts[label])[:_MOST_LABELS]
    if len(evaluation.judged_on.labels) < 2:
        return TextTable("Labels", (), ())
    known = [(cell.method, cell.scores) for cell in evaluation.cells if cell.scores is not None]
    columns: list[tuple[str, CocoScores]] = [(method, s.box) for method, s in known]
    columns += [(f"{method}, masks", s.mask) for method, s in known if s.mask is not None]
    rows = tuple((label, str(counts[label]), *(_percent(s.by_label[label]) for _, s in columns)) for label in shown)
    note = "COCO's AP in % of each label" + (f", the {_MOST_LABELS} most frequent." if len(shown) == _MOST_LABELS else ".")
    return TextTable("Labels", ("", "objects", *(name for name, _ in columns)), rows, note)


def pascal_table(evaluation: DetectionEvaluation) -> TextTable:
    """AP at IoU 0.7 as UAVDT counts."""
    rows = []
    for cell in evaluation.cells:
        if cell.scores is not None:
            told = (mean_of({label: row[points] for label, row in cell.scores.pascal.items()}) for points in ("all", "11"))
            rows.append((cell.method, *map(_percent, told)))
    note = (
        f"PASCAL's AP in % at IoU {UAVDT_IOU:g}, mean over labels; what lies in ignored regions by half is left out, as UAVDT does. "
        "All points of the curve (VOC 2010), and 11 (VOC 2007)."
    )
    return TextTable(f"PASCAL, IoU {UAVDT_IOU:g}", ("", "all points", "11 points"), tuple(rows), note)


def kitti_table(cells: Sequence[DetectionCell]) -> TextTable:
    """Easy, moderate, hard of each label."""
    rows: list[Cells] = []
    for cell in cells:
        for label, by_grade in (cell.scores.kitti if cell.scores is not None else {}).items():
            rows.append((cell.method, label, *(_percent(by_grade[grade]) for grade in DIFFICULTIES)))
    ious = ", ".join(f"{name} {iou:g}" for name, iou in KITTI_IOUS.items())
    return TextTable("KITTI", ("", "of", *DIFFICULTIES), tuple(rows), f"AP of boxes in % at 40 recalls; IoU: {ious}.")


def time_table(cells: Sequence[DetectionCell]) -> TextTable:
    """Of an image."""
    rows = []
    for cell in cells:
        s = cell.scores
        if s is not None and s.median_s is not None and s.p95_s is not None:
            rows.append((cell.method, f"{1000 * s.median_s:.0f}", f"{1000 * s.p95_s:.0f}", str(s.detections)))
    return TextTable("Time", ("", "median, ms", "95 %, ms", "detections"), tuple(rows), _TIME_NOTE)


def _coco_row(s: CocoScores) -> Cells:
    return (_percent(s.ap), *(_percent(s.ap_at[f"{iou:g}"]) for iou in CURVE_IOUS), *(_percent(s.by_size[size]) for size in SIZES))


def headline(scores: DetectionScores) -> float:
    """The number by which methods are ordered: COCO's AP of boxes; -1 where there are no objects."""
    return -1.0 if scores.box.ap is None else scores.box.ap


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
