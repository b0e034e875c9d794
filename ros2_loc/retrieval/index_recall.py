"""How much of the exact answer an index finds, and how hard it must search for that."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import FloatArray
from ros2_loc.retrieval.index_kinds import IndexConfig, first_effort, most_effort, search

NEIGHBOURS = 10
_AT_ONCE = 50_000


def recall_sample(count: int, queries: int) -> NDArray[np.int64]:
    """Rows of places that are asked for their neighbours, the same for the same count."""
    return np.sort(np.random.default_rng(0).choice(count, min(count, queries), replace=False))


def exact_neighbours(vectors: FloatArray, sample: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q, K) rows of the places most like each of `sample` (Q,), itself left out; K is 10 or what there is."""
    k = min(NEIGHBOURS, len(vectors) - 1)
    best_scores = np.full((len(sample), 0), 0.0, dtype=np.float32)
    best_rows = np.zeros((len(sample), 0), dtype=np.int64)
    for start in range(0, len(vectors), _AT_ONCE):
        scores = vectors[sample] @ vectors[start : start + _AT_ONCE].T
        here = sample - start
        inside = np.flatnonzero((here >= 0) & (here < scores.shape[1]))
        scores[inside, here[inside]] = -np.inf
        top = np.argpartition(-scores, min(k, scores.shape[1] - 1), axis=1)[:, :k]
        best_scores = np.concatenate([best_scores, np.take_along_axis(scores, top, axis=1)], axis=1)
        best_rows = np.concatenate([best_rows, top + start], axis=1)
        order = np.argsort(-best_scores, axis=1, kind="stable")[:, :k]
        best_scores, best_rows = np.take_along_axis(best_scores, order, axis=1), np.take_along_axis(best_rows, order, axis=1)
    return best_rows


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Mean share of the rows `truth` (Q, K) that are in `found` (Q, any); 1 where there is nothing to find."""
    if truth.size == 0:
        return 1.0
    return float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]))


def sufficient_effort(
    index: Any, queries: FloatArray, own: NDArray[np.int64], truth: NDArray[np.int64], config: IndexConfig
) -> tuple[int, float]:
    """The effort that reaches `config.target_recall`, doubled from little until it does or can't be more, and the recall there.

    Args:
        index: a faiss index of `index_kinds`.
        queries: (Q, D) vectors of the rows `own` (Q,), which are not counted.
        truth: (Q, K) their exact neighbours.
    """
    effort = config.effort or first_effort(index)
    while True:
        rows = search(index, queries, truth.shape[1] + 1, effort)[1]
        reached = recall(np.where(rows == own[:, None], -1, rows), truth)
        if config.effort or reached >= config.target_recall or effort >= most_effort(index):
            return effort, reached
        effort = min(2 * effort, most_effort(index))
