"""Pictures of a cross-view evaluation: what telling queries looked like from above, what they retrieved, how a belief narrowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.core.overhead import subcell_peak
from ros2_loc.core.types import PoseEstimate
from ros2_loc.evaluation import cross_view_metrics as cv
from ros2_loc.evaluation.cross_view_filter import Condition, Moment
from ros2_loc.evaluation.cross_view_queries import Area, Query, QueryConfig, choose_queries
from ros2_loc.evaluation.cross_view_records import QueryResult, SingleShot, rank_key
from ros2_loc.retrieval.tile_matching import match_tiles
from ros2_loc.visualization.cross_view import (
    BeliefPicture,
    OverheadExample,
    RetrievedTile,
    draw_beliefs,
    draw_example,
    draw_retrieval,
)

Image = NDArray[np.uint8]

_BACKGROUND_PX = 640
_TILES_SHOWN = 5


def telling_queries(results: Sequence[QueryResult]) -> list[tuple[str, QueryResult]]:
    """Those with the best, a middling and the worst rank; among equals, the one in the middle."""
    key = rank_key(2, cv.ARRIVED_M, "position")
    ranked = sorted(results, key=lambda q: (q.ranks[key], float(np.hypot(*q.aligned_error_m))))
    found = sum(q.ranks[key] == 0 for q in ranked)
    places = (("Found at once", found // 2), ("In the middle", len(ranked) // 2), ("Among the worst", len(ranked) - 1))
    chosen: dict[tuple[str, str], tuple[str, QueryResult]] = {}
    for label, i in places:
        if ranked and (found or label != "Found at once"):
            chosen.setdefault((ranked[i].drive, ranked[i].name), (label, ranked[i]))
    return list(chosen.values())


def query_pictures(areas: Sequence[Area], encoder: CrossViewEncoder, config: QueryConfig, result: SingleShot) -> dict[str, Image]:
    """Caption -> picture: each telling query beside its nearest tile, and the tiles that all of them retrieved."""
    out: dict[str, Image] = {}
    rows, words = [], []
    for label, answer in telling_queries(result.queries):
        area, query = _found_again(areas, config, answer)
        rank = _in_words(answer.ranks[rank_key(2, cv.ARRIVED_M, "position")], len(area.centres_m))
        caption = f"{label}: {answer.drive} {answer.name}, {rank} of {len(area.centres_m)} tiles"
        if encoder.grid.cells > 1:
            out[f"{caption}, with its nearest tile. Circle: truth; cross: the best shift."] = draw_example(_example(area, encoder, query))
        tiles = [
            RetrievedTile(_tile(area, encoder, top.tile), top.position_error_m, top.position_error_m <= cv.ARRIVED_M)
            for top in answer.top[:_TILES_SHOWN]
        ]
        rows.append((area.drives[query.drive].sequence.image(query.images[0]), tiles))
        words.append(f"{label}: {rank}")
    if rows:
        note = "The newest image of a query and its best tiles; green where tile and shift give the place to 10 m."
        out[note] = draw_retrieval(rows, words)
    return out


@dataclass(eq=False)
class BeliefRecorder:
    """Notes what the first run of the first condition of an area believed; a `cross_view_filter.Watch`."""

    at_m: tuple[float, ...] = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0)
    label: str = ""
    moments: list[Moment] = field(default_factory=list)
    path_m: list[NDArray[np.float64]] = field(default_factory=list)

    def __call__(self, condition: Condition, number: int, moment: Moment) -> None:
        """Keeps the first moment after each of `at_m`."""
        self.label = self.label or condition.label
        if number != 0 or condition.label != self.label:
            return
        self.path_m.append(moment.truth.translation[:2])
        if len(self.moments) < len(self.at_m) and moment.travelled_m >= self.at_m[len(self.moments)]:
            self.moments.append(moment)

    def picture(self, area: Area) -> Image:
        """All moments over the area's imagery."""
        west, south, east, north = area.imagery.bounds_m
        side = max(east - west, north - south)
        metres_per_px = side / _BACKGROUND_PX
        centre = (0.5 * (west + east), 0.5 * (south + north))
        background = area.imagery.crop(centre, _BACKGROUND_PX, metres_per_px)[0]
        bounds = (centre[0] - side / 2, centre[1] - side / 2, centre[0] + side / 2, centre[1] + side / 2)
        return draw_beliefs(background, bounds, [self._drawn(m) for m in self.moments])

    def _drawn(self, moment: Moment) -> BeliefPicture:
        estimate = moment.result if isinstance(moment.result, PoseEstimate) else None
        here = moment.truth.translation[:2]
        steps = [k for k, p in enumerate(self.path_m) if np.array_equal(p, here)]
        if estimate is None:
            modes = moment.belief.modes
            said = f"no pose, {len(modes)} place{'' if len(modes) == 1 else 's'}, the best {modes[0].mass:.0%}" if modes else "no pose"
        else:
            said = f"pose, {np.linalg.norm(estimate.map_from_base.translation[:2] - here):.1f} m off"
        return BeliefPicture(
            probability=moment.belief.probability,
            bounds_m=moment.belief.bounds_m,
            truth_m=here,
            path_m=np.array(self.path_m[: steps[0] + 1]),
            estimate_m=None if estimate is None else estimate.map_from_base.translation[:2],
            covariance=None if estimate is None else estimate.covariance[:2, :2],
            words=f"{moment.travelled_m:.0f} m: {said}",
        )


def _in_words(rank: int, tiles: int) -> str:
    return f"right at rank {rank + 1}" if rank < tiles else "right at no rank"


def _found_again(areas: Sequence[Area], config: QueryConfig, answer: QueryResult) -> tuple[Area, Query]:
    share = max(round(config.queries / len(areas)), 1)
    for area in areas:
        if answer.drive in (drive.name for drive in area.drives):
            for query in choose_queries(area, config, share)[0]:
                drive = area.drives[query.drive]
                if (drive.name, drive.sequence.names[query.images[0]]) == (answer.drive, answer.name):
                    return area, query
    raise ValueError(f"{answer.drive} {answer.name} is none of the queries of these settings")


def _example(area: Area, encoder: CrossViewEncoder, query: Query) -> OverheadExample:
    sequence = area.drives[query.drive].sequence
    features = [encoder.encode_frame(sequence.frame(i)) for i in query.images]
    described = encoder.describe(features, query.query_from_base)
    truth = query.truth.translation[:2]
    nearest = int(cv.nearest(truth[None], area.centres_m)[0][0])
    image = _tile(area, encoder, nearest)
    tile = encoder.encode_tiles(image[None])
    scores = match_tiles(described, tile.features, tile.uncertainty)[0, 0]
    return OverheadExample(
        frames=[sequence.image(i) for i in query.images],
        tile=image,
        grid=encoder.grid,
        overhead=described.features,
        visible=described.visible,
        tile_features=np.asarray(tile.features[0], dtype=np.float32),
        uncertainty=tile.uncertainty[0],
        scores=scores,
        truth_m=truth - area.centres_m[nearest],
        estimate_m=encoder.grid.shift_offset_m(*subcell_peak(scores)),
        yaw_rad=query.yaw_rad,
    )


def _tile(area: Area, encoder: CrossViewEncoder, index: int) -> Image:
    return area.imagery.crop(area.centres_m[index], encoder.tile_px, encoder.grid.coverage_m / encoder.tile_px)[0]
