"""The tables of an evaluation of local features as text cells, for a terminal and for a page alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.cross_view_tables import Cells, TextTable
from ros2_loc.evaluation.features_records import LOCALIZATION_THRESHOLDS, Cell, FeaturesEvaluation, summary

# Table 2 of the paper, Aachen Day-Night, in % within the three thresholds; its networks, its data.
PUBLISHED = {"R2D2": (45.9, 65.3, 87.8), "R2D2 + LG": (45.9, 67.3, 87.8), "R2D2 + LG + MA": (48.0, 65.3, 88.8)}
_SHOWN_PX = (1, 2, 3, 5, 10)


def tables(evaluation: FeaturesEvaluation) -> list[TextTable]:
    """One for each data set, then the times."""
    datasets = list(dict.fromkeys(cell.dataset for cell in evaluation.cells))
    found = [dataset_table([cell for cell in evaluation.cells if cell.dataset == dataset]) for dataset in datasets]
    return [*found, time_table(evaluation.cells)] if found else []


def dataset_table(cells: Sequence[Cell]) -> TextTable:
    """All methods on one data set."""
    by_protocol = {"homography": homography_table, "two-view": pose_table, "localization": localization_table}
    return by_protocol[cells[0].protocol](cells)


def homography_table(cells: Sequence[Cell]) -> TextTable:
    """Repeatability, matching accuracy and homographies: a row for each method, and for each group where there are two."""
    rows = []
    for cell, group in _by_group(cells):
        s = summary(cell, group)
        accuracy = [_percent(s["mma"][t - 1] if s["mma"] else None) for t in _SHOWN_PX]
        corners = [_percent(v) for v in s["homography_accuracy"] or (None,) * len(fm.CORNER_THRESHOLDS_PX)]
        shown = (cell.method, group or "all", str(s["pairs"]), f"{cell.keypoints:.0f}", _number(s["matches"], 0))
        rows.append((*shown, _percent(s["repeatability"]), *accuracy, *corners))
    header: Cells = ("", "of", "pairs", "keypoints", "matches", f"rep. {fm.REPEATABILITY_PX:g} px")
    header += (*(f"MMA {t} px" for t in _SHOWN_PX), *(f"H {t:g} px" for t in fm.CORNER_THRESHOLDS_PX))
    note = (
        "In %. rep.: repeatability. MMA: share of the matches within so many pixels, mean over pairs (0 where a pair has none). "
        "H: share of pairs whose homography puts the image's corners within so many pixels."
    )
    return TextTable(cells[0].dataset, header, tuple(rows), note)


def pose_table(cells: Sequence[Cell]) -> TextTable:
    """AUC of the relative pose; or verified matches alone, where no pair has truth."""
    known = any(r.has_truth for cell in cells for r in cell.poses())
    rows = []
    for cell, group in _by_group(cells):
        s = summary(cell, group)
        shown = (cell.method, group or "all", str(s["pairs"]), f"{cell.keypoints:.0f}", _number(s["matches"], 0), _number(s["inliers"], 0))
        auc = [_percent(v) for v in s["auc"] or (None,) * len(fm.POSE_THRESHOLDS_DEG)]
        errors = (_number(s["rotation_deg"], 2), _number(s["translation_deg"], 2))
        rows.append((*shown, *((_percent(s["precision"]), *auc, *errors) if known else ())))
    header: Cells = ("", "of", "pairs", "keypoints", "matches", "inliers")
    if not known:
        note = "No truth: the inliers agree with one fundamental matrix to 1 px, which may be a wrong one."
        return TextTable(cells[0].dataset, header, tuple(rows), note)
    header += ("precision", *(f"AUC {t:g} deg" for t in fm.POSE_THRESHOLDS_DEG), "rotation", "translation")
    note = (
        f"AUC in %: area under the recall over the larger of rotation and translation-direction error. precision in %: matches within "
        f"{fm.EPIPOLAR_PX:g} px of their true epipolar lines. rotation, translation: median errors in degrees where there was a pose."
    )
    return TextTable(cells[0].dataset, header, tuple(rows), note)


def localization_table(cells: Sequence[Cell]) -> TextTable:
    """Queries within the three thresholds; of the ablation the paper's numbers stand beside."""
    rows = []
    known = any(r.has_truth for cell in cells for r in cell.queries())
    compared = any(cell.method in PUBLISHED for cell in cells)
    for cell, group in _by_group(cells):
        s = summary(cell, group)
        within = [_percent(v) for v in s["within"] or (None,) * len(LOCALIZATION_THRESHOLDS)]
        if cell.method in PUBLISHED and not group:
            within = [f"{ours} ({paper})" for ours, paper in zip(within, PUBLISHED[cell.method], strict=True)]
        shown = (cell.method, group or "all", f"{s['registered']} of {s['queries']}", _number(s["matches"], 0), _number(s["inliers"], 0))
        errors = (_number(s["position_m"], 3), _number(s["rotation_deg"], 3)) if known else ()
        size = (f"{cell.facts.get('points', 0):.0f}", f"{cell.facts.get('megabytes', 0):.1f}")
        rows.append((*shown, *(within if known or compared else ()), *errors, *size))
    limits = tuple(f"{m:g} m, {deg:g} deg" for m, deg in LOCALIZATION_THRESHOLDS) if known or compared else ()
    header = ("", "of", "registered", "2D-3D", "inliers", *limits, *(("position", "rotation") if known else ()), "points", "MB")
    note = "% of all queries within both limits. position, rotation: medians in m and degrees of those registered. MB: features on disk."
    if compared:
        note += " In brackets: the paper's table 2, with its networks on Aachen Day-Night."
    return TextTable(cells[0].dataset, header, tuple(rows), note)


def time_table(cells: Sequence[Cell]) -> TextTable:
    """Medians on this machine."""
    stages = list(dict.fromkeys(stage for cell in cells for stage in cell.seconds))
    rows = []
    for cell in cells:
        times = (f"{1000 * cell.seconds[stage]:.1f}" if stage in cell.seconds else "" for stage in stages)
        rows.append((cell.method, cell.dataset, f"{cell.keypoints:.0f}", *times))
    note = "Median ms: extract of an image, match of a pair. Keypoints: mean of an image."
    return TextTable("Time", ("", "data", "keypoints", *stages), tuple(rows), note)


def _by_group(cells: Sequence[Cell]) -> list[tuple[Cell, str]]:
    """Each cell as a whole, and each of its groups where there are several."""
    named = list(dict.fromkeys(result.group for cell in cells for result in cell.results))
    shown = [*named, ""] if len(named) > 1 else [""]
    return [(cell, group) for group in shown for cell in cells]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _number(value: Any, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
