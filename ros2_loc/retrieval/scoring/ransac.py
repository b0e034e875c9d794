"""RANSAC for all candidates at once (Fischler and Bolles, 1981; section 4.4.1 of the re-ranking paper).

Hypotheses are drawn in rounds, for all places that are still undecided. Most are thrown away by the areas of their triangles, before they
become transforms; the others are counted on a random part of the matches, and only the best on all of them (Nister, "Preemptive RANSAC",
ICCV 2003). The winners are fitted to their inliers (Chum et al., "Locally optimized RANSAC", DAGM 2003).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ros2_loc.retrieval.scoring.consensus import Points, agreeing
from ros2_loc.retrieval.scoring.hypotheses import chosen, draws, from_samples
from ros2_loc.retrieval.scoring.refit import Refit
from ros2_loc.retrieval.scoring.verified import SAMPLE, Model, Verified

_PLACES_AT_ONCE = 16  # what belongs to a round then fits into a core's cache
_ROUND = 1000  # draws
_USABLE = 4  # at most one in so many draws is looked at
_PART = 64  # matches that a hypothesis is first counted on
_COUNTED = 16  # hypotheses of a round that are counted on all matches
_REFITTED = 4  # of these, so many are fitted to their inliers
_REFITS = 3


def fit_many(
    query_px: NDArray,
    place_px: NDArray,
    owner: NDArray[np.integer],
    num_places: int,
    model: Model = "homography",
    threshold_px: float = 24.0,
    max_draws: int = 2000,
    confidence: float = 0.995,
    seed: int = 0,
) -> Verified:
    """The transform of each place's matches that most of them agree with.

    Args:
        query_px, place_px: (M, 2) matched pixels.
        owner: (M,) place of each match, in [0, num_places), in any order.
        num_places: P.
        model: 8 parameters (any view of a plane) or 6 (a plane from far away). Mirrored ones are never right.
        threshold_px: an inlier's transformed place point is nearer than that to its query point.
        max_draws: samples for one place, those that fix no transform included. 2000 find a fifth of inliers almost surely (96 %).
        confidence: that one sample was free of outliers, at which the search for a place ends.
        seed: of the draws. The result for a place depends on its own matches, their order and the seed alone.

    Returns:
        Inliers and transforms. As in the public re-ranking code, all matches count where they are fewer than fix a transform (1 to 3), none
        where they fix none (in one line, for instance). Matches that are not finite agree with nothing.
    """
    query_px, place_px, owner = np.asarray(query_px, float), np.asarray(place_px, float), np.asarray(owner, dtype=np.int64)
    rows = np.flatnonzero(np.isfinite(query_px).all(axis=1) & np.isfinite(place_px).all(axis=1))
    rows = rows[np.argsort(owner[rows], kind="stable")]
    counts = np.bincount(owner[rows], minlength=num_places)
    mask, transforms = np.zeros(len(owner), dtype=bool), np.zeros((num_places, 3, 3))
    mask[rows] = counts[owner[rows]] < SAMPLE[model]
    starts = np.cumsum(counts) - counts
    enough = np.flatnonzero(counts >= SAMPLE[model])
    # places with like numbers of matches together: little filling
    enough = enough[np.argsort(-counts[enough], kind="stable")]
    for first in range(0, len(enough), _PLACES_AT_ONCE):
        places = enough[first : first + _PLACES_AT_ONCE]
        column = np.arange(counts[places].max())
        valid = column < counts[places, None]
        taken = rows[np.where(valid, starts[places, None] + column, starts[places, None])]
        found, inside = _fit_block(query_px[taken], place_px[taken], valid, model, threshold_px, max_draws, confidence, seed)
        transforms[places], mask[taken[valid]] = found, inside[valid]
    return Verified(np.bincount(owner[mask], minlength=num_places).astype(np.int32), mask, transforms)


def _fit_block(
    query: NDArray, place: NDArray, valid: NDArray, model: Model, threshold_px: float, max_draws: int, confidence: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(P, 3, 3) transforms of pixels and (P, N) inliers."""
    (query, from_query), (place, from_place) = _normalised(query, valid), _normalised(place, valid)
    limits = (threshold_px * from_query[:, 0, 0]).astype(np.float32)
    points = Points(query.astype(np.float32), place.astype(np.float32), valid, valid.sum(axis=1), limits)
    best = _search(points, model, max_draws, confidence, seed)
    inside = agreeing(points, best[:, None])[:, 0]
    found = np.linalg.solve(from_query, best @ from_place)
    size = found[:, 2, 2][:, None, None]
    # none, or one that sends the origin to infinity: inliers without a transform are no result
    usable = inside.any(axis=1) & np.isfinite(found).all(axis=(1, 2)) & (np.abs(size[:, 0, 0]) > 1e-12)
    found = np.where(usable[:, None, None], found / np.where(size == 0, 1.0, size), 0.0)
    return found, inside & usable[:, None]


def _normalised(points: NDArray, valid: NDArray) -> tuple[NDArray, NDArray]:
    """(P, N, 2) with mean 0 and standard deviation 1, and (P, 3, 3) what makes them so."""
    counts = valid.sum(axis=1)[:, None]
    mean = (points * valid[..., None]).sum(axis=1) / counts
    centred = (points - mean[:, None]) * valid[..., None]
    spread = np.sqrt(np.square(centred).sum(axis=(1, 2)) / (2 * counts[:, 0]))
    scale = 1.0 / np.maximum(spread, 1e-6)
    transform = np.zeros((len(points), 3, 3))
    transform[:, 0, 0] = transform[:, 1, 1] = scale
    transform[:, :2, 2] = -mean * scale[:, None]
    transform[:, 2, 2] = 1.0
    return centred * scale[:, None, None], transform


def _search(points: Points, model: Model, max_draws: int, confidence: float, seed: int) -> NDArray[np.float64]:
    """(P, 3, 3) transforms of normalised points; zeros where no sample fixed one."""
    num_places = len(points.counts)
    best = np.zeros((num_places, _REFITTED, 3, 3), dtype=np.float32)
    most = np.zeros((num_places, _REFITTED), dtype=np.int64)
    undecided, drawn = np.arange(num_places), 0
    while drawn < max_draws and len(undecided):
        some = points.of(undecided)
        new = _round(some, model, min(_ROUND, max_draws - drawn), seed + drawn)
        transforms = np.concatenate([best[undecided], new], axis=1)
        counts = np.concatenate([most[undecided], np.count_nonzero(agreeing(some, new), axis=2)], axis=1)
        best[undecided], most[undecided] = _top(transforms, counts, _REFITTED)
        drawn += _ROUND
        ratio = np.minimum(most[undecided, 0] / some.counts, 1.0 - 1e-9)
        missed = drawn * np.log1p(-(ratio ** SAMPLE[model]))
        undecided = undecided[missed > np.log(1.0 - confidence)]
    return _refined(points, best.astype(np.float64), most, model)


def _round(points: Points, model: Model, num_draws: int, seed: int) -> NDArray[np.float32]:
    """(P, T, 3, 3) the best transforms of new samples, counted on a part of the matches; zeros where there are not so many."""
    num_places, longest = points.valid.shape
    samples = chosen(draws(num_draws, SAMPLE[model], seed), points.counts) + (np.arange(num_places) * longest)[:, None]
    flat = samples.reshape(SAMPLE[model], -1)
    query, place = (np.stack([array.reshape(-1, 2)[:, axis][flat] for axis in range(2)]) for array in (points.query, points.place))
    found, usable = from_samples(query, place, model)
    transforms = _by_place(found, usable.reshape(num_places, num_draws), max(_COUNTED, num_draws // _USABLE))
    part = points.at(chosen(draws(_PART, 1, seed)[0], points.counts))
    counts = np.count_nonzero(agreeing(part, transforms), axis=2)
    return _top(transforms, counts, _COUNTED)[0]


def _top(transforms: NDArray, counts: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """The transforms (P, size, 3, 3) of the highest counts (P, size), the highest first; of equals the first."""
    top = np.argsort(-counts, axis=1, kind="stable")[:, :size]
    return np.take_along_axis(transforms, top[..., None, None], axis=1), np.take_along_axis(counts, top, axis=1)


def _by_place(transforms: NDArray[np.float32], usable: NDArray[np.bool_], limit: int) -> NDArray[np.float32]:
    """(K, 3, 3) of the usable ones of (P, N) samples -> (P, n, 3, 3), at most `limit` of each place, zeros behind them."""
    place = np.nonzero(usable)[0]
    rank = np.arange(len(place)) - np.searchsorted(place, place)
    limit = min(limit, max(_COUNTED, int(rank.max(initial=0)) + 1))
    kept = rank < limit
    table = np.zeros((len(usable), limit, 3, 3), dtype=np.float32)
    table[place[kept], rank[kept]] = transforms[kept]
    return table


def _refined(points: Points, transforms: NDArray[np.float64], counts: NDArray[np.int64], model: Model) -> NDArray[np.float64]:
    """(P, 3, 3) the best of (P, T, 3, 3) after they were fitted to their inliers as long as that gave no fewer."""
    fit = Refit(points, model)
    found, best, most = transforms, transforms, counts
    for _ in range(_REFITS):
        found = fit(found, agreeing(points, found))
        counts = np.count_nonzero(agreeing(points, found), axis=2)
        best = np.where((counts >= most)[..., None, None], found, best)
        most = np.maximum(counts, most)
    return best[np.arange(len(best)), most.argmax(axis=1)]
