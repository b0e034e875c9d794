"""Findings of `map check` and `doctor`: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.errors import Ros2LocError

if TYPE_CHECKING:
    from ros2_loc.localization.pipeline import PipelineConfig
    from ros2_loc.mapping.sparse_map import SparseMap


class Mark(str, Enum):
    """How bad it is; BAD makes the exit code 1."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, what to do about it."""

    mark: Mark
    subject: str
    text: str
    remedy: str = ""


def good(subject: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(Mark.GOOD, subject, text)


def note(subject: str, text: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Mark.NOTE, subject, text, remedy)


def bad(subject: str, text: str, remedy: str = "") -> Finding:
    """Something will not work."""
    return Finding(Mark.BAD, subject, text, remedy)


def report(findings: Iterable[Finding]) -> str:
    """One line each: mark, subject, text, remedy."""
    rows = list(findings)
    width = max((len(f.subject) for f in rows), default=0)
    lines = [f"{f.mark.value:<5}{f.subject.ljust(width)}  {f.text}" + (f" -> {f.remedy}" if f.remedy else "") for f in rows]
    return "\n".join(lines)


def check_map(folder: Path, pipeline: PipelineConfig, min_points: int = 100) -> list[Finding]:
    """Format, checksums, the pipeline's features against the map's, places with few points, scale and origin."""
    from ros2_loc.mapping.sparse_map import SparseMap

    try:
        sparse_map = SparseMap.load(folder, verify=True)
    except Ros2LocError as error:
        return [bad("map", str(error))]
    size = f"{len(sparse_map.places)} places, {len(sparse_map.points_m)} points"
    findings = [good("map", f"{folder}: {size}; checksums are right")]
    try:
        sparse_map.check_built_with(pipeline.extractor, pipeline.encoder)
        findings.append(good("pipeline", f"its features are those of the map ({pipeline.extractor['name']}, {pipeline.encoder['name']})"))
    except Ros2LocError as error:
        findings.append(bad("pipeline", str(error)))
    if differs := sparse_map.masked_otherwise(pipeline.detector):
        findings.append(note("masks", differs, "best is one detector for both: build the map with the pipeline, or name it there"))
    return [*findings, *_weak_places(sparse_map, min_points), *_scale(sparse_map)]


def _weak_places(sparse_map: SparseMap, min_points: int) -> list[Finding]:
    weak = [place for place in sparse_map.places if len(place.features) < min_points]
    if not weak:
        least = min(len(place.features) for place in sparse_map.places)
        return [good("places", f"each sees at least {least} points")]
    lines = [note("weak place", f"{place.name}: sees {len(place.features)} points, fewer than {min_points}") for place in weak[:20]]
    more = f"{len(weak)} of {len(sparse_map.places)} places are weak"
    return [*lines, note("places", more, "poses there will be vague: map them with more images (a smaller --every) or in better light")]


def _scale(sparse_map: SparseMap) -> list[Finding]:
    findings = []
    if not sparse_map.metric:
        findings.append(bad("scale", "arbitrary: poses are not in metres", "build with poses, or from a bag with GNSS or odometry"))
    if sparse_map.origin is None:
        findings.append(note("origin", "not georeferenced: no earth->map transform will be published"))
    if not sparse_map.error_model.num_trials:
        findings.append(note("covariance", "the map's own errors were assumed, not measured", "map at least 20 images with poses"))
    return findings
