"""Re-ranking on a robot: only when retrieval is not clear, the likely candidates first, no longer than needed, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.interfaces import Reranker
from ros2_loc.core.types import Candidate, FloatArray, PlaceEvidence, PoseEstimate
from ros2_loc.errors import DataError
from ros2_loc.retrieval.confidence import ConfidenceModel, Signs, score_gap

Why = Literal["empty", "clear", "confirmed", "budget", "all"]
_REFUSALS = 4  # calls in a row that a budget lets score nothing, before one candidate is scored all the same


@dataclass(frozen=True, slots=True, eq=False)
class PlacePrior:
    """What is believed of the places before the image is looked at.

    Attributes:
        log_weights: (P,) natural logarithm, 0 for the most likely, by the places' numbers.
    """

    log_weights: NDArray[np.float64]

    @staticmethod
    def near(
        belief: PoseEstimate,
        positions_m: NDArray[np.float64],
        forward: NDArray[np.float64],
        reach_m: float = 10.0,
        reach_rad: float = 0.6,
        wrong: float = 0.02,
    ) -> PlacePrior:
        """By distance and turn from the belief, in sigmas.

        Args:
            belief: where base_link is thought to be.
            positions_m: (P, 3) of the places' base_link in the map.
            forward: (P, 3) their x axes in the map.
            reach_m, reach_rad: one sigma of how far from a place, and turned from it, an image still shows it; added to the belief's.
            wrong: probability that the belief is wrong altogether; bounds how far a place can fall behind.
        """
        pose = belief.map_from_base
        offset = positions_m - pose.translation
        covariance = belief.covariance[:3, :3] + reach_m**2 * np.eye(3)
        squared = np.einsum("pi,ij,pj->p", offset, np.linalg.inv(covariance), offset)
        turn = np.arccos(np.clip(forward @ pose.rotation[:, 0], -1.0, 1.0))
        squared = squared + turn**2 / (belief.sigma_rad**2 + reach_rad**2)
        log_weights = np.logaddexp(np.log1p(-wrong) - squared / 2, np.log(wrong))
        return PlacePrior(log_weights - log_weights.max(initial=-np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class Reranked:
    """The candidates in their new order, and how sure the first one is.

    Attributes:
        candidates: all that were given, best first: those that were scored, then the others in the order they would have been looked at.
        scores: (C,) float32 of the re-ranker in this order, NaN where it did not look.
        inliers: (C,) int32, -1 where none were counted.
        confidence: that the first one is right, 0 to 1 (`ConfidenceModel`).
        why: why it stopped: nothing given ("empty"), retrieval was "clear", the first is "confirmed", the "budget" is spent, "all" scored.
        num_scored: how many the re-ranker looked at.
        signs: what the confidence was made of, for `fit_confidence`.
        stage_s: seconds for "describe", "matching" and "scoring".
    """

    candidates: tuple[Candidate, ...]
    scores: FloatArray
    inliers: NDArray[np.int32]
    confidence: float
    why: Why
    num_scored: int
    signs: Signs
    stage_s: Mapping[str, float] = field(default_factory=dict)


class AdaptiveReranking:
    """A re-ranker used sparingly. Not thread-safe: it remembers what a candidate cost last."""

    @dataclass(frozen=True)
    class Config:
        """When to re-rank, and when to stop."""

        max_candidates: int = 100
        chunk: int = 16  # candidates scored together; all at once where the re-ranker compares them with each other
        budget_ms: float = 0.0  # of one call with describing the query; 0 for no limit
        skip_margin: float = 3.0  # retrieval is clear: the first leads by this many deviations of its rivals; 0 never skips
        stop_inliers: int = 40  # confirmed: the first has so many
        stop_lead: float = 2.0  # and so many times those of any place elsewhere
        same_place_m: float = 25.0  # nearer candidates show the same place and are no rivals
        prior_weight: float = 1.0  # of the belief against retrieval in the order of scoring
        confidence: ConfidenceModel = field(default_factory=ConfidenceModel)

        def __post_init__(self) -> None:
            for name in ("max_candidates", "chunk", "stop_inliers"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} is {getattr(self, name)}, it must be 1 or more")
            for name in ("budget_ms", "skip_margin", "same_place_m", "prior_weight"):
                if not getattr(self, name) >= 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, it must be 0 or more")
            if not self.stop_lead >= 1:
                raise ValueError(f"stop_lead is {self.stop_lead}, it must be 1 or more")

    def __init__(
        self,
        reranker: Reranker,
        config: Config,
        positions_m: NDArray[np.float64],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """For one map.

        Args:
            positions_m: (P, 2) or (P, 3) of the places, by their numbers.
            clock: seconds.
        """
        self._reranker, self._config, self._clock = reranker, config, clock
        self._positions = np.asarray(positions_m, dtype=np.float64)
        self._seconds_each: float | None = None
        self._refusals = 0

    def rerank(
        self,
        describe: Callable[[], PlaceEvidence],
        candidates: Sequence[Candidate],
        evidence_of: Callable[[int], PlaceEvidence],
        prior: PlacePrior | None = None,
    ) -> Reranked:
        """Put the candidates of one query in order.

        Args:
            describe: makes the query's evidence; called only when it is needed.
            candidates: of retrieval, all different.
            evidence_of: a place's evidence by its number.
            prior: what odometry and earlier poses say.

        Raises:
            DataError: a candidate that is no place of the map.
        """
        started = self._clock()
        if not candidates:
            return self._result(_Progress([], np.zeros(0)), "empty", Signs(0.0), {})
        self._check(candidates)
        order = self._order(candidates, prior)
        progress = _Progress([candidates[i] for i in order], np.array([candidates[i].score for i in order]))
        if self._is_clear(progress):
            return self._result(progress, "clear", self._signs(progress), {})
        query = describe()
        stage_s = {"describe": self._clock() - started}
        why = self._score(query, progress, evidence_of, started, stage_s)
        progress.sort()
        return self._result(progress, why, self._signs(progress), stage_s)

    def _score(
        self,
        query: PlaceEvidence,
        progress: _Progress,
        evidence_of: Callable[[int], PlaceEvidence],
        started: float,
        stage_s: dict[str, float],
    ) -> Why:
        """Chunk after chunk until there is a reason to stop."""
        last = min(len(progress.candidates), self._config.max_candidates)
        while progress.num_scored < last:
            begun = self._clock()
            size = self._chunk(last - progress.num_scored, begun - started)
            if size == 0 and progress.num_scored == 0 and self._tried_again():
                size = 1
            if size == 0:
                return "budget"
            self._refusals = 0
            chunk = progress.candidates[progress.num_scored : progress.num_scored + size]
            scored = self._reranker.score(query, chunk, [evidence_of(c.source) for c in chunk])
            progress.append(scored.scores, scored.inliers)
            self._seconds_each = (self._clock() - begun) / size
            for stage, seconds in scored.stage_s.items():
                stage_s[stage] = stage_s.get(stage, 0.0) + seconds
            if self._is_confirmed(progress):
                return "confirmed"
            if self._reranker.listwise:
                break
        return "all" if progress.num_scored == last else "budget"

    def _chunk(self, left: int, spent_s: float) -> int:
        """How many to score next: a chunk, or what of it the budget lets through at the last one's cost."""
        config = self._config
        wanted = left if self._reranker.listwise and self._seconds_each is not None else min(left, config.chunk)
        if config.budget_ms == 0:
            return left if self._reranker.listwise else wanted
        remaining_s = config.budget_ms / 1e3 - spent_s
        if remaining_s <= 0:
            return 0
        if not self._seconds_each:
            return wanted
        return min(wanted, int(remaining_s / self._seconds_each))

    def _tried_again(self) -> bool:
        """After some calls in which nothing fitted: one slow call must not end re-ranking for good."""
        self._refusals += 1
        return self._refusals > _REFUSALS

    def _order(self, candidates: Sequence[Candidate], prior: PlacePrior | None) -> NDArray[np.int64]:
        """By retrieval and belief: scores in standard deviations, as if they were logarithms of likelihoods."""
        scores = np.array([c.score for c in candidates], dtype=np.float64)
        keys = (scores - scores.mean()) / max(float(scores.std()), 1e-9)
        if prior is not None:
            keys = keys + self._config.prior_weight * prior.log_weights[[c.source for c in candidates]]
        return np.argsort(-keys, kind="stable")

    def _is_clear(self, progress: _Progress) -> bool:
        """By retrieval alone: a belief may say where to look first, but proves nothing, or an error would feed itself."""
        margin = self._config.skip_margin
        return margin > 0 and score_gap(progress.retrieved, self._elsewhere(progress), 0) >= margin

    def _is_confirmed(self, progress: _Progress) -> bool:
        if not progress.counted:
            return False
        signs = self._inliers(progress, int(np.argmax(progress.scores)))
        return signs[0] >= self._config.stop_inliers and signs[0] >= self._config.stop_lead * signs[1]

    def _inliers(self, progress: _Progress, best: int) -> tuple[int, int]:
        """Of the best one, and the most of those scored that are elsewhere."""
        inliers = np.array(progress.inliers)
        rivals = inliers[self._elsewhere(progress, best)[: len(inliers)]]
        return int(inliers[best]), int(rivals.max(initial=0))

    def _elsewhere(self, progress: _Progress, first: int = 0) -> NDArray[np.bool_]:
        places = self._positions[[c.source for c in progress.candidates]]
        return np.linalg.norm(places - places[first], axis=1) > self._config.same_place_m

    def _signs(self, progress: _Progress) -> Signs:
        elsewhere = self._elsewhere(progress)
        gap = score_gap(progress.retrieved, elsewhere, 0)
        scored = progress.num_scored
        if not scored:
            return Signs(gap)
        rescored = score_gap(np.array(progress.scores), elsewhere[:scored], 0)
        return Signs(gap, rescored, *self._inliers(progress, 0)) if progress.counted else Signs(gap, rescored)

    def _result(self, progress: _Progress, why: Why, signs: Signs, stage_s: Mapping[str, float]) -> Reranked:
        rest = len(progress.candidates) - progress.num_scored
        inliers = progress.inliers if progress.counted else [-1] * progress.num_scored
        return Reranked(
            tuple(progress.candidates),
            np.array([*progress.scores, *[np.nan] * rest], dtype=np.float32),
            np.array([*inliers, *[-1] * rest], dtype=np.int32),
            self._config.confidence.probability(signs) if progress.candidates else 0.0,
            why,
            progress.num_scored,
            signs,
            stage_s,
        )

    def _check(self, candidates: Sequence[Candidate]) -> None:
        wrong = [c.source for c in candidates if not 0 <= c.source < len(self._positions)]
        if wrong:
            raise DataError(f"candidate {wrong[0]} is no place of this map, which has {len(self._positions)}: search its own index")


class _Progress:
    """Candidates in the order of scoring, and the scores of the first of them."""

    def __init__(self, candidates: list[Candidate], retrieved: NDArray[np.float64]) -> None:
        self.candidates, self.retrieved = candidates, retrieved
        self.scores: list[float] = []
        self.inliers: list[int] = []
        self.counted = True

    @property
    def num_scored(self) -> int:
        return len(self.scores)

    def append(self, scores: FloatArray, inliers: NDArray[np.int32] | None) -> None:
        self.scores += scores.tolist()
        self.counted = inliers is not None
        self.inliers += [] if inliers is None else inliers.tolist()

    def sort(self) -> None:
        """Those scored by their scores; equal ones as they were."""
        order = [*np.argsort(-np.array(self.scores), kind="stable"), *range(self.num_scored, len(self.candidates))]
        self.candidates, self.retrieved = [self.candidates[i] for i in order], self.retrieved[order]
        head = order[: self.num_scored]
        self.scores = [self.scores[i] for i in head]
        self.inliers = [self.inliers[i] for i in head] if self.counted else []
