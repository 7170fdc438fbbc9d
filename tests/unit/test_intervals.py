"""Intervals: quantiles and slopes against scipy.stats and statsmodels, coverage against a declared error rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rsverify.errors import InputError
from rsverify.statistics.intervals import (
    level_for,
    log_mean_interval,
    mean_interval,
    normal_quantile,
    per_draw_slope,
    slope_weights,
    student_quantile,
)
from rsverify.statistics.streams import stream

FALSE_FAILURES = 1e-6
"""Of each coverage test, over fresh seeds."""


@pytest.mark.parametrize("freedom", [1, 2, 5, 31, 63, 1000])
@pytest.mark.parametrize("tail", [0.5, 0.05, 1e-3, 1e-6, 1e-9])
def test_student_quantiles_are_those_of_scipy(freedom: int, tail: float) -> None:
    level = 1 - tail
    # 1 - level keeps some 16 - log10(1/tail) digits of the tail, and so does the quantile.
    assert student_quantile(level, freedom) == pytest.approx(scipy.stats.t.isf((1 - level) / 2, freedom), rel=1e-8)
    assert normal_quantile(level) == pytest.approx(scipy.stats.norm.isf((1 - level) / 2), rel=1e-8)


@pytest.mark.parametrize(("level", "freedom"), [(0, 3), (1, 3), (-0.1, 3), (math.nan, 3), (0.9, 0)])
def test_levels_of_no_use_are_refused(level: float, freedom: int) -> None:
    with pytest.raises(InputError, match="expected 0 < level < 1"):
        student_quantile(level, freedom)


def test_a_budget_is_shared_among_statements() -> None:
    assert level_for(1e-6, 100) == pytest.approx(1 - 1e-8, abs=1e-15) and level_for(0.05, 0) == 0.95


def test_mean_intervals_are_those_of_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    values = stream(0, "mean").standard_normal(40) + 3
    mean, interval = mean_interval(values, 0.99)
    assert mean == values.mean()
    assert interval == pytest.approx(weightstats.DescrStatsW(values).tconfint_mean(0.01), rel=1e-12)


@pytest.mark.parametrize("values", [[], [1.0], np.ones((2, 3)), 3.0])
def test_what_has_no_mean_interval_is_refused(values) -> None:
    with pytest.raises(InputError, match="at least two|one axis"):
        mean_interval(np.asarray(values, dtype=float), 0.9)


def covered(hits: int, trials: int, level: float, *, slack: float = 0.0) -> bool:
    """Whether so many hits are credible at a coverage of level +- slack, at the file's rate of false failures."""
    low = scipy.stats.binom.cdf(hits, trials, level - slack)
    high = scipy.stats.binom.sf(hits - 1, trials, min(level + slack, 1.0))
    return min(low, high) > FALSE_FAILURES / 2


@pytest.mark.statistical
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_mean_intervals_cover_as_often_as_they_say(level: float) -> None:
    trials, n = 4000, 8
    draws = stream(0, "coverage", str(level)).standard_normal((trials, n)) * 3 + 1
    hits = sum(lo <= 1 <= hi for _, (lo, hi) in (mean_interval(row, level) for row in draws))
    assert covered(hits, trials, level)


@pytest.mark.statistical
def test_the_coverage_test_would_notice_normal_quantiles() -> None:
    """Power: with z in place of Student's t at n = 8 the same test is red."""
    trials, n, level = 4000, 8, 0.9
    draws = stream(0, "coverage", str(level)).standard_normal((trials, n))
    half = normal_quantile(level) * draws.std(axis=1, ddof=1) / math.sqrt(n)
    assert not covered(int((np.abs(draws.mean(axis=1)) <= half).sum()), trials, level)


@pytest.mark.statistical
def test_log_mean_intervals_cover_the_log_of_the_mean() -> None:
    """Gamma(4) over 64 draws: the delta method is off by well under 1 % in coverage there; the mean of logs is far outside."""
    trials, n, level = 3000, 64, 0.9
    draws = stream(0, "log coverage").gamma(4.0, 1.0, (trials, n))
    found = [log_mean_interval(row, level) for row in draws]
    assert covered(sum(lo <= math.log(4) <= hi for _, (lo, hi) in found), trials, level, slack=0.01)
    assert not covered(sum(lo <= np.log(draws).mean() <= hi for _, (lo, hi) in found), trials, level, slack=0.01)


def test_a_log_mean_is_the_log_of_the_mean() -> None:
    centre, (lo, hi) = log_mean_interval(np.array([1.0, 3.0]), 0.5)
    assert centre == math.log(2) and (lo + hi) / 2 == pytest.approx(centre)
    assert hi - centre == pytest.approx(student_quantile(0.5, 1) * 1.0 / 2)
    for values in ([-1.0, -3.0], [0.0, 0.0], [math.nan, 1.0]):
        with pytest.raises(InputError, match="its logarithm does not exist"):
            log_mean_interval(np.array(values), 0.9)


points = st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True)


@given(points, st.data())
def test_slopes_are_those_of_polyfit(x: list[int], data) -> None:
    y = np.array(data.draw(st.lists(st.floats(-10, 10), min_size=len(x), max_size=len(x))))
    weights = np.array(data.draw(st.lists(st.floats(0.1, 10), min_size=len(x), max_size=len(x))))
    assert slope_weights(x) @ y == pytest.approx(np.polyfit(x, y, 1)[0], abs=1e-8)
    assert slope_weights(x, weights) @ y == pytest.approx(np.polyfit(x, y, 1, w=np.sqrt(weights))[0], abs=1e-8)


def test_weighted_slopes_are_those_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    x, y, w = np.log([4, 8, 16, 64]), np.array([0.1, -0.4, -1.2, -1.9]), np.array([1.0, 2.0, 0.5, 4.0])
    assert slope_weights(x, w) @ y == pytest.approx(api.WLS(y, api.add_constant(x), weights=w).fit().params[1], rel=1e-12)


def test_slope_weights_sum_to_zero_and_read_a_line() -> None:
    x = np.log([4, 8, 32])
    weights = slope_weights(x, [1, 5, 2])
    assert weights.sum() == pytest.approx(0, abs=1e-15) and weights @ (7 - 0.5 * x) == pytest.approx(-0.5, rel=1e-14)


@pytest.mark.parametrize(("x", "w"), [([1.0], None), ([], None), ([2.0, 2.0], None), ([1.0, 2.0], [1.0, 0.0])])
def test_a_slope_needs_two_different_ranks(x, w) -> None:
    with pytest.raises(InputError, match="two"):
        slope_weights(x, w)


def test_slopes_of_draws_ignore_what_the_ranks_share() -> None:
    x = np.log([4, 8, 16, 32])
    shared = stream(0, "shared").standard_normal((32, 1)) * 100
    slope, (lo, hi) = per_draw_slope(x, -0.5 * x + shared, 1 - 1e-6)
    assert slope == pytest.approx(-0.5, abs=1e-9) and hi - lo < 1e-9
