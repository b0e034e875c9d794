"""What a cross-view evaluation found: one result per query, one track per run of the filter, and the JSON that holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ros2_loc.errors import DataError
from ros2_loc.evaluation import cross_view_metrics as cv
from ros2_loc.evaluation.metrics import ErrorStatistics, statistics
from ros2_loc.evaluation.records import finite
from ros2_loc.io.files import atomic_path, read_text

FORMAT = "ros2_loc cross-view evaluation"
VERSION = 1

TESTS = (1, 2)
# What must be near: the tile's centre moved by its best shift, as in the authors' code, or the centre alone, as in the paper's text. Tiles
# every 10 m overlap: about five hold the place within their shifts, and only three of these have their centres within 10 m of it, so that
# even a perfect network has a recall at 1 of 63 % by the centre.
MEASURES = ("position", "tile")


@dataclass(frozen=True, slots=True)
class TopTile:
    """One of the best tiles of a query: its id, its score, how far its centre is from the truth, and how far with its best shift, m."""

    tile: int
    score: float
    distance_m: float
    position_error_m: float


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query video.

    Attributes:
        drive, name, stamp_ns: its newest image.
        frames: images used, fewer than asked for near the start of a drive.
        truth_m, yaw_rad: where it was and which way it drove, in the tiles' frame.
        ranks: see `rank_key`; 0 is the first.
        top: best tiles of Test-2, best first.
        nearest_m: distance of the nearest tile's centre.
        aligned_error_m: (longitudinal, lateral) of the nearest tile's centre moved by its best shift.
        top_error_m: the same of the best tile of Test-2.
        heading_error_rad: of the best heading, None where headings were not searched.
    """

    drive: str
    name: str
    stamp_ns: int
    frames: int
    truth_m: tuple[float, float]
    yaw_rad: float
    ranks: dict[str, int]
    top: tuple[TopTile, ...]
    nearest_m: float
    aligned_error_m: tuple[float, float]
    top_error_m: tuple[float, float]
    heading_error_rad: float | None = None


@dataclass(frozen=True, slots=True)
class SingleShotMetrics:
    """Numbers of one `SingleShot`; None where there was nothing to compute them from.

    Attributes:
        recalls: rank_key -> share at each of `cross_view_metrics.RECALL_AT`.
        nearest: how far the nearest tile's centre is: what there would be without any shift.
        aligned: nearest tile and its best shift.
        top: best tile and its best shift, where that tile's centre is within `HOLDS_M`.
        heading_error_deg: of the same queries.
    """

    queries: int
    recalls: dict[str, tuple[float | None, ...]]
    nearest: ErrorStatistics | None
    aligned: cv.Displacement | None
    top: cv.Displacement | None
    heading_error_deg: ErrorStatistics | None


@dataclass(frozen=True)
class SingleShot:
    """Queries answered each from itself alone by one network.

    Attributes:
        label: for people, for instance "4 frames" or "w/o SSM".
        frames: asked for.
        model: name, sha256 and settings of the network.
        tiles: in the databases of Test-1 and of Test-2, over all areas.
        queries: may be none.
        seconds: stage -> time on this machine per unit of work, see `cross_view.single_shot`.
    """

    label: str
    frames: int
    model: dict[str, Any]
    tiles: tuple[int, int]
    queries: tuple[QueryResult, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> SingleShotMetrics:
        """Computed once."""
        return single_shot_metrics(self.queries)


@dataclass(frozen=True, slots=True)
class FilterRun:
    """One drive of a filter from a uniform prior, one entry per frame that was judged; see `cross_view_metrics.RunTrack`.

    Attributes:
        sigma_m: claimed, largest axis; None where no pose was given.
        mass: of the strongest mode.
        reason: why there was no pose, empty where there was one.
    """

    drive: str
    start_ns: int
    travelled_m: tuple[float, ...]
    accepted: tuple[bool, ...]
    error_m: tuple[float | None, ...]
    nees: tuple[float | None, ...]
    sigma_m: tuple[float | None, ...]
    mass: tuple[float, ...]
    reason: tuple[str, ...]

    @property
    def track(self) -> cv.RunTrack:
        """As arrays; an answer that is missing is infinitely far off."""
        error = [np.inf if e is None else e for e in self.error_m]
        nees = [np.nan if n is None else n for n in self.nees]
        return cv.RunTrack(np.array(self.travelled_m, float), np.array(self.accepted, bool), np.array(error, float), np.array(nees, float))


@dataclass(frozen=True)
class FilterCondition:
    """Runs under one condition, for instance "odometry 5 % long"."""

    label: str
    runs: tuple[FilterRun, ...]

    @cached_property
    def metrics(self) -> cv.FilterMetrics:
        """Computed once; raises ValueError without runs."""
        return cv.filter_metrics([run.track for run in self.runs])


@dataclass(frozen=True)
class CrossViewEvaluation:
    """All of one call.

    Attributes:
        title: what was evaluated.
        settings: what it takes to do it again: drives, seeds, weights, versions.
        single: single-shot results; the rows of an ablation.
        filters: runs of the filter by condition.
        ablation: key of `cross_view_paper.TABLES`, or "".
        missing: rows of that table for which there was no network.
    """

    title: str
    settings: dict[str, Any]
    single: tuple[SingleShot, ...] = ()
    filters: tuple[FilterCondition, ...] = ()
    ablation: str = ""
    missing: tuple[str, ...] = ()

    def write_json(self, path: Path | str) -> None:
        """Writes results and, for whoever reads the file, the metrics; whole or not at all."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        metrics = [asdict(s.metrics) for s in self.single] + [asdict(f.metrics) for f in self.filters]
        for entry, found in zip((*content["single"], *content["filters"]), metrics, strict=True):
            entry["metrics"] = found
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read_json(path: Path | str) -> CrossViewEvaluation:
        """Reads what `write_json` wrote; metrics are computed anew.

        Raises:
            DataError: no such file, not JSON, another format or version, or damaged.
        """
        try:
            content = json.loads(read_text(path, "cross-view evaluation"))
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error}): write it again with `ros2-loc evaluate cross-view --json`") from error
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise DataError(f"{path}: not a {FORMAT} of version {VERSION}: write it with `ros2-loc evaluate cross-view --json`")
        try:
            return CrossViewEvaluation(
                content["title"],
                content["settings"],
                tuple(_single_from_json(s) for s in content["single"]),
                tuple(FilterCondition(f["label"], tuple(_run_from_json(r) for r in f["runs"])) for f in content["filters"]),
                content["ablation"],
                tuple(content["missing"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged evaluation: {type(error).__name__} {error}") from error


def rank_key(test: int, radius_m: float, measure: str) -> str:
    """Key of `QueryResult.ranks`: of Test-1 or Test-2, within a radius, of the tile's centre or of the position with its shift."""
    return f"test{test}_{radius_m:g}m_{measure}"


RANK_KEYS = tuple(rank_key(test, radius, measure) for measure in MEASURES for radius in cv.RADII_M for test in TESTS)


def single_shot_metrics(queries: Sequence[QueryResult]) -> SingleShotMetrics:
    """The metrics of these queries."""
    arrived = [q for q in queries if q.top and q.top[0].distance_m <= cv.HOLDS_M]
    turned = [abs(np.degrees(q.heading_error_rad)) for q in arrived if q.heading_error_rad is not None]
    return SingleShotMetrics(
        queries=len(queries),
        recalls={key: tuple(cv.recall_at([q.ranks[key] for q in queries], k) for k in cv.RECALL_AT) for key in RANK_KEYS},
        nearest=statistics([q.nearest_m for q in queries]),
        aligned=cv.displacement([q.aligned_error_m for q in queries]),
        top=cv.displacement([q.top_error_m for q in arrived]),
        heading_error_deg=statistics(turned),
    )


def _single_from_json(content: dict[str, Any]) -> SingleShot:
    queries = tuple(_query_from_json(q) for q in content["queries"])
    first, second = content["tiles"]
    return SingleShot(content["label"], int(content["frames"]), content["model"], (first, second), queries, content["seconds"])


def _query_from_json(content: dict[str, Any]) -> QueryResult:
    values = dict(content)
    for name in ("truth_m", "aligned_error_m", "top_error_m"):
        values[name] = tuple(values[name])
    values["top"] = tuple(TopTile(**t) for t in values["top"])
    if set(values["ranks"]) != set(RANK_KEYS):
        raise ValueError(f"query {values['name']} has the ranks {', '.join(values['ranks'])}")
    return QueryResult(**values)


def _run_from_json(content: dict[str, Any]) -> FilterRun:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return FilterRun(**values)
