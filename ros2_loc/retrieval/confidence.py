"""How sure one may be of the first place: a logistic of how far it leads, fitted to trials whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError

MAX_GAP = 10.0  # more says no more
_ENOUGH = 4  # rivals that a spread can be taken of
_RIDGE = 1.0  # prior variance of a coefficient, in units of its column's spread, is 1 / this: a few trials must not claim certainty


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for the first place.

    Attributes:
        gap: its lead in retrieval over the best place elsewhere (`score_gap`); negative when the re-ranker chose another than retrieval.
        rescored_gap: its lead in the re-ranker's scores, None when nothing was re-ranked.
        inliers: matches that agree with one geometry, None where none were counted.
        rival_inliers: the most that a place elsewhere has.
    """

    gap: float
    rescored_gap: float | None = None
    inliers: int | None = None
    rival_inliers: int = 0


@dataclass(frozen=True)
class ConfidenceModel:
    """p = 1 / (1 + exp(-x)), x = bias + per_gap gap
    + [re-ranked] (when_rescored + per_rescored_gap rescored_gap)
    + [inliers counted] (when_counted + per_support log(1 + inliers) + per_lead log((1 + inliers) / (1 + rival_inliers))).

    The defaults were chosen by hand to order well and to be careful; `fit_confidence` makes them a probability on one's own map.
    """

    bias: float = -1.0
    per_gap: float = 0.6
    when_rescored: float = 0.0
    per_rescored_gap: float = 0.2
    when_counted: float = -1.5
    per_support: float = 0.4
    per_lead: float = 4.0

    def probability(self, signs: Signs) -> float:
        """That the first place is right, 0 to 1."""
        return float(_logistic(_columns([signs]) @ self._coefficients())[0])

    def _coefficients(self) -> NDArray[np.float64]:
        return np.array(
            [
                self.bias,
                self.per_gap,
                self.when_rescored,
                self.per_rescored_gap,
                self.when_counted,
                self.per_support,
                self.per_lead,
            ]
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """One query whose truth is known: what spoke for the first place, and whether it was right."""

    signs: Signs
    correct: bool


def fit_confidence(trials: Sequence[Trial]) -> ConfidenceModel:
    """The coefficients under which the trials are most likely (logistic regression with a weak prior towards 0).

    Trials must be as those to come: where queries will go without re-ranking, some of the trials must have, and likewise inliers.

    Raises:
        DataError: no trials, or all right or all wrong: nothing can be learned of the difference.
    """
    correct = np.array([trial.correct for trial in trials], dtype=np.float64)
    if not len(correct) or correct.min() == correct.max():
        raise DataError(f"{len(correct)} trials of which {int(correct.sum())} are right: confidence needs some right and some wrong ones")
    columns = _columns([trial.signs for trial in trials])
    spread = columns.std(axis=0)
    spread[spread < 1e-9] = 1.0
    used = columns / spread
    penalty = np.diag(np.where(np.arange(columns.shape[1]) == 0, 1e-6, _RIDGE))
    weights = np.zeros(columns.shape[1])
    for _ in range(50):
        p = _logistic(used @ weights)
        gradient = used.T @ (p - correct) + penalty @ weights
        curvature = (used * (p * (1 - p))[:, None]).T @ used + penalty
        step = np.linalg.solve(curvature, gradient)
        weights -= step / max(1.0, float(np.abs(step).max()))  # a full step from far away may overshoot
        if np.abs(step).max() < 1e-8:
            break
    return ConfidenceModel(*(weights / spread).tolist())


def calibration_error(probabilities: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean distance of claimed and true share of right ones, over bins of equal count weighted alike (ECE)."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) * abs(probabilities[p].mean() - correct[p].mean()) for p in parts) / max(1, len(order)))


def score_gap(scores: NDArray[np.floating], elsewhere: NDArray[np.bool_], first: int) -> float:
    """Lead of candidate `first` over the best one elsewhere, in standard deviations of the scores of those elsewhere, at most MAX_GAP.

    Args:
        scores: (C,) of any encoder or re-ranker.
        elsewhere: (C,) whether a candidate is another place than `first`.

    Returns:
        0 where the candidates are too few to tell a lead from chance; MAX_GAP where five or more are all of one place. With very few
        elsewhere the deviation is that within both groups.
    """
    rivals = scores[elsewhere]
    if len(scores) <= _ENOUGH:
        return 0.0
    if not len(rivals):
        return MAX_GAP
    own = scores[~elsewhere]
    within = rivals if len(rivals) >= _ENOUGH else np.concatenate([rivals - rivals.mean(), own - own.mean()])
    spread, lead = float(np.std(within)), float(scores[first]) - float(rivals.max())
    return float(np.clip(lead / spread, -MAX_GAP, MAX_GAP)) if spread > 0 else float(np.sign(lead)) * MAX_GAP


def _columns(signs: Sequence[Signs]) -> NDArray[np.float64]:
    rows = []
    for sign in signs:
        rescored = [0.0, 0.0] if sign.rescored_gap is None else [1.0, sign.rescored_gap]
        counted = [0.0, 0.0, 0.0]
        if sign.inliers is not None:
            support = np.log1p(sign.inliers)
            counted = [1.0, support, support - np.log1p(sign.rival_inliers)]
        rows.append([1.0, sign.gap, *rescored, *counted])
    return np.array(rows)


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -500, 500)))
