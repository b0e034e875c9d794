"""Re-ranking by the number of mutual nearest neighbours: no geometry, but cheap and hard to fool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, Matches, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.perception.matchers.mutual_nearest import MutualNearest


class MatchCount:
    """The candidate's new score is its number of matches."""

    @dataclass(frozen=True)
    class Config:
        """`max_keypoints` of an image that take part: the best few hundred tell places apart as well as all of them."""

        max_keypoints: int = 500
        max_ratio: float = 0.85

    name = "match_count"
    needs_image = False
    needs_features = True
    batch_size = 1
    listwise = False

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._matcher = MutualNearest(MutualNearest.Config(max_ratio=config.max_ratio))

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        """The best of the features."""
        assert features is not None, "match_count compares local features"
        best = features.select(slice(0, self._config.max_keypoints))  # type: ignore[arg-type]
        return PlaceEvidence(self.name, {"keypoints": best.keypoints, "descriptors": best.descriptors.astype(np.float16)})

    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        """`describe` of each."""
        assert features is not None, "match_count compares local features"
        return [self.describe(None, each) for each in features]

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        """Numbers of matches."""
        counts = [len(found) for found in self._matched(query, places)] if places else []
        return PlaceScores(np.array(counts, dtype=np.float32))

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """All of them."""
        (found,) = self._matched(query, [place])
        pairs = (query.arrays["keypoints"][found.indices[:, 0]], place.arrays["keypoints"][found.indices[:, 1]])
        return PlaceMatches(*pairs, np.ones(len(found), dtype=bool))

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """Those that take part."""
        return evidence.arrays["keypoints"]

    def _matched(self, query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> list[Matches]:
        return self._matcher.match_many(_features(query), [_features(place) for place in places])


def _features(evidence: PlaceEvidence) -> LocalFeatures:
    keypoints, descriptors = evidence.arrays["keypoints"], evidence.arrays["descriptors"].astype(np.float32)
    ones = np.ones(len(keypoints), dtype=np.float32)
    return LocalFeatures(keypoints, descriptors, ones, ones, evidence.reranker, (1, 1))
