"""Recall of places, before and after re-ranking. Pure functions of ranks and scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RECALL_AT = (1, 5, 10, 100)
SWEEP = (1, 2, 3, 5, 10, 20, 50, 100)
_Z95 = 1.959964


def reranked(scores: ArrayLike, num_reranked: int | None = None) -> NDArray[np.int64]:
    """(C,) the order after re-ranking: the first `num_reranked` (default: all) by their scores, highest first, the others behind as they
    were. Of equal scores the one that the retriever liked more goes first.

    Args:
        scores: (C,) of the re-ranker, in the retriever's order.
    """
    s = np.asarray(scores, dtype=np.float64)
    k = len(s) if num_reranked is None else min(num_reranked, len(s))
    return np.concatenate([np.argsort(-s[:k], kind="stable"), np.arange(k, len(s))]).astype(np.int64)


def recall_at(right: Sequence[Sequence[bool]], n: int) -> float | None:
    """Share of queries with a right place among their first `n` (paper, section 4.6: R@N); None of no queries.

    Args:
        right: of each query, whether its places are right, best first.
    """
    return float(np.mean([any(row[:n]) for row in right])) if len(right) else None


def wilson_interval(share: float | None, count: int) -> tuple[float, float] | None:
    """The 95 % interval of a share of `count` trials (Wilson 1927): holds near 0 and 1 and for few trials; None of no trials."""
    if share is None or count == 0:
        return None
    middle = share + _Z95**2 / (2 * count)
    half = _Z95 * np.sqrt(share * (1 - share) / count + _Z95**2 / (4 * count**2))
    low, high = ((middle + sign * half) / (1 + _Z95**2 / count) for sign in (-1, 1))
    return max(float(low), 0.0), min(float(high), 1.0)


def sweep_counts(num_candidates: int) -> tuple[int, ...]:
    """The numbers of re-ranked candidates of a sweep, up to how many there are."""
    return (*(k for k in SWEEP if k < num_candidates), num_candidates) if num_candidates else ()
