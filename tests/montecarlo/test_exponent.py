"""Reading a limit from finite ranks: the bias of the straight line, the correction, coverage, planted errors."""

import numpy as np
import pytest

from rsverify.montecarlo.curve import Magnitude, magnitude
from rsverify.montecarlo.exponent import fit_exponent
from rsverify.statistics.design import draws_for_half_width, draws_for_tail, false_pass_rate
from rsverify.statistics.intervals import slope_weights

RANKS = tuple(2**k for k in range(2, 17))


def _curve(ranks=RANKS, exponent=1.0, width=0.0, error=lambda r: 1e-3):
    """sqrt(r**2 + (2 + width) r) r**(exponent - 1), without noise."""
    return [Magnitude(r, float(np.sqrt(r * r + (2 + width) * r) * r ** (exponent - 1.0)), error(r), 0.1, 1000) for r in ranks]


def test_ordinary_least_squares_is_biased_and_the_corrected_fit_is_not():
    points = _curve()
    ordinary = slope_weights(np.log(RANKS)) @ np.log([m.value for m in points])
    squares = slope_weights(np.log(RANKS)) @ np.log([m.value**2 for m in points])
    assert 0.01 < 1 - ordinary < 0.02 and 0.02 < 2 - squares < 0.04
    fit = fit_exponent(points, width=24)
    assert abs(fit.exponent - 1) < 1e-4
    assert abs(fit.exponent - 1) <= fit.systematic


@pytest.mark.parametrize("ranks", [(4, 8), (4, 8, 16), (4, 8, 16, 32), (4, 8, 16, 32, 64), RANKS])
@pytest.mark.parametrize("width", [0.0, 24.0])
def test_the_systematic_error_covers_what_the_fit_leaves(ranks, width):
    fit = fit_exponent(_curve(ranks, width=width), width=24)
    if width and max(ranks) < 8 * width:
        assert fit.systematic > 0.02  # a crossover above the ranks: the fit must not look sure
    else:
        assert abs(fit.exponent - 1) <= fit.systematic


@pytest.mark.statistical
def test_interval_coverage():
    """300 intervals at 95 %: fewer than 268 or all but at most 1 cover at rate < 1e-4 each side (binomial tails)."""
    rng = np.random.default_rng(11)
    covered, repeats = 0, 300
    for _ in range(repeats):
        points = []
        for r in RANKS:
            law = r * np.exp(rng.standard_normal(64) * 0.2)
            points.append(magnitude(r, law**2, "rms"))
        fit = fit_exponent(points, width=1)
        lo, hi = fit.interval(0.95)
        covered += lo + fit.systematic <= 1 <= hi - fit.systematic
    assert 268 <= covered <= 298


@pytest.mark.statistical
def test_a_planted_exponent_off_by_twice_the_margin_is_excluded():
    rng = np.random.default_rng(12)
    for off in (0.2, -0.2):
        points = [magnitude(r, (r ** (1 + off) * np.exp(0.1 * rng.standard_normal(64))) ** 2, "rms") for r in RANKS]
        lo, hi = fit_exponent(points, width=1).interval(1 - 1e-8)
        assert not (lo < 1.1 and hi > 0.9)


def test_design_meets_its_half_width_and_declares_false_passes():
    assert draws_for_half_width(0.0, 0.02, 1 - 1e-6) == 32
    assert draws_for_half_width(0.76, 0.02, 1 - 1e-6) == pytest.approx((4.8916 * 0.76 / 0.02) ** 2, rel=2e-3)
    assert false_pass_rate(1 - 1e-6, half=0.04, margin=0.1, off=0.2) < 1e-12
    rng = np.random.default_rng(1)
    assert draws_for_tail(rng.standard_exponential(400), 1 - 1e-6) > draws_for_tail(rng.standard_normal(400), 1 - 1e-6)
