"""Re-ranking only as far as it is needed, on one data set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from ros2_loc.core.types import Candidate
from ros2_loc.evaluation.retrieval_work import Reranking
from ros2_loc.io.place_datasets import PlaceImages
from ros2_loc.retrieval.reranking import AdaptiveReranking

_APART_M = 1e6


@dataclass(frozen=True, slots=True)
class AdaptiveFound:
    """What `AdaptiveReranking` made of one query; `candidates` in their final order, `signs` as of `retrieval.confidence.Signs`."""

    candidates: tuple[Candidate, ...]
    inliers: tuple[int, ...] | None
    num_scored: int
    why: str
    confidence: float
    signs: tuple[float | None, ...]
    stage_s: dict[str, float]


class AdaptiveWork:
    """The re-ranker of a method, used as the localizer uses it, with its default settings and without a belief."""

    def __init__(self, work: Reranking, database: PlaceImages) -> None:
        self._work = work
        # nobody knows which of these show one place: each is taken for another
        numbered_m = np.column_stack([_APART_M * np.arange(len(database)), np.zeros(len(database))])
        positions_m = numbered_m if database.positions_m is None else database.positions_m
        self._adaptive = AdaptiveReranking(work.reranker, AdaptiveReranking.Config(), positions_m)

    def rerank(self, query: int, candidates: Sequence[Candidate]) -> AdaptiveFound:
        """The candidates of a query."""
        self._work.places.load([c.source for c in candidates])  # off the disk before the clock runs
        loaded = self._work.loaded(query)
        begin = time.perf_counter()
        found = self._adaptive.rerank(lambda: self._work.reranker.describe(*loaded), list(candidates), self._work.places.get)
        inliers = tuple(int(n) for n in found.inliers) if (found.inliers >= 0).any() else None
        stage_s = {stage: float(found.stage_s.get(stage, 0.0)) for stage in ("describe", "matching")}
        stage_s["scoring"] = time.perf_counter() - begin - sum(stage_s.values())
        return AdaptiveFound(found.candidates, inliers, found.num_scored, found.why, float(found.confidence), astuple(found.signs), stage_s)
