"""Whether a re-ranker puts places into a better order than the global descriptors did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.training.covisibility import LabelledPlaces

# scores of the candidates (rows of a map's places) of a query (a row, too)
Score = Callable[[LabelledPlaces, int, NDArray[np.int64]], NDArray[np.float32]]


class RerankValidation:
    """Candidates of each query by global descriptor, unclear ones left out; how right ones are told from wrong ones among them.

    `recall_at_1` of the re-ranker, and `auc`, the chance that a right candidate scores higher than a wrong one of the same query, averaged
    over queries; `recall_at_1_before` and `auc_before` of the global descriptors.
    """

    @dataclass(frozen=True)
    class Config:
        """How many `queries` at most (evenly taken), and `candidates` of each."""

        queries: int = 50
        candidates: int = 20

        def __post_init__(self) -> None:
            if self.queries < 1 or self.candidates < 2:
                raise ConfigError(f"{self}: queries from 1, candidates from 2")

    def __init__(self, config: Config, maps: Sequence[LabelledPlaces]) -> None:
        """Raises DataError where no query has right and wrong candidates."""
        asked = [(places, int(row), candidates_of(places, int(row), config.candidates)) for places in maps for row in places.askable]
        useful = [one for one in asked if 0 < one[0].same[one[1], one[2]].sum() < len(one[2])]
        if not useful:
            raise DataError("no query of the validation has right and wrong candidates: give a longer map, or more validation.candidates")
        self._asked = useful[:: -(-len(useful) // config.queries)]

    def __len__(self) -> int:
        return len(self._asked)

    def __call__(self, score: Score) -> dict[str, float]:
        """Measured numbers of a re-ranker."""
        before = [places.vectors[rows] @ places.vectors[query] for places, query, rows in self._asked]
        after = [score(places, query, rows) for places, query, rows in self._asked]
        right = [places.same[query, rows] for places, query, rows in self._asked]
        return {**_measured(after, right), **{f"{name}_before": value for name, value in _measured(before, right).items()}}


def candidates_of(places: LabelledPlaces, query: int, count: int) -> NDArray[np.int64]:
    """Rows of the places most similar to one by global descriptor, best first, of those that are the same or are not for sure.

    At least one place that is the same is among them, the most similar one in the place of the last.
    """
    clear = np.flatnonzero(places.same[query] | places.other[query])
    order = clear[np.argsort(-(places.vectors[clear] @ places.vectors[query]), kind="stable")]
    rows = order[:count].copy()
    if not places.same[query, rows].any():
        rows[-1] = order[places.same[query, order]][0]
    return rows


def auc(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """The chance that a right one scores higher than a wrong one; equal scores count half."""
    ranks, count = scipy.stats.rankdata(scores), int(right.sum())
    return float((ranks[right].sum() - count * (count + 1) / 2) / (count * (len(right) - count)))


def _measured(scores: Sequence[NDArray[np.floating]], right: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
    first = [bool(truth[int(np.argmax(values))]) for values, truth in zip(scores, right, strict=True)]
    pairs = [auc(values, truth) for values, truth in zip(scores, right, strict=True)]
    return {"recall_at_1": float(np.mean(first)), "auc": float(np.mean(pairs))}
