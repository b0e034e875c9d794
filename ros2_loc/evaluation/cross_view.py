"""Single-shot cross-view localization: every video asks all tiles of its area where it was taken (CVLNet, section 5)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.core.overhead import subcell_peak
from ros2_loc.core.types import GroundFeatures, OverheadDescriptor, TileDescriptors
from ros2_loc.evaluation import cross_view_metrics as cv
from ros2_loc.evaluation.cross_view_queries import Area, Query, QueryConfig, choose_queries
from ros2_loc.evaluation.cross_view_records import TESTS, QueryResult, SingleShot, TopTile, rank_key
from ros2_loc.retrieval.tile_matching import match_tiles

Array = NDArray[np.float64]

_CHUNK_FLOATS = 24_000_000  # of similarities held at once, 100 MB
_TOP = 10


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Queries of one area against its tiles.

    Attributes:
        scores: (Q, T) at the best shift and heading.
        shifts: (Q, T) flat index of that shift.
        nearest_maps, best_maps: (Q, K, K) of the nearest tile, and of the one with the highest score, at its best heading.
        turns_rad: (Q,) best heading of the best tile minus the given one.
    """

    scores: NDArray[np.float32]
    shifts: NDArray[np.int16]
    nearest_maps: NDArray[np.float32]
    best_maps: NDArray[np.float32]
    turns_rad: Array


@dataclass(eq=False)
class Stopwatch:
    """Seconds and units of work per stage."""

    total: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, stage: str, begin_s: float, units: float) -> None:
        """Work that began at this time.perf_counter()."""
        seconds, done = self.total.get(stage, (0.0, 0.0))
        self.total[stage] = (seconds + time.perf_counter() - begin_s, done + units)

    def per_unit(self) -> dict[str, float]:
        """Seconds per unit."""
        return {stage: seconds / units for stage, (seconds, units) in self.total.items()}


def single_shot(
    areas: Sequence[Area],
    encoder: CrossViewEncoder,
    config: QueryConfig,
    model: dict[str, object],
    label: str = "",
    show_progress: bool = False,
) -> SingleShot:
    """Answers all queries with one network.

    Args:
        areas: their tiles are cut to the encoder's size and encoded here.
        model: shown with the result: name, sha256, settings of the network.

    Returns:
        Results with `seconds` per tile (encode tile), per frame (encode frame), per video (describe) and per video and 1000 tiles (match).

    Raises:
        DataError: see `choose_queries`.
    """
    watch, results, sizes = Stopwatch(), [], np.zeros(2, int)
    share = max(round(config.queries / len(areas)), 1)
    for area in areas:
        queries, _ = choose_queries(area, config, share)
        described = encode_area(area, encoder, watch, show_progress)
        matched = match_area(area, encoder, described, queries, config, watch, show_progress)
        results += results_of(area, encoder, queries, matched, searched=config.search_heading_deg > 0)
        near, _ = cv.nearest([q.truth.translation[:2] for q in queries], area.centres_m)
        sizes += (len(np.unique(near)), len(area.centres_m))
    name = label or f"{config.frames} frame{'s' if config.frames > 1 else ''}"
    return SingleShot(name, config.frames, dict(model), (int(sizes[0]), int(sizes[1])), tuple(results), watch.per_unit())


def encode_area(area: Area, encoder: CrossViewEncoder, watch: Stopwatch, show_progress: bool, batch: int = 64) -> TileDescriptors:
    """Descriptors of all tiles of an area, in their order."""
    parts, metres_per_px = [], encoder.grid.coverage_m / encoder.tile_px
    for start in tqdm(range(0, len(area.centres_m), batch), desc=" tiles", disable=not show_progress, leave=False, dynamic_ncols=True):
        some = area.centres_m[start : start + batch]
        images = np.stack([area.imagery.crop(centre, encoder.tile_px, metres_per_px)[0] for centre in some])
        begin = time.perf_counter()
        parts.append(encoder.encode_tiles(images))
        watch.add("encode tile", begin, len(images))
    features, uncertainty = (np.concatenate([getattr(p, name) for p in parts]) for name in ("features", "uncertainty"))
    return TileDescriptors(features, uncertainty, encoder.fingerprint)


def match_area(
    area: Area,
    encoder: CrossViewEncoder,
    tiles: TileDescriptors,
    queries: Sequence[Query],
    config: QueryConfig,
    watch: Stopwatch,
    show_progress: bool,
) -> Matched:
    """Scores of all queries of an area; every image goes through the backbone once."""
    near, _ = cv.nearest([q.truth.translation[:2] for q in queries], area.centres_m)
    cache: dict[tuple[int, int], GroundFeatures] = {}
    chunk = max(_CHUNK_FLOATS // (len(area.centres_m) * encoder.grid.num_shifts**2), 1)
    turns = heading_steps_rad(config)
    parts = []
    bar = tqdm(total=len(queries), desc=" queries", disable=not show_progress, leave=False, dynamic_ncols=True)
    for start in range(0, len(queries), chunk):
        some = queries[start : start + chunk]
        features = [[_features(area, encoder, q.drive, i, cache, watch) for i in q.images] for q in some]
        begin = time.perf_counter()
        described = [encoder.describe_many(f, [q.turned(t) for t in turns]) for f, q in zip(features, some, strict=True)]
        watch.add("describe", begin, len(some) * len(turns))
        begin = time.perf_counter()
        parts.append(_match(described, tiles, near[start : start + chunk], turns))
        watch.add("match 1000 tiles", begin, len(some) * len(turns) * len(area.centres_m) / 1000)
        bar.update(len(some))
    bar.close()
    return Matched(*(np.concatenate([getattr(p, name) for p in parts]) for name in Matched.__dataclass_fields__))


def heading_steps_rad(config: QueryConfig) -> tuple[float, ...]:
    """What is added to the given heading; only 0 where headings are not searched."""
    steps = int(config.search_heading_deg / config.search_step_deg)
    return tuple(float(np.radians(k * config.search_step_deg)) for k in range(-steps, steps + 1))


def results_of(area: Area, encoder: CrossViewEncoder, queries: Sequence[Query], matched: Matched, searched: bool) -> list[QueryResult]:
    """What each query was answered."""
    centres = np.asarray(area.centres_m)
    truth = np.array([q.truth.translation[:2] for q in queries])
    yaw = np.array([q.yaw_rad for q in queries])
    near, near_m = cv.nearest(truth, centres)
    best = matched.scores.argmax(axis=1)
    far = _distances_m(encoder, matched, truth, centres)
    ranks = _ranks(matched.scores, far, near)
    aligned = cv.in_driving_frame(centres[near] + _offsets(encoder, matched.nearest_maps) - truth, yaw)
    top = cv.in_driving_frame(centres[best] + _offsets(encoder, matched.best_maps) - truth, yaw)
    return [
        QueryResult(
            drive=area.drives[q.drive].name,
            name=area.drives[q.drive].sequence.names[q.images[0]],
            stamp_ns=int(area.drives[q.drive].sequence.stamps_ns[q.images[0]]),
            frames=len(q.images),
            truth_m=_pair(truth[i]),
            yaw_rad=q.yaw_rad,
            ranks={key: int(rank[i]) for key, rank in ranks.items()},
            top=_top(matched.scores[i], far["tile"][i], far["position"][i]),
            nearest_m=float(near_m[i]),
            aligned_error_m=_pair(aligned[i]),
            top_error_m=_pair(top[i]),
            heading_error_rad=float(q.heading_error_rad + matched.turns_rad[i]) if searched else None,
        )
        for i, q in enumerate(queries)
    ]


def _features(
    area: Area, encoder: CrossViewEncoder, drive: int, image: int, cache: dict[tuple[int, int], GroundFeatures], watch: Stopwatch
) -> GroundFeatures:
    if (drive, image) not in cache:
        frame = area.drives[drive].sequence.frame(image)
        begin = time.perf_counter()
        cache[drive, image] = encoder.encode_frame(frame)
        watch.add("encode frame", begin, 1)
    return cache[drive, image]


def _match(described: Sequence[Sequence[OverheadDescriptor]], tiles: TileDescriptors, near: Array, turns: tuple[float, ...]) -> Matched:
    best: Matched | None = None
    for h, turn in enumerate(turns):
        found = _at_one_heading([d[h] for d in described], tiles, near, turn)
        best = found if best is None else _better(best, found, near)
    assert best is not None
    return best


def _at_one_heading(described: Sequence[OverheadDescriptor], tiles: TileDescriptors, near: Array, turn_rad: float) -> Matched:
    maps = match_tiles(described, tiles.features, tiles.uncertainty)
    flat = maps.reshape(*maps.shape[:2], -1)
    shifts = flat.argmax(axis=2)
    scores = np.take_along_axis(flat, shifts[..., None], axis=2)[..., 0]
    rows = np.arange(len(maps))
    return Matched(scores, shifts.astype(np.int16), maps[rows, near], maps[rows, scores.argmax(axis=1)], np.full(len(maps), turn_rad))


def _better(a: Matched, b: Matched, near: Array) -> Matched:
    rows = np.arange(len(near))
    of_nearest = b.scores[rows, near] > a.scores[rows, near]
    of_best = b.scores.max(axis=1) > a.scores.max(axis=1)
    higher = b.scores > a.scores
    return Matched(
        np.where(higher, b.scores, a.scores),
        np.where(higher, b.shifts, a.shifts),
        np.where(of_nearest[:, None, None], b.nearest_maps, a.nearest_maps),
        np.where(of_best[:, None, None], b.best_maps, a.best_maps),
        np.where(of_best, b.turns_rad, a.turns_rad),
    )


def _distances_m(encoder: CrossViewEncoder, matched: Matched, truth: Array, centres: Array) -> dict[str, Array]:
    """(Q, T) of every measure of `cross_view_records.MEASURES`."""
    moved = encoder.grid.shift_offsets_m().reshape(-1, 2)[matched.shifts] + centres
    return {"position": cv.distances_m(truth, moved), "tile": cv.distances_m(truth, centres)}


def _ranks(scores: NDArray[np.float32], distances_m: dict[str, Array], near: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Of every test, radius and measure of `cross_view_records.RANK_KEYS`."""
    columns = dict(zip(TESTS, (np.unique(near), np.arange(scores.shape[1])), strict=True))
    return {
        rank_key(test, radius, measure): cv.ranks(scores[:, columns[test]], distance[:, columns[test]] <= radius)
        for measure, distance in distances_m.items()
        for radius in cv.RADII_M
        for test in TESTS
    }


def _offsets(encoder: CrossViewEncoder, maps: NDArray[np.float32]) -> Array:
    """(N, 2) m east, north of the peak of each map, between the shifts where its neighbours say so."""
    peaks = np.array([subcell_peak(m) for m in maps])
    return encoder.grid.shift_offset_m(peaks[:, 0], peaks[:, 1])


def _top(scores: NDArray[np.float32], centre_m: Array, position_m: Array) -> tuple[TopTile, ...]:
    order = np.argsort(-scores, kind="stable")[:_TOP].tolist()
    return tuple(TopTile(t, float(scores[t]), float(centre_m[t]), float(position_m[t])) for t in order)


def _pair(values: Array) -> tuple[float, float]:
    return float(values[0]), float(values[1])
