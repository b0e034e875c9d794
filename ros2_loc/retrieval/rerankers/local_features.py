"""Re-ranking by local features: any extractor, any matcher, any scoring (the combinations of the re-ranking paper's table 4.1).

As the public re-ranking code does it one candidate after another: mutual nearest neighbours by dot product, a homography by RANSAC, and the
share of the query's keypoints that agree with it. Here matches of all candidates come of few matrix products, and all geometry is fitted
together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.interfaces import Matcher
from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.retrieval.mutual_nearest import Pairs, mutual_pairs
from ros2_loc.retrieval.rerankers.own_parts import OwnParts
from ros2_loc.retrieval.scoring.ransac import fit_many
from ros2_loc.retrieval.scoring.rapid import rapid_scores


@dataclass(frozen=True)
class Scoring:
    """From matches to a score.

    Attributes:
        name: ransac: matches that agree with one transform, as a share of the query's keypoints; rapid: how alike their displacements are,
            as a share of the image's size; count: how many matches, for matchers that know geometry themselves.
        model: of ransac: homography (8 parameters), or affine (6) as DELG has it.
        threshold_px: of ransac: largest distance of an inlier, in the full image.
        max_draws: of ransac: samples for one candidate; more find rarer inliers.
        confidence: of ransac: that a sample without outliers was found, at which the search ends.
    """

    name: Literal["ransac", "rapid", "count"] = "ransac"
    model: Literal["homography", "affine"] = "homography"
    threshold_px: float = 24.0
    max_draws: int = 2000
    confidence: float = 0.995

    def __post_init__(self) -> None:
        if self.threshold_px <= 0.0 or self.max_draws < 1 or not 0.0 < self.confidence < 1.0:
            raise ConfigError(
                "local_features: threshold_px and max_draws of scoring are positive and confidence in (0, 1), got "
                f"{self.threshold_px:g}, {self.max_draws}, {self.confidence:g}"
            )


class LocalFeatureReranker:
    """Scores are of one kind for all candidates of a query: only their order means something across images."""

    @dataclass(frozen=True)
    class Config:
        """Extractor, matcher and scoring, each by its own section.

        Attributes:
            extractor: of the local features; {} for those of the map, which cost nothing more.
            matcher: {}: mutual nearest neighbours by dot product, not negative, as in the paper; else a matcher, for instance
                {name: superglue} with `scoring: {name: count}`.
            scoring: see `Scoring`.
            max_keypoints: of an image that take part, the best; the time of matching grows with their square, the memory of a place with
                their number.
            encoder: of a global descriptor whose cosine is added to the score, as DELG does; {} for none.
            global_weight: of that cosine; a local score by ransac or rapid lies in [0, 1].
        """

        extractor: dict[str, Any] = field(default_factory=dict)
        matcher: dict[str, Any] = field(default_factory=dict)
        scoring: Scoring = field(default_factory=Scoring)
        max_keypoints: int = 500
        encoder: dict[str, Any] = field(default_factory=dict)
        global_weight: float = 1.0

        def __post_init__(self) -> None:
            if self.max_keypoints < 1 or self.global_weight < 0.0:
                raise ConfigError(
                    f"local_features: max_keypoints is positive and global_weight not negative, got {self.max_keypoints}, "
                    f"{self.global_weight:g}"
                )

    name = "local_features"
    listwise = False

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device
        self._matcher: Matcher | None = registry.create("matcher", config.matcher, device) if config.matcher else None
        self._own = OwnParts(self.name, config.extractor, config.encoder, device)
        self.needs_image, self.needs_features, self.batch_size = self._own.need_image, self._own.need_features, self._own.batch_size

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        """The best keypoints with their descriptors; the global descriptor where there is an encoder."""
        return self.describe_many(None if frame is None else [frame], None if features is None else [features])[0]

    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        """`describe` of each."""
        evidence = [self._evidence(one) for one in self._own.features(frames, features)]
        vectors = self._own.vectors(frames)
        if vectors is None:
            return evidence
        return [PlaceEvidence(self.name, {**e.arrays, "vector": v.astype(np.float16)}) for e, v in zip(evidence, vectors, strict=True)]

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        """As `Config.scoring` says; inliers of ransac.

        Raises:
            DataError: places described by another extractor than the query.
        """
        started = time.perf_counter()
        pairs = self._pairs(query, places)
        matched = time.perf_counter()
        scores, inliers, _ = self._scored(query, places, pairs)
        scores = scores + self._global_scores(query, places)
        ended = time.perf_counter()
        return PlaceScores(scores.astype(np.float32), inliers, {"matching": matched - started, "scoring": ended - matched})

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """All matches; inliers of ransac, else all.

        Raises:
            DataError: as `score`.
        """
        pairs = self._pairs(query, [place])
        _, _, agree = self._scored(query, [place], pairs)
        return PlaceMatches(query.arrays["keypoints"][pairs.query], place.arrays["keypoints"][pairs.place], agree)

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """Those that take part."""
        return evidence.arrays["keypoints"]

    def _evidence(self, features: LocalFeatures) -> PlaceEvidence:
        best = features.select(slice(0, self._config.max_keypoints))  # type: ignore[arg-type]
        arrays: dict[str, NDArray[Any]] = {
            "keypoints": best.keypoints,
            "descriptors": best.descriptors.astype(np.float16),
            "size": np.array(best.size, dtype=np.int32),
            "extractor": np.frombuffer(best.extractor.encode(), dtype=np.uint8),
        }
        if self._matcher is not None:
            arrays["scores"] = best.scores
        return PlaceEvidence(self.name, arrays)

    def _pairs(self, query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> Pairs:
        for place in places:
            _check_alike(query, place)
        if self._matcher is not None:
            found = self._matcher.match_many(_features(query), [_features(place) for place in places])
            owner = np.repeat(np.arange(len(found)), [len(one) for one in found])
            indices = np.concatenate([np.zeros((0, 2), np.int64), *(one.indices for one in found)])
            return Pairs(indices[:, 0], indices[:, 1], owner, np.concatenate([np.zeros(0, np.float32), *(one.scores for one in found)]))
        asked, there = query.arrays["descriptors"], [place.arrays["descriptors"] for place in places]
        # an empty array need not know how many numbers a descriptor has
        pairs = mutual_pairs(asked, [each if len(each) else asked[:0] for each in there], self._device)
        return Pairs(*(array[pairs.products >= 0.0] for array in pairs))

    def _scored(
        self, query: PlaceEvidence, places: Sequence[PlaceEvidence], pairs: Pairs
    ) -> tuple[NDArray[np.floating], NDArray[np.int32] | None, NDArray[np.bool_]]:
        """(P,) local scores, (P,) inliers where there are any, (M,) which matches agree."""
        scoring, num_query, all_agree = self._config.scoring, len(query.arrays["keypoints"]), np.ones(len(pairs.owner), dtype=bool)
        if scoring.name == "count":
            return np.bincount(pairs.owner, minlength=len(places)).astype(np.float64), None, all_agree
        starts = np.cumsum([0, *(len(place.arrays["keypoints"]) for place in places)])
        there = np.concatenate([np.zeros((0, 2), np.float32), *(place.arrays["keypoints"] for place in places)])
        points = query.arrays["keypoints"][pairs.query], there[starts[pairs.owner] + pairs.place]
        if scoring.name == "rapid":
            width, height = query.arrays["size"] / query.arrays["size"].max()
            near = [each / query.arrays["size"].max() for each in points]
            scores = rapid_scores(near[0], near[1], pairs.owner, len(places), (width, height), num_query)
            return scores / (width**2 + height**2), None, all_agree
        found = fit_many(*points, pairs.owner, len(places), scoring.model, scoring.threshold_px, scoring.max_draws, scoring.confidence)
        return found.inliers_per_place / max(num_query, 1), found.inliers_per_place, found.inlier_mask

    def _global_scores(self, query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> NDArray[np.floating]:
        """Zeros without an encoder; the least there is for images without keypoints."""
        if self._own.encoder is None or not places:
            return np.zeros(len(places))
        vector = query.arrays["vector"].astype(np.float32)
        cosines = np.stack([place.arrays["vector"] for place in places]).astype(np.float32) @ vector
        shown = np.array([len(place.arrays["keypoints"]) and len(query.arrays["keypoints"]) for place in places], dtype=bool)
        return np.asarray(self._config.global_weight * np.where(shown, cosines, -1.0))


def _features(evidence: PlaceEvidence) -> LocalFeatures:
    arrays = evidence.arrays
    width, height = (int(side) for side in arrays["size"])
    descriptors, scales = arrays["descriptors"].astype(np.float32), np.ones(len(arrays["keypoints"]), dtype=np.float32)
    return LocalFeatures(arrays["keypoints"], descriptors, arrays["scores"], scales, _extractor(evidence), (width, height))


def _extractor(evidence: PlaceEvidence) -> str:
    return evidence.arrays["extractor"].tobytes().decode()


def _check_alike(query: PlaceEvidence, place: PlaceEvidence) -> None:
    (asked, given), (count, length) = (one.arrays["descriptors"].shape for one in (query, place))
    alike = np.array_equal(query.arrays["extractor"], place.arrays["extractor"])
    if alike and (given == length or not count or not asked):
        return
    raise DataError(
        f"local_features: places have descriptors of {_extractor(place)} ({length} numbers), the image has those of {_extractor(query)} "
        f"({given}): use the map's extractor, or build the map with this pipeline"
    )
