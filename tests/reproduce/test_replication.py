"""The probability that a fresh run answers alike, against noncentral t, brute force, and what it is for."""

import math

import numpy as np
import pytest
from scipy import stats

from rsverify.errors import InputError
from rsverify.statistics.intervals import mean_interval
from rsverify.statistics.streams import stream
from rsverify.studies.reproduce.replication import DRAWS, probability_inside

BELOW = (-math.inf, 0.0)


@pytest.mark.parametrize("size", [3, 7, 20])
@pytest.mark.parametrize("shift", [-0.2, -0.7, -1.5])
def test_with_the_law_known_it_is_the_power_of_students_test(size, shift):
    """A great many values seen: mean and deviation are as good as known, and one fresh repeat is a t-test."""
    found, _ = probability_inside(shift, 1.0, 10**7, repeats=[size], region=BELOW, level=0.95)
    power = stats.nct.cdf(-stats.t.ppf(0.975, size - 1), size - 1, shift * math.sqrt(size))
    # Five standard errors of a share of DRAWS.
    assert found == pytest.approx(power, abs=5 * math.sqrt(0.25 / DRAWS))


def test_two_repeats_must_both_say_so():
    one, _ = probability_inside(-0.7, 1.0, 10**7, repeats=[10], region=BELOW, level=0.95)
    both, _ = probability_inside(-0.7, 1.0, 10**7, repeats=[10, 10], region=BELOW, level=0.95)
    assert both == pytest.approx(one**2, abs=5 * math.sqrt(0.25 / DRAWS))


def test_it_foretells_fresh_runs():
    """Laws drawn at random, a run of each and a fresh one: those that were promised at 0.9 come again about that often.

    The posterior's own prior is flat, that of this test is wide: over 1,500 laws a share within 0.06 of what was promised on average (more
    than five standard errors at these counts).
    """
    draw = stream(0, "test", "replication")
    promised, kept = [], []
    for _ in range(1500):
        mean, spread = draw.uniform(-3, 3), math.exp(draw.uniform(-0.5, 0.5))
        seen, fresh = (draw.standard_normal((2, 8)) * spread + mean for _ in range(2))
        inside, outside = probability_inside(float(seen.mean()), float(seen.std(ddof=1)), 16, repeats=[8, 8], region=BELOW, level=0.95)
        said = max(inside, outside)
        if not 0.5 < said < 0.95:
            continue
        ends = [mean_interval(repeat, 0.95)[1] for repeat in fresh]
        alike = all(hi < 0 for _, hi in ends) if inside > outside else all(lo >= 0 for lo, _ in ends)
        promised.append(said)
        kept.append(alike)
    assert len(kept) > 150
    assert np.mean(kept) == pytest.approx(np.mean(promised), abs=5 * math.sqrt(0.25 / len(kept)))


def test_a_region_with_two_ends_and_no_spread():
    assert probability_inside(0.0, 0.0, 6, repeats=[3, 3], region=(-0.1, 0.1), level=0.95) == (1.0, 0.0)
    assert probability_inside(0.2, 0.0, 6, repeats=[3, 3], region=(-0.1, 0.1), level=0.95) == (0.0, 1.0)
    inside, outside = probability_inside(0.1, 0.01, 40, repeats=[20, 20], region=(-0.1, 0.1), level=0.95)
    assert inside < 0.01 and outside < 0.01  # on the edge nobody can tell


def test_outside_is_on_one_side():
    """Repeats that lie beyond different ends do not agree."""
    inside, outside = probability_inside(0.0, 100.0, 40, repeats=[20, 20], region=(-0.1, 0.1), level=0.05)
    assert inside < 0.01 and 0.3 < outside < 0.6


def test_fewer_than_two_values_are_refused():
    for count, repeats in ((1, [3]), (6, [1, 3]), (6, [])):
        with pytest.raises(InputError, match="at least two values"):
            probability_inside(0.0, 1.0, count, repeats=repeats, region=BELOW, level=0.95)
