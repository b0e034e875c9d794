"""Re-ranking only as far as it is needed, on one data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ros2_loc.core.types import Candidate, PlaceEvidence
from ros2_loc.evaluation.retrieval_work import Reranking
from ros2_loc.retrieval.reranking import AdaptiveReranking


@dataclass(frozen=True, slots=True)
class AdaptiveFound:
    """What `AdaptiveReranking` did for one query, besides the order."""

    inliers: tuple[int, ...] | None
    num_scored: int
    why: str
    stage_s: dict[str, float]


class AdaptiveWork:
    """The re-ranker of a method, used as the localizer uses it, with its default settings."""

    def __init__(self, work: Reranking) -> None:
        self._work = work
        self._adaptive = AdaptiveReranking(work.reranker, AdaptiveReranking.Config())

    def rerank(self, query: int, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], AdaptiveFound]:
        """Candidates in their final order."""
        self._work.places.load([c.source for c in candidates])  # off the disk before the clock runs
        told: dict[str, float] = {}

        def describe() -> PlaceEvidence:
            evidence, stage_s = self._work.describe(query)
            told.update(stage_s)
            return evidence

        found = self._adaptive.rerank(describe, list(candidates), self._work.places.get)
        stage_s = {name: seconds for name, seconds in found.stage_s.items() if name in ("matching", "scoring")}
        return found.candidates, AdaptiveFound(None, found.num_scored, found.why, {**told, **stage_s})
