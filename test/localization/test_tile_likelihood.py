"""What scores are worth, fitted where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.errors import DataError
from ros2_loc.localization.tile_likelihood import TileLikelihood, background, fit_independent_m, fit_likelihood, standardized


@pytest.mark.parametrize("separation", [1.0, 2.0, 3.0])
def test_a_fit_finds_the_ratio_of_two_gaussians(separation: float) -> None:
    """Of N(separation, 1) to N(0, 1) the logarithm of the ratio is separation (z - separation / 2)."""
    rng = np.random.default_rng(3)
    truth, other = rng.normal(separation, 1, 4000), rng.normal(0, 1, 40000)
    fitted = fit_likelihood(truth, other, max_log_ratio=12.0)
    z = np.linspace(0.5, separation + 0.5, 9)
    assert np.abs(fitted.log_ratio(z) - separation * (z - separation / 2)).max() < 0.5
    assert np.exp(fitted.log_ratio(other)).mean() == pytest.approx(1.0, abs=0.15)  # few of them decide it


def test_outliers_at_the_truth_make_low_scores_speak_less_against() -> None:
    rng = np.random.default_rng(4)
    clean, other = rng.normal(4, 0.7, 1000), rng.normal(0, 1, 20000)
    spoilt = np.concatenate([clean[:700], rng.normal(0, 1, 300)])
    without, with_outliers = fit_likelihood(clean, other), fit_likelihood(spoilt, other)
    assert with_outliers.outlier_share > 0.2 > without.outlier_share
    assert with_outliers.log_ratio(-1.0) > -1.7 and without.log_ratio(-1.0) < -3.0


def test_scores_that_say_nothing_are_worth_nothing() -> None:
    rng = np.random.default_rng(5)
    fitted = fit_likelihood(rng.normal(0, 1, 2000), rng.normal(0, 1, 20000))
    assert np.abs(fitted.log_ratio(np.linspace(-2.5, 2.5, 11))).max() < 0.3


def test_no_score_says_more_than_the_limit() -> None:
    likelihood = TileLikelihood(0.3, 1.5, 0.1, 5.0)
    ratio = likelihood.log_ratio(np.array([-100.0, 0.0, 2.0, 100.0]))
    assert (np.diff(ratio) >= 0).all() and ratio[-1] <= 5.0 and ratio[0] == pytest.approx(np.log(0.1), abs=1e-5)


def test_standardized_scores_do_not_depend_on_the_scores_scale() -> None:
    scores = np.random.default_rng(6).normal(0.3, 0.05, (50, 7, 7)).astype(np.float32)
    z = standardized(scores, *background(scores))
    assert z.mean() == pytest.approx(0.0, abs=1e-4) and z.std() == pytest.approx(1.0, abs=1e-3)
    assert np.allclose(standardized(scores * 20 - 3, *background(scores * 20 - 3)), z, atol=1e-2)
    assert np.isfinite(standardized(np.ones(9), *background(np.ones(9)))).all()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.8])
def test_correlated_queries_count_as_far_fewer(kept: float) -> None:
    """Of an autoregressive sequence the sum is worth (1 - r) / (1 + r) as many independent ones."""
    rng = np.random.default_rng(7)
    z = np.zeros((400, 60))
    z[:, 0] = rng.standard_normal(400)
    for i in range(1, 60):
        z[:, i] = kept * z[:, i - 1] + np.sqrt(1 - kept**2) * rng.standard_normal(400)
    assert fit_independent_m(z, 5.0) == pytest.approx(5.0 * (1 + kept) / (1 - kept), rel=0.15)


@pytest.mark.parametrize(
    "fit",
    [
        lambda: fit_likelihood([1.0] * 5, [0.0] * 100),
        lambda: fit_likelihood([np.nan] * 50, [0.0] * 100),
        lambda: fit_independent_m([1.0], 5.0),
    ],
)
def test_too_little_data_is_said(fit) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="needs"):
        fit()


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"outlier_share": 0.0}, {"outlier_share": 1.0}, {"max_log_ratio": -1.0}])
def test_values_without_meaning_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="likelihood"):
        TileLikelihood(**values)
