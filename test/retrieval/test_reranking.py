"""Adaptive re-ranking: when it looks, how far, in which order, for how long; and what a belief may do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.config import build
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Candidate, PlaceEvidence, PlaceScores, PoseEstimate
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.retrieval.reranking import AdaptiveReranking, PlacePrior, Reranked

FAR = np.column_stack([np.arange(200) * 100.0, np.zeros(200)])  # every place is elsewhere


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeReranker:
    """Scores and inliers by the place's number; time passes as it is told to."""

    name, needs_image, needs_features, batch_size = "fake", False, True, 1

    def __init__(
        self, inliers: dict[int, int], clock: Clock | None = None, each_s: float = 0.0, listwise: bool = False, counts: bool = True
    ) -> None:
        self.inliers, self.clock, self.each_s, self.listwise, self.counts = inliers, clock, each_s, listwise, counts
        self.calls: list[list[int]] = []

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        assert [int(p.arrays["place"][0]) for p in places] == [c.source for c in candidates]
        self.calls.append([c.source for c in candidates])
        if self.clock is not None:
            self.clock.now += self.each_s * len(candidates)
        counts = np.array([self.inliers.get(c.source, 0) for c in candidates], dtype=np.int32)
        return PlaceScores(counts.astype(np.float32), counts if self.counts else None, {"matching": 0.25, "scoring": 0.5})

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not called")


def evidence(place: int) -> PlaceEvidence:
    return PlaceEvidence("fake", {"place": np.array([place])})


def retrieved(*scores: float) -> list[Candidate]:
    return [Candidate(i, s) for i, s in enumerate(scores)]


def ambiguous(count: int) -> list[Candidate]:
    return retrieved(*np.linspace(0.52, 0.5, count))


def run(
    reranker: FakeReranker,
    candidates: list[Candidate],
    clock: Clock | None = None,
    positions: np.ndarray = FAR,
    prior: PlacePrior | None = None,
    describe_s: float = 0.0,
    **settings: Any,
) -> Reranked:
    clock = clock or Clock()

    def describe() -> PlaceEvidence:
        clock.now += describe_s
        return evidence(-1)

    config = AdaptiveReranking.Config(**settings)
    return AdaptiveReranking(reranker, config, positions, clock).rerank(describe, candidates, evidence, prior)  # type: ignore[arg-type]


def order(result: Reranked) -> list[int]:
    return [c.source for c in result.candidates]


def test_puts_the_candidates_in_the_re_ranker_s_order() -> None:
    result = run(FakeReranker({3: 30, 1: 20}), ambiguous(6), chunk=4)
    assert order(result) == [3, 1, 0, 2, 4, 5]  # equal ones as they came
    assert result.scores.tolist() == [30, 20, 0, 0, 0, 0] and result.inliers.tolist() == [30, 20, 0, 0, 0, 0]
    assert (result.why, result.num_scored) == ("all", 6)
    assert result.candidates[0].score == ambiguous(6)[3].score  # as it was retrieved
    assert result.stage_s == {"describe": 0.0, "matching": 0.5, "scoring": 1.0}


def test_a_clear_first_place_is_left_alone() -> None:
    reranker = FakeReranker({3: 30})
    result = run(reranker, retrieved(0.9, 0.5, 0.51, 0.48, 0.49))
    assert (result.why, result.num_scored, reranker.calls) == ("clear", 0, [])
    assert order(result) == [0, 2, 1, 4, 3] and np.isnan(result.scores).all() and result.inliers.tolist() == [-1] * 5
    assert run(reranker, retrieved(0.9, 0.5, 0.51, 0.48, 0.49), skip_margin=0.0).why == "all"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 400.0])
def test_what_is_clear_does_not_depend_on_an_encoder_s_units(scale: float) -> None:
    clear, unclear = np.array([0.9, 0.5, 0.51, 0.48, 0.49]), np.array([0.52, 0.5, 0.51, 0.48, 0.49])
    assert run(FakeReranker({}), retrieved(*(scale * clear - 7 * scale))).why == "clear"
    assert run(FakeReranker({}), retrieved(*(scale * unclear - 7 * scale))).why == "all"


def test_neighbours_of_the_first_are_no_rivals() -> None:
    scores = [0.90, 0.89, 0.88, 0.5, 0.51, 0.52]
    near = np.array([[0, 0], [5, 0], [0, 9], [500, 0], [900, 0], [1300, 0]], dtype=float)
    assert run(FakeReranker({}), retrieved(*scores), positions=near).why == "clear"
    assert run(FakeReranker({}), retrieved(*scores)).why == "all"  # the same scores of places that are far apart
    assert run(FakeReranker({}), retrieved(*scores), positions=near[:, :1] * 0).why == "clear"  # all of one place


def test_few_candidates_are_never_clear() -> None:
    for count in (1, 2, 4):
        assert run(FakeReranker({}), retrieved(*([0.9] + [0.1] * (count - 1)))[:count]).why == "all"


def test_stops_when_the_first_is_confirmed() -> None:
    reranker = FakeReranker({1: 50, 2: 24, 9: 80})
    result = run(reranker, ambiguous(20), chunk=4)
    assert (result.why, result.num_scored) == ("confirmed", 4) and reranker.calls == [[0, 1, 2, 3]]
    assert order(result) == [1, 2, 0, 3, *range(4, 20)]
    assert np.isnan(result.scores[4:]).all() and (result.inliers[4:] == -1).all()


def test_goes_on_while_a_place_elsewhere_has_as_many() -> None:
    inliers = {1: 50, 2: 40}
    assert run(FakeReranker(inliers), ambiguous(20), chunk=4).why == "all"
    positions = FAR.copy()
    positions[2] = positions[1] + 3.0  # the rival shows the same place
    assert run(FakeReranker(inliers), ambiguous(20), chunk=4, positions=positions).why == "confirmed"
    assert run(FakeReranker(inliers, counts=False), ambiguous(20), chunk=4, positions=positions).why == "all"


def test_looks_at_no_more_than_it_may() -> None:
    result = run(FakeReranker({15: 99}), ambiguous(20), max_candidates=10, chunk=4)
    assert (result.why, result.num_scored, order(result)[-10:]) == ("all", 10, list(range(10, 20)))


def test_the_budget_ends_it_after_what_fits() -> None:
    clock = Clock()
    reranker = FakeReranker({}, clock, each_s=0.010)
    result = run(reranker, ambiguous(100), clock, chunk=8, budget_ms=200, describe_s=0.03)
    # 30 ms for the query, then 80 and 80: there are 10 left, in which one more fits
    assert (result.why, [len(c) for c in reranker.calls]) == ("budget", [8, 8, 1])
    assert clock.now <= 0.2 + 1e-9
    assert sorted(order(result)) == list(range(100))


@given(st.floats(1e-4, 0.05), st.integers(1, 40), st.floats(0, 300), st.floats(0, 0.2), st.booleans())
def test_the_budget_is_never_exceeded_by_more_than_one_chunk(
    each_s: float, chunk: int, budget_ms: float, describe_s: float, lists: bool
) -> None:
    clock, budget_ms = Clock(), budget_ms + 1.0
    reranker = FakeReranker({}, clock, each_s, listwise=lists)
    adaptive = AdaptiveReranking(reranker, AdaptiveReranking.Config(chunk=chunk, budget_ms=budget_ms), FAR, clock)  # type: ignore[arg-type]

    def describe() -> PlaceEvidence:
        clock.now += describe_s
        return evidence(-1)

    for call in range(4):
        started, reranker.calls = clock.now, []
        result = adaptive.rerank(describe, ambiguous(60), evidence)
        spent, late = clock.now - started, max(0.0, describe_s - budget_ms / 1e3)
        over = chunk if call == 0 else 0  # later, when the cost is known, the budget is kept exactly
        assert spent <= budget_ms / 1e3 + late + over * each_s + 1e-9
        assert result.num_scored == sum(map(len, reranker.calls)) and (not lists or len(reranker.calls) <= 1)
        assert sorted(order(result)) == list(range(60))


def test_one_slow_call_does_not_end_re_ranking_for_good() -> None:
    clock = Clock()
    reranker = FakeReranker({}, clock, each_s=1.0)
    adaptive = AdaptiveReranking(reranker, AdaptiveReranking.Config(chunk=4, budget_ms=100), FAR, clock)  # type: ignore[arg-type]
    adaptive.rerank(lambda: evidence(-1), ambiguous(8), evidence)
    reranker.each_s = 0.001
    scored = [adaptive.rerank(lambda: evidence(-1), ambiguous(8), evidence).num_scored for _ in range(8)]
    assert scored[0] == 0 and scored[-1] == 8


def test_one_that_compares_candidates_with_each_other_gets_them_in_one_call() -> None:
    reranker = FakeReranker({}, listwise=True)
    assert run(reranker, ambiguous(50), chunk=4).why == "all" and [len(c) for c in reranker.calls] == [50]
    clock = Clock()
    reranker = FakeReranker({}, clock, each_s=0.01, listwise=True)
    adaptive = AdaptiveReranking(reranker, AdaptiveReranking.Config(chunk=4, budget_ms=200), FAR, clock)  # type: ignore[arg-type]
    assert [adaptive.rerank(lambda: evidence(-1), ambiguous(50), evidence).num_scored for _ in range(2)] == [4, 20]


def test_nothing_given() -> None:
    result = run(FakeReranker({}), [])
    assert (result.candidates, result.why, result.confidence, result.num_scored) == ((), "empty", 0.0, 0)


def test_candidates_of_another_map_are_refused() -> None:
    with pytest.raises(DataError, match="candidate 999.*200"):
        run(FakeReranker({}), [Candidate(999, 1.0)])


def test_settings_are_checked_when_they_are_read() -> None:
    made = build(AdaptiveReranking.Config, {"chunk": 8, "confidence": {"bias": -2.0}}, "pipeline")
    assert made.chunk == 8 and made.confidence.bias == -2.0
    for wrong in ({"chunk": 0}, {"budget_ms": -1.0}, {"stop_lead": 0.5}, {"skip_margin": -0.1}, {"chunks": 3}):
        with pytest.raises(ConfigError, match="pipeline"):
            build(AdaptiveReranking.Config, wrong, "pipeline")


class TestConfidence:
    def test_more_inliers_and_a_longer_lead_are_surer(self) -> None:
        confidence = [run(FakeReranker({1: n}), ambiguous(10), stop_inliers=999).confidence for n in (0, 5, 20, 80, 300)]
        assert all(a < b for a, b in zip(confidence, confidence[1:], strict=False)) and confidence[0] < 0.2 and confidence[-1] > 0.9
        rival = [run(FakeReranker({1: 60, 5: n}), ambiguous(10), stop_inliers=999).confidence for n in (0, 10, 50, 60)]
        assert all(a > b for a, b in zip(rival, rival[1:], strict=False))

    def test_a_clear_first_place_is_surer_than_a_narrow_one(self) -> None:
        wide, narrow = retrieved(0.9, 0.5, 0.51, 0.48, 0.49), retrieved(0.56, 0.5, 0.51, 0.48, 0.49)
        wide_result, narrow_result = run(FakeReranker({}), wide), run(FakeReranker({}), narrow)
        assert narrow_result.why == wide_result.why == "clear" and narrow_result.confidence < wide_result.confidence <= 1.0

    def test_what_it_is_made_of_can_be_kept_for_fitting(self) -> None:
        signs = run(FakeReranker({4: 30, 2: 12}), ambiguous(10)).signs
        assert (signs.inliers, signs.rival_inliers) == (30, 12) and signs.gap < 0 < (signs.rescored_gap or 0)
        assert run(FakeReranker({4: 30}, counts=False), ambiguous(10)).signs.inliers is None
        assert run(FakeReranker({}), retrieved(0.9, 0.5, 0.51, 0.48, 0.49)).signs.rescored_gap is None


def believed(east_m: float, sigma_m: float, yaw_rad: float = 0.0) -> PoseEstimate:
    pose = Pose(so3_exp([0, 0, yaw_rad]), np.array([east_m, 0.0, 0.0]))
    return PoseEstimate(0, pose, np.diag([sigma_m**2] * 3 + [0.05**2] * 3), 20, "map")


POSITIONS = np.column_stack([np.arange(200) * 100.0, np.zeros((200, 2))])
AHEAD = np.tile([1.0, 0.0, 0.0], (200, 1))


class TestPrior:
    def test_falls_with_the_distance_in_sigmas_down_to_what_an_error_is_worth(self) -> None:
        weights = PlacePrior.near(believed(1000.0, 100.0), POSITIONS, AHEAD).log_weights
        assert weights.argmax() == 10 and weights[10] == 0
        assert weights[9] == pytest.approx(weights[11]) == pytest.approx(-0.5, abs=0.05)
        assert weights[199] == pytest.approx(np.log(0.02), abs=0.05)
        wide = PlacePrior.near(believed(1000.0, 5000.0), POSITIONS, AHEAD).log_weights
        assert wide[12] > weights[12]

    def test_places_that_look_elsewhere_fall_behind(self) -> None:
        forward = AHEAD.copy()
        forward[10] = [-1, 0, 0]
        weights = PlacePrior.near(believed(1000.0, 50.0), POSITIONS, forward).log_weights
        assert weights[10] < weights[9]
        turned = PlacePrior.near(believed(1000.0, 50.0, np.pi), POSITIONS, forward).log_weights
        assert turned.argmax() == 10

    def test_orders_what_is_looked_at(self) -> None:
        reranker = FakeReranker({12: 60})
        prior = PlacePrior.near(believed(1200.0, 50.0), POSITIONS, AHEAD)
        result = run(reranker, ambiguous(20), prior=prior, chunk=4)
        assert 12 in reranker.calls[0] and (result.why, result.num_scored) == ("confirmed", 4)
        assert run(FakeReranker({12: 60}), ambiguous(20), chunk=4).num_scored == 16

    def test_proves_nothing(self) -> None:
        prior = PlacePrior.near(believed(0.0, 1.0), POSITIONS, AHEAD)
        assert run(FakeReranker({}), ambiguous(20), prior=prior).why == "all"
        clear = retrieved(0.5, 0.9, 0.51, 0.48, 0.49)  # clear to retrieval, but elsewhere than believed
        reranker = FakeReranker({1: 60})
        assert run(reranker, clear, prior=prior).why in ("all", "confirmed") or run(reranker, clear, prior=prior).candidates[0].source == 1

    def test_an_empty_map(self) -> None:
        assert PlacePrior.near(believed(0.0, 1.0), np.zeros((0, 3)), np.zeros((0, 3))).log_weights.shape == (0,)
