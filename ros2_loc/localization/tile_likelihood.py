"""What a similarity score says about being at a position: a likelihood ratio, fitted where the truth is known.

Scores of one query are compared with the scores that the same query has where it certainly is not taken (other tiles, other shifts):
`standardized`. So one fit serves short and long videos, clear and empty views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ros2_loc.errors import DataError

FloatArray = NDArray[np.float32]

_SIGMA_MIN = 1e-6
_BACKGROUND_MAX = 100_000  # more of them say nothing new


@dataclass(frozen=True)
class TileLikelihood:
    """p(score | base_link is there) / p(score | it is somewhere else) = (1 - e) exp((z - neutral) / temperature) + e.

    Attributes:
        temperature: how many standard deviations of the background make the position e times more likely.
        neutral: standardized score that speaks neither for nor against a position (but for outliers); it makes the mean ratio over
            the background 1.
        outlier_share: e, share of queries whose score says nothing: covered view, imagery that is out of date.
        max_log_ratio: no single query says more than this: not enough to tell one of ten thousand places from the others.
    """

    temperature: float = 0.4
    neutral: float = 1.1
    outlier_share: float = 0.05
    max_log_ratio: float = 8.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.max_log_ratio > 0 and np.isfinite(self.neutral)):
            raise ValueError(f"likelihood: temperature and max_log_ratio must be positive, neutral a number, got {self}")
        if not 0 < self.outlier_share < 1:
            raise ValueError(f"likelihood.outlier_share must be in (0, 1), got {self.outlier_share}")

    def log_ratio(self, z: ArrayLike) -> FloatArray:
        """Logarithm of the likelihood ratio of standardized scores, any shape, float32."""
        exponent = np.subtract(z, self.neutral, dtype=np.float32, out=np.empty(np.shape(z), dtype=np.float32))
        exponent *= np.float32(1.0 / self.temperature)
        np.minimum(exponent, np.float32(self.max_log_ratio), out=exponent)
        np.exp(exponent, out=exponent)
        exponent *= np.float32(1.0 - self.outlier_share)
        exponent += np.float32(self.outlier_share)
        return np.log(exponent, out=exponent)


def background(scores: ArrayLike) -> tuple[float, float]:
    """Mean and standard deviation of one query's scores where it was not taken; the latter never 0."""
    s = np.asarray(scores).ravel()
    some = s[:: max(s.size // _BACKGROUND_MAX, 1)].astype(np.float64)
    return float(some.mean()), max(float(some.std()), _SIGMA_MIN)


def standardized(scores: ArrayLike, mean: float, sigma: float) -> FloatArray:
    """Scores in standard deviations above the background's mean, float32."""
    return (np.asarray(scores, dtype=np.float32) - np.float32(mean)) * np.float32(1.0 / sigma)


def fit_likelihood(z_at_truth: ArrayLike, z_elsewhere: ArrayLike, max_log_ratio: float = 8.0) -> TileLikelihood:
    """The likelihood that makes true positions of validation drives as probable as possible.

    Maximizes the mean logarithm of the ratio at the truth while its mean over the background is 1: KLIEP, Sugiyama et al., "Direct
    importance estimation for covariate shift adaptation", 2008. Where a network tells truth and background apart without fail, their
    samples alone would make that a step behind the last wrong score seen; hence the background has at least the tail of a normal
    distribution. The limit of the ratio plays no part in it: else everything would be drawn to that limit.

    Args:
        z_at_truth: (N,) standardized score of each query at its true position.
        z_elsewhere: standardized scores of queries at positions that are not true, any number.
        max_log_ratio: passed on.

    Raises:
        DataError: fewer than 20 or not finite scores.
    """
    truth, other = (np.asarray(z, dtype=np.float64).ravel() for z in (z_at_truth, z_elsewhere))
    if min(len(truth), len(other)) < 20 or not (np.isfinite(truth).all() and np.isfinite(other).all()):
        raise DataError(f"a likelihood needs 20 finite scores at the truth and elsewhere, got {len(truth)} and {len(other)}")
    shares, candidates = np.geomspace(0.01, 0.95, 60)[:, None], []
    for temperature in np.geomspace(0.05, 5.0, 80):
        neutral = _neutral(other, float(temperature))
        exponents = (truth - neutral) / temperature
        gains = np.logaddexp(np.log1p(-shares) + exponents, np.log(shares)).mean(axis=1)
        best = int(gains.argmax())
        candidates.append((float(gains[best]), TileLikelihood(float(temperature), neutral, float(shares[best, 0]), max_log_ratio)))
    return max(candidates, key=lambda c: c[0])[1]


def _neutral(other: NDArray[np.float64], temperature: float) -> float:
    """Where the mean of the exponential over wrong positions is 1, over the sample or over the normal distribution like it: the larger."""
    of_sample = temperature * float(logsumexp(other / temperature) - np.log(len(other)))
    return max(of_sample, float(other.mean()) + float(other.var()) / (2.0 * temperature))


def fit_independent_m(z: ArrayLike, way_m: float) -> float:
    """The way after which a query is new evidence, m: `TileFilter.Config.independent_m`.

    Queries share images, and what disturbs one disturbs the next. The sum of N correlated scores is as good as that of N way_m / L
    independent ones, where L is way_m (1 + 2 sum of the autocorrelations).

    Args:
        z: (D, N) standardized scores of N queries in a row at D places that move as the vehicle does: at the truth of D drives, or, of more
            weight, at wrong places, since it is these that must not be believed.
        way_m: between two queries.

    Raises:
        DataError: fewer than 5 queries in a row, or scores that are not finite.
    """
    scores = np.atleast_2d(np.asarray(z, dtype=np.float64))
    if scores.shape[1] < 5 or not np.isfinite(scores).all():
        raise DataError(f"the correlation needs (D, N) finite scores of 5 queries in a row, got {scores.shape}")
    residual = scores - scores.mean()
    variance = float((residual**2).mean())
    total = 1.0
    for lag in range(1, scores.shape[1] // 2 + 1):
        correlation = float((residual[:, lag:] * residual[:, :-lag]).mean()) / max(variance, 1e-30)
        if correlation <= 0.05:  # the rest is noise of the estimate
            break
        total += 2.0 * correlation
    return way_m * total
