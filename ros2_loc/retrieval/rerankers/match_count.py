"""Re-ranking by the number of mutual nearest neighbours: no geometry, but cheap and hard to fool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ros2_loc.core.types import Candidate, LocalFeatures
from ros2_loc.perception.matchers.mutual_nearest import MutualNearest


class MatchCount:
    """The candidate's new score is its number of matches."""

    @dataclass(frozen=True)
    class Config:
        """`max_keypoints` of the query that take part: the best few hundred tell places apart as well as all of them."""

        max_keypoints: int = 500
        max_ratio: float = 0.85

    name = "match_count"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._matcher = MutualNearest(MutualNearest.Config(max_ratio=config.max_ratio))

    def rerank(self, query: LocalFeatures, candidates: Sequence[Candidate], references: Sequence[LocalFeatures]) -> list[Candidate]:
        """Most matches first; equal counts keep the order of retrieval."""
        if not candidates:
            return []
        best = query.select(slice(0, self._config.max_keypoints))  # type: ignore[arg-type]
        counts = [len(m) for m in self._matcher.match_many(best, list(references))]
        order = sorted(range(len(candidates)), key=lambda i: -counts[i])
        return [Candidate(candidates[i].source, float(counts[i])) for i in order]
