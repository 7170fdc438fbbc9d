"""Weighted and generalised least squares against statsmodels; errors of fits whose covariance comes from the same draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from rsverify.errors import InputError
from rsverify.statistics.intervals import student_quantile
from rsverify.statistics.regression import generalised, growth_curve_freedom, weighted
from rsverify.statistics.streams import stream

api = pytest.importorskip("statsmodels.api")
X = np.log([4.0, 8, 16, 64, 256])
COLUMNS = np.stack([np.ones_like(X), X, np.exp(-X)], axis=1)
Y = np.array([0.1, -0.4, -1.2, -1.9, -2.2])


def test_weighted_fits_are_those_of_statsmodels() -> None:
    errors = np.array([1.0, 0.5, 0.2, 0.1, 0.3])
    fit = api.WLS(Y, COLUMNS, weights=errors**-2).fit()
    np.testing.assert_allclose(weighted(COLUMNS, errors) @ Y, fit.params, rtol=1e-10)
    # With known errors the covariance of the estimates is C diag(errors**2) C'; statsmodels scales it by its residuals.
    C = weighted(COLUMNS, errors)
    np.testing.assert_allclose((C * errors**2) @ C.T, fit.normalized_cov_params, rtol=1e-9)


def test_generalised_fits_are_those_of_statsmodels() -> None:
    root = np.tril(stream(0, "gls").standard_normal((5, 5))) + 2 * np.eye(5)
    covariance = root @ root.T
    fit = api.GLS(Y, COLUMNS, sigma=covariance).fit()
    C = generalised(COLUMNS, covariance)
    np.testing.assert_allclose(C @ Y, fit.params, rtol=1e-9)
    np.testing.assert_allclose(C @ covariance @ C.T, fit.normalized_cov_params, rtol=1e-9)


def test_without_correlation_both_are_the_same() -> None:
    errors = np.array([1.0, 0.5, 0.2, 0.1, 1e-6])
    np.testing.assert_allclose(generalised(COLUMNS, np.diag(errors**2)) @ Y, weighted(COLUMNS, errors) @ Y, rtol=1e-9)


def test_a_covariance_of_too_few_draws_is_refused() -> None:
    few = np.cov(stream(0, "few").standard_normal((3, 5)), rowvar=False)
    with pytest.raises(InputError, match="too few draws"):
        generalised(COLUMNS, few)
    with pytest.raises(InputError, match="not symmetric"):
        generalised(COLUMNS, np.triu(np.ones((5, 5))))
    with pytest.raises(InputError, match="needs at least 8 draws"):
        growth_curve_freedom(5, 5, 2)


RANKS = 9


def nested(draws: int, name: int) -> np.ndarray:
    """Sums over channels that the ranks share, over the rank: the errors of neighbouring ranks correlate at 0.7."""
    steps = np.sqrt(np.r_[1, 2.0 ** np.arange(RANKS - 1)])
    return (stream(0, "nested", draws, name).standard_normal((draws, RANKS)) * steps).cumsum(axis=1) / 2.0 ** np.arange(RANKS)


@pytest.mark.statistical
@pytest.mark.parametrize("draws", [14, 40])
def test_slopes_of_shared_draws_cover_as_often_as_they_say(draws: int) -> None:
    """Nominal 90 %, within 2 % for the approximate degrees of freedom; with the covariance taken for known it fails."""
    columns = np.stack([np.ones(RANKS), np.arange(RANKS) * math.log(2)], axis=1)
    repeats, level, slack, hits, naive = 1500, 0.9, 0.02, 0, 0
    for repeat in range(repeats):
        y = nested(draws, repeat)
        covariance = np.cov(y, rowvar=False)
        c = generalised(columns, covariance / draws)[1]
        estimate, error = abs(c @ y.mean(axis=0)), math.sqrt(c @ covariance @ c / draws)
        freedom, factor = growth_curve_freedom(draws, RANKS, 2)
        hits += estimate <= student_quantile(level, freedom) * error * factor
        naive += estimate <= student_quantile(level, draws - 1) * error
    low, high = scipy.stats.binom.cdf(hits, repeats, level - slack), scipy.stats.binom.sf(hits - 1, repeats, level + slack)
    assert min(low, high) > 5e-7
    if draws == 14:
        assert scipy.stats.binom.cdf(naive, repeats, level - slack) < 5e-7
