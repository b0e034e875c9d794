"""A recording split in two: every Nth image makes the map, the others ask where they were taken, each from itself alone."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ros2_loc import __version__
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.records import Evaluation, FrameResult
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import RGB
from ros2_loc.localization.map_localizer import Localization, MapLocalizer
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.visualization.matches import draw_matches

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Two parts of one recording: images to map, and queries that are none of them."""

    mapping: ImageSequence
    queries: ImageSequence


def split(sequence: ImageSequence, map_every: int, limit: int | None = None) -> Split:
    """Every `map_every`-th image to the map, the others to the queries, of which `limit` are kept, evenly chosen.

    Raises:
        ConfigError: a split that leaves a part empty.
        DataError: images without poses.
    """
    if map_every < 2:
        raise ConfigError(f"--map-every {map_every}: 2 is the least, every image in the map leaves nothing to ask for")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: at least 1 query is needed")
    if not sequence.has_poses:
        raise DataError("the images have no poses to map with and to measure against: give --poses FILE")
    posed = [i for i, pose in enumerate(sequence.map_from_base) if pose is not None]
    mapped = posed[::map_every]
    queries = sorted(set(posed) - set(mapped))
    if len(mapped) < 2 or not queries:
        raise ConfigError(f"{len(posed)} images with poses are too few for --map-every {map_every}: give more images or a smaller number")
    return Split(sequence.subset(mapped), thinned(sequence.subset(queries), limit))


def thinned(sequence: ImageSequence, limit: int | None) -> ImageSequence:
    """At most `limit` of the images, evenly chosen."""
    if limit is None or limit >= len(sequence):
        return sequence
    return sequence.subset(np.linspace(0, len(sequence) - 1, limit).round().astype(int))


def without_truth(sequence: ImageSequence) -> ImageSequence:
    """The same images without poses: those of another place have none in this map."""
    return replace(sequence, map_from_base=(None,) * len(sequence))


def evaluate_queries(
    queries: ImageSequence, sparse_map: SparseMap, pipeline: PipelineConfig, title: str, show_progress: bool = True
) -> Evaluation:
    """Localize each query from itself alone and put its result beside the truth."""
    localizer = MapLocalizer(sparse_map, pipeline)
    names = [place.name for place in sparse_map.places]
    frames = []
    for i in _progress(range(len(queries)), show_progress):
        found = localizer.localize(queries.frame(i))
        frames.append(frame_result(queries.names[i], int(queries.stamps_ns[i]), queries.map_from_base[i], found, names))
    places_m = np.array([place.map_from_base.translation for place in sparse_map.places])
    return Evaluation(title, tuple(frames), places_m, describe(sparse_map))


def frame_result(name: str, stamp_ns: int, truth: Pose | None, found: Localization, place_names: Sequence[str]) -> FrameResult:
    """What a localization was worth, without its pictures."""
    return FrameResult(
        name=name,
        stamp_ns=stamp_ns,
        truth=truth,
        result=found.result,
        num_matches=found.num_matches,
        stage_s=dict(found.stage_s),
        place="" if found.best_place is None else place_names[found.best_place],
        candidates=tuple(place_names[c.source] for c in found.places.candidates),
        num_keypoints=len(found.keypoints_px),
    )


def describe(sparse_map: SparseMap) -> dict[str, str | int | float]:
    """Settings of an evaluation for people: the map, the program, the machine."""
    summary = sparse_map.provenance.get("summary", {})
    return {
        "map images": len(sparse_map.places),
        "map points": len(sparse_map.points_m),
        "mean reprojection error [px]": summary.get("mean_reprojection_error_px", "unknown"),
        "map built from": str(sparse_map.provenance.get("source", "")) or "unknown",
        "extractor of the map": _in_words(sparse_map.provenance["pipeline"]["extractor"]),
        "encoder of the map": _in_words(sparse_map.provenance["pipeline"]["encoder"]),
        "ros2_loc": __version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def _in_words(section: dict[str, Any]) -> str:
    """{"name": "sift", "max_keypoints": 2500} as "sift, max_keypoints 2500"."""
    return ", ".join([str(section["name"]), *(f"{key} {value}" for key, value in section.items() if key != "name")])


def matches_pictures(
    queries: ImageSequence, sparse_map: SparseMap, pipeline: PipelineConfig, mapping: ImageSequence | None = None
) -> Callable[[FrameResult], RGB | None]:
    """For `write_report`: localizes the frame once more and draws its matches, beside the map's own image where it is at hand."""
    localizer = MapLocalizer(sparse_map, pipeline)
    row = {int(stamp): i for i, stamp in enumerate(queries.stamps_ns)}
    originals = {} if mapping is None else {name: i for i, name in enumerate(mapping.names)}

    def picture(frame: FrameResult) -> RGB | None:
        if frame.stamp_ns not in row:
            return None
        found = localizer.localize(queries.frame(row[frame.stamp_ns]))
        if found.best_place is None or not isinstance(found.result, PoseEstimate):
            return None
        name, pairs = sparse_map.places[found.best_place].name, found.pairs_px
        if mapping is not None and name in originals:
            return draw_matches(queries.image(row[frame.stamp_ns]), mapping.image(originals[name]), pairs)
        thumbnail = sparse_map.thumbnail(found.best_place)
        scale = np.array([1.0, 1.0, thumbnail.shape[1] / sparse_map.camera.width, thumbnail.shape[0] / sparse_map.camera.height])
        return draw_matches(queries.image(row[frame.stamp_ns]), thumbnail, pairs * scale)

    return picture


def _progress(items: Iterable[T], show: bool) -> Iterable[T]:
    return tqdm(items, desc=" localize", disable=not show, leave=False, dynamic_ncols=True)
