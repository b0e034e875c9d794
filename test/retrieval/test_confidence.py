"""Confidence: a logistic that is a probability on trials it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.errors import DataError
from ros2_loc.retrieval.confidence import MAX_GAP, ConfidenceModel, Signs, Trial, calibration_error, fit_confidence, score_gap


def simulated(count: int, seed: int, counted: bool = True) -> list[Trial]:
    """Queries with 20 candidates: a right first place leads by scores that overlap with a wrong one's, its inliers too."""
    rng = np.random.default_rng(seed)
    trials = []
    for _ in range(count):
        right = bool(rng.random() < 0.6)
        gap = float(np.clip(rng.normal(2.0 if right else 0.3, 1.2), -MAX_GAP, MAX_GAP))
        if rng.random() < 0.3:  # not re-ranked
            trials.append(Trial(Signs(gap), right))
            continue
        inliers = int(rng.poisson(np.exp(rng.normal(3.5 if right else 2.2, 0.6))))
        rival = int(rng.poisson(np.exp(rng.normal(2.0, 0.4))))
        rescored = float(rng.normal(1.5 if right else 0.5, 1.0))
        trials.append(Trial(Signs(gap, rescored, inliers, rival) if counted else Signs(gap, rescored), right))
    return trials


@pytest.mark.parametrize("counted", [True, False])
def test_is_calibrated_on_trials_it_has_not_seen(counted: bool) -> None:
    model = fit_confidence(simulated(1500, 0, counted))
    held_out = simulated(2000, 1, counted)
    claimed = np.array([model.probability(trial.signs) for trial in held_out])
    correct = np.array([trial.correct for trial in held_out])
    assert calibration_error(claimed, correct) < 0.04
    assert claimed[correct].mean() > 0.7 > 0.4 > claimed[~correct].mean()
    constant = np.full(len(correct), correct.mean())
    assert np.square(claimed - correct).mean() < 0.7 * np.square(constant - correct).mean()  # Brier
    unfitted = np.array([ConfidenceModel().probability(trial.signs) for trial in held_out])
    assert calibration_error(claimed, correct) < calibration_error(unfitted, correct)


def test_the_same_trials_give_the_model_that_made_them() -> None:
    rng = np.random.default_rng(0)
    truth = ConfidenceModel(-1.2, 0.9, 0.3, 0.4, -2.0, 0.6, 1.1)
    signs = [t.signs for t in simulated(6000, 3)]
    fitted = fit_confidence([Trial(s, bool(rng.random() < truth.probability(s))) for s in signs])
    for s in signs[:200]:
        assert fitted.probability(s) == pytest.approx(truth.probability(s), abs=0.08)


def test_a_few_trials_that_all_agree_claim_no_certainty() -> None:
    model = fit_confidence([Trial(Signs(3.0), True)] * 4 + [Trial(Signs(0.0), False)] * 4)
    assert 0.6 < model.probability(Signs(3.0)) < 0.98
    assert model.per_support == 0.0  # no trial had inliers


@pytest.mark.parametrize("trials", [[], [Trial(Signs(1.0), True)] * 5, [Trial(Signs(1.0), False)] * 5])
def test_nothing_can_be_learned_without_right_and_wrong_ones(trials: list[Trial]) -> None:
    with pytest.raises(DataError, match="some right and some wrong"):
        fit_confidence(trials)


def test_calibration_error_of_known_cases() -> None:
    correct = np.arange(1000) % 2 == 0
    assert calibration_error(np.full(1000, 0.5), correct) < 0.02
    assert calibration_error(np.full(1000, 0.9), correct) == pytest.approx(0.4, abs=0.02)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


def test_gap() -> None:
    scores = np.array([0.9, 0.5, 0.6, 0.4, 0.5])
    elsewhere = np.array([False, True, True, True, True])
    spread = np.std(scores[1:])
    assert score_gap(scores, elsewhere, 0) == pytest.approx(0.3 / spread)
    assert score_gap(scores, ~np.isin(np.arange(5), 3), 3) == pytest.approx((0.4 - 0.9) / np.std(scores[[0, 1, 2, 4]]))
    assert score_gap(scores, np.zeros(5, bool), 0) == MAX_GAP  # all of one place
    assert score_gap(scores[:2], elsewhere[:2], 0) == 0.0  # too few
    assert score_gap(np.array([1.0, 0.5, 0.5, 0.5, 0.5]), elsewhere, 0) == MAX_GAP  # rivals without spread
    assert score_gap(np.array([0.9, 0.8, 0.85, 0.5, 0.4]), np.arange(5) > 2, 0) == pytest.approx(0.4 / np.sqrt(0.005 * 2 / 5), rel=1e-6)
    assert score_gap(np.full(6, 0.5), np.arange(6) > 0, 0) == 0.0
