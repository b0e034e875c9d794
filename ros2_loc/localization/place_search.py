"""From one image to the places of a map that it may show: retrieval, the frames before, re-ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.types import Candidate, Frame, LocalFeatures, PoseEstimate
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.localization.stage_clock import StageClock
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.retrieval.reranking import AdaptiveReranking, PlacePrior, Reranked
from ros2_loc.retrieval.sequence import SequenceMatcher


@dataclass(frozen=True, slots=True, eq=False)
class FoundPlaces:
    """The places that are worth matching, and why these.

    Attributes:
        candidates: best first; the score is that of the last stage that looked at the place.
        similarity: (C,) cosine of the retrieval, NaN where retrieval did not find the place.
        verified: (C,) matches of one geometry that the re-ranker counted, 0 where it counted none.
        confidence: that the first place is right, 0 to 1; NaN where nobody estimated it.
        reranking: what the re-ranker did (`retrieval.reranking.Why`), empty when there is none or it was not asked.
    """

    candidates: tuple[Candidate, ...]
    similarity: NDArray[np.float64]
    verified: NDArray[np.int64]
    confidence: float = float("nan")
    reranking: str = ""

    @staticmethod
    def believed(places: Sequence[int]) -> FoundPlaces:
        """Places that were not searched for: the vehicle was believed to be there."""
        count = len(places)
        return FoundPlaces(tuple(Candidate(int(i), 1.0) for i in places), np.full(count, np.nan), np.zeros(count, dtype=np.int64))


class PlaceSearch:
    """Retrieval and re-ranking in one map. Not thread-safe; with the frames before (`localizer.sequence`), one per drive."""

    def __init__(self, sparse_map: SparseMap, pipeline: PipelineConfig, device: str) -> None:
        """Opens the plugins.

        Raises:
            DataError: the map has nothing that the re-ranker could compare.
        """
        self._config, self._index = pipeline.localizer, sparse_map.index
        self._encoder = registry.create("encoder", pipeline.encoder, device)
        self._encoder.restore(sparse_map.encoder_state)
        poses = [place.map_from_base for place in sparse_map.places]
        self._positions = np.array([pose.translation for pose in poses])
        self._forward = np.array([pose.rotation[:, 0] for pose in poses])
        self._sequence = SequenceMatcher(poses, pipeline.sequence) if pipeline.localizer.sequence else None
        self._reranker = registry.create("reranker", pipeline.reranker, device) if pipeline.reranker else None
        if self._reranker is not None:
            self._evidence = sparse_map.evidence_for(self._reranker, pipeline.reranker)
            self._reranking = AdaptiveReranking(self._reranker, pipeline.reranking, self._positions)

    def search(
        self, frame: Frame, features: LocalFeatures, clock: StageClock, prior: PoseEstimate | None, hidden: NDArray[np.int64]
    ) -> FoundPlaces:
        """The places to match, at most `matched_places`; `hidden` ones (numbers) are never among them.

        The prior says where to look first when re-ranking; it hides no place.
        """
        config = self._config
        descriptor = clock.run("encode", lambda: self._encoder.encode(frame, features))
        among = np.setdiff1d(np.arange(len(self._positions)), hidden) if len(hidden) else None
        found = clock.run("retrieve", lambda: self._index.search(descriptor, config.retrieved_places, among))
        similarity = {c.source: c.score for c in found}
        if self._sequence is not None:
            found = clock.run("sequence", lambda: self._with_frames_before(frame, found))
            found = [c for c in found if c.source not in hidden]
        if self._reranker is None or len(found) <= config.matched_places:
            return _found(found[: config.matched_places], similarity, None)
        reranked = clock.run("rerank", lambda: self._rerank(frame, features, found, prior))
        return _found(reranked.candidates[: config.matched_places], similarity, reranked)

    def _with_frames_before(self, frame: Frame, found: Sequence[Candidate]) -> list[Candidate]:
        assert self._sequence is not None
        return self._sequence.observe(frame.stamp_ns, found, frame.odom_from_base)

    def _rerank(self, frame: Frame, features: LocalFeatures, found: Sequence[Candidate], prior: PoseEstimate | None) -> Reranked:
        assert self._reranker is not None
        reranker, evidence = self._reranker, self._evidence
        belief = None if prior is None else PlacePrior.near(prior, self._positions, self._forward)
        return self._reranking.rerank(lambda: reranker.describe(frame, features), found, lambda place: evidence[place], belief)


def _found(candidates: Sequence[Candidate], similarity: dict[int, float], reranked: Reranked | None) -> FoundPlaces:
    cosines = np.array([similarity.get(c.source, np.nan) for c in candidates], dtype=np.float64)
    if reranked is None:
        return FoundPlaces(tuple(candidates), cosines, np.zeros(len(candidates), dtype=np.int64))
    count = len(candidates)
    scored = zip(candidates, reranked.scores[:count].tolist(), strict=True)
    rescored = tuple(c if np.isnan(score) else Candidate(c.source, score) for c, score in scored)
    verified = np.maximum(reranked.inliers[:count], 0).astype(np.int64)
    return FoundPlaces(rescored, cosines, verified, reranked.confidence, reranked.why)
