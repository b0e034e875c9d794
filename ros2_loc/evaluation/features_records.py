"""What an evaluation of local features found: one result per pair or query, grouped into cells (a method on a data set), and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ros2_loc.errors import DataError
from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.records import finite
from ros2_loc.io.files import atomic_path, read_text

FORMAT = "ros2_loc features evaluation"
VERSION = 1
LOCALIZATION_THRESHOLDS = ((0.5, 2.0), (1.0, 5.0), (5.0, 10.0))  # m, degrees: the benchmark's (paper, section 4.1)


@dataclass(frozen=True, slots=True)
class HomographyResult:
    """One pair of images with a known homography.

    Attributes:
        group: "viewpoint" or "illumination".
        keypoints: in both images.
        matches: between them.
        repeatability: within 3 px; None where no keypoint is seen by both.
        accuracy: share of the matches within 1 to 10 px.
        corner_error_px: of the homography estimated from the matches; None: there is none.
    """

    name: str
    group: str
    keypoints: tuple[int, int]
    matches: int
    repeatability: float | None
    accuracy: tuple[float, ...]
    corner_error_px: float | None


@dataclass(frozen=True, slots=True)
class PoseResult:
    """One pair of images of a scene.

    Attributes:
        inliers: matches that agree with the estimated epipolar geometry.
        has_truth: whether the relative pose is known.
        precision: share of the matches within 3 px of their true epipolar lines; None without truth or matches.
        rotation_deg, translation_deg: errors; None without truth, or where no pose was found.
    """

    name: str
    group: str
    keypoints: tuple[int, int]
    matches: int
    inliers: int
    has_truth: bool
    precision: float | None
    rotation_deg: float | None
    translation_deg: float | None

    @property
    def error_deg(self) -> float:
        """The larger of both; infinite where no pose was found."""
        return float("inf") if self.rotation_deg is None or self.translation_deg is None else max(self.rotation_deg, self.translation_deg)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query image registered to a model.

    Attributes:
        group: its list, for instance "night".
        keypoints: in the image.
        matches: 2D-3D.
        inliers: 0 where it was not registered.
        has_truth: whether its pose is known.
        position_m, rotation_deg: errors; None without truth, or where it was not registered.
        camera_from_world: qw qx qy qz tx ty tz; None where it was not registered.
    """

    name: str
    group: str
    keypoints: int
    matches: int
    inliers: int
    has_truth: bool
    position_m: float | None
    rotation_deg: float | None
    camera_from_world: tuple[float, ...] | None = None

    def within(self, threshold_m: float, threshold_deg: float) -> bool:
        """Whether it was registered, and to within both."""
        if self.position_m is None or self.rotation_deg is None:
            return False
        return self.position_m <= threshold_m and self.rotation_deg <= threshold_deg


Result = HomographyResult | PoseResult | QueryResult
_RESULTS: dict[str, type] = {"homography": HomographyResult, "two-view": PoseResult, "localization": QueryResult}


@dataclass(frozen=True)
class Cell:
    """One method on one data set.

    Attributes:
        method: its label.
        dataset: its title.
        protocol: "homography", "two-view" or "localization".
        results: all of the type that belongs to the protocol.
        seconds: medians: "extract" of an image, "match" of a pair; others as they come.
        keypoints: mean of an image.
        facts: more about it, for instance the size of a model.
    """

    method: str
    dataset: str
    protocol: str
    results: tuple[Result, ...]
    seconds: dict[str, float]
    keypoints: float
    facts: dict[str, float] = field(default_factory=dict)

    def homographies(self, group: str = "") -> list[HomographyResult]:
        """Results of the protocol "homography", of one group or of all."""
        return [r for r in self.results if isinstance(r, HomographyResult) and group in ("", r.group)]

    def poses(self, group: str = "") -> list[PoseResult]:
        """Results of the protocol "two-view"."""
        return [r for r in self.results if isinstance(r, PoseResult) and group in ("", r.group)]

    def queries(self, group: str = "") -> list[QueryResult]:
        """Results of the protocol "localization"."""
        return [r for r in self.results if isinstance(r, QueryResult) and group in ("", r.group)]


@dataclass(frozen=True)
class FeaturesEvaluation:
    """All of one call: what it takes to do it again, and a cell for each method on each data set."""

    title: str
    settings: dict[str, Any]
    cells: tuple[Cell, ...]

    def write_json(self, path: Path | str) -> None:
        """Writes cells with their summaries for whoever reads the file; whole or not at all."""
        cells = [{**asdict(cell), "summary": summary(cell)} for cell in self.cells]
        content = {"format": FORMAT, "version": VERSION, "title": self.title, "settings": self.settings, "cells": cells}
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read_json(path: Path | str) -> FeaturesEvaluation:
        """Reads what `write_json` wrote; summaries are computed anew.

        Raises:
            DataError: no such file, not JSON, another format or version, or damaged.
        """
        again = "write it again with `ros2-loc evaluate features --json`"
        try:
            content = json.loads(read_text(path, "evaluation of features"))
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error}): {again}") from error
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise DataError(f"{path}: not a {FORMAT} of version {VERSION}: {again}")
        try:
            cells = tuple(_cell(cell) for cell in content["cells"])
            return FeaturesEvaluation(str(content["title"]), dict(content["settings"]), cells)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged evaluation: {type(error).__name__} {error}") from error


def _cell(content: Mapping[str, Any]) -> Cell:
    kind = _RESULTS[content["protocol"]]
    results = tuple(kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in content["results"])
    times = {str(k): float(v) for k, v in content["seconds"].items()}
    facts = {str(k): float(v) for k, v in content["facts"].items()}
    return Cell(
        method=str(content["method"]),
        dataset=str(content["dataset"]),
        protocol=str(content["protocol"]),
        results=results,
        seconds=times,
        keypoints=float(content["keypoints"]),
        facts=facts,
    )


def summary(cell: Cell, group: str = "") -> dict[str, Any]:
    """The numbers of a cell, or of one group of its results; None where there was nothing to compute them from."""
    by_protocol = {"homography": _homography_summary, "two-view": _pose_summary, "localization": _query_summary}
    return by_protocol[cell.protocol](cell, group)


def _homography_summary(cell: Cell, group: str) -> dict[str, Any]:
    results = cell.homographies(group)
    corners = np.array([np.inf if r.corner_error_px is None else r.corner_error_px for r in results])
    return {
        "pairs": len(results),
        "matches": _mean([r.matches for r in results]),
        "repeatability": _mean([r.repeatability for r in results if r.repeatability is not None]),
        "mma": tuple(np.mean([r.accuracy for r in results], axis=0).tolist()) if results else None,
        "homography_accuracy": tuple(float((corners <= t).mean()) for t in fm.CORNER_THRESHOLDS_PX) if results else None,
    }


def _pose_summary(cell: Cell, group: str) -> dict[str, Any]:
    results = cell.poses(group)
    known = [r for r in results if r.has_truth]
    return {
        "pairs": len(results),
        "matches": _mean([r.matches for r in results]),
        "inliers": _mean([r.inliers for r in results]),
        "precision": _mean([r.precision for r in known if r.precision is not None]),
        "auc": fm.area_under_curve([r.error_deg for r in known], fm.POSE_THRESHOLDS_DEG),
        "rotation_deg": _median([r.rotation_deg for r in known if r.rotation_deg is not None]),
        "translation_deg": _median([r.translation_deg for r in known if r.translation_deg is not None]),
    }


def _query_summary(cell: Cell, group: str) -> dict[str, Any]:
    results = cell.queries(group)
    known = [r for r in results if r.has_truth]
    return {
        "queries": len(results),
        "registered": sum(r.inliers > 0 for r in results),
        "matches": _mean([r.matches for r in results]),
        "inliers": _mean([r.inliers for r in results]),
        "within": tuple(float(np.mean([r.within(*t) for r in known])) for t in LOCALIZATION_THRESHOLDS) if known else None,
        "position_m": _median([r.position_m for r in known if r.position_m is not None]),
        "rotation_deg": _median([r.rotation_deg for r in known if r.rotation_deg is not None]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
