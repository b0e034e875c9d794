"""What an evaluation of detectors found: the scores of each method on one set of images, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ros2_loc.errors import DataError
from ros2_loc.evaluation.detection_errors import ErrorBreakdown
from ros2_loc.evaluation.detection_metrics import CocoScores, FalseDiscovery, OperatingPoint
from ros2_loc.evaluation.records import finite
from ros2_loc.io.files import atomic_path, read_text

FORMAT = "ros2_loc detection evaluation"
VERSION = 1

ByLabel = dict[str, dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """One method.

    Attributes:
        box, mask: COCO's numbers; `mask` is None where the method or the truth has no masks.
        false_discovery: CenterNet's FD.
        errors: TIDE's breakdown at IoU 0.5.
        pascal: label -> AP at IoU 0.7 by "all" and by "11" points.
        kitti: label -> difficulty -> AP; {} elsewhere.
        operating: the score with the best F1; None where nothing is found or nothing there.
        detections: how many there were, of the labels that are judged.
        median_s, p95_s: of an image, without reading it; None of a file of detections.
    """

    box: CocoScores
    mask: CocoScores | None
    false_discovery: FalseDiscovery
    errors: ErrorBreakdown
    pascal: ByLabel
    kitti: ByLabel
    operating: OperatingPoint | None
    detections: int
    median_s: float | None
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class DetectionCell:
    """A method and its scores, or why it has none."""

    method: str
    scores: DetectionScores | None
    not_run: str = ""


@dataclass(frozen=True, slots=True)
class JudgedOn:
    """The images and labels of an evaluation.

    Attributes:
        dataset, path, kind: what it is called, where it lies, its format.
        images, objects, ignored, left_out: how many; objects without an area are left out.
        labels: that are judged; `counts` objects of each.
        unjudged: labels of the data set that a detector does not know: their objects are ignored regions.
        max_detections: of an image and label.
    """

    dataset: str
    path: str
    kind: str
    images: int
    objects: int
    ignored: int
    left_out: int
    labels: tuple[str, ...]
    counts: dict[str, int]
    unjudged: tuple[str, ...]
    max_detections: int


@dataclass(frozen=True)
class DetectionEvaluation:
    """All of one call: what it takes to do it again, what it was judged on, and a cell for each method."""

    title: str
    settings: dict[str, Any]
    judged_on: JudgedOn
    cells: tuple[DetectionCell, ...] = field(default_factory=tuple)

    def write_json(self, path: Path | str) -> None:
        """Writes it whole or not at all."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read_json(path: Path | str) -> DetectionEvaluation:
        """Reads what `write_json` wrote.

        Raises:
            DataError: no such file, not JSON, another format or version, or damaged.
        """
        again = "write it again with `ros2-loc evaluate detection`"
        try:
            content = json.loads(read_text(path, "evaluation of detectors"))
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error}): {again}") from error
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise DataError(f"{path}: not a {FORMAT} of version {VERSION}: {again}")
        try:
            judged_on = JudgedOn(**_tuples(content["judged_on"]))
            cells = tuple(DetectionCell(c["method"], _scores(c["scores"]), c["not_run"]) for c in content["cells"])
            return DetectionEvaluation(str(content["title"]), dict(content["settings"]), judged_on, cells)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged evaluation: {type(error).__name__} {error}") from error


def _scores(content: Mapping[str, Any] | None) -> DetectionScores | None:
    if content is None:
        return None
    parts = {
        "box": _coco(content["box"]),
        "mask": None if content["mask"] is None else _coco(content["mask"]),
        "false_discovery": FalseDiscovery(**content["false_discovery"]),
        "errors": ErrorBreakdown(**content["errors"]),
        "operating": None if content["operating"] is None else OperatingPoint(**content["operating"]),
    }
    return DetectionScores(**{**content, **parts})


def _coco(content: Mapping[str, Any]) -> CocoScores:
    return CocoScores(**{**content, "curves": {k: tuple(v) for k, v in content["curves"].items()}})


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
