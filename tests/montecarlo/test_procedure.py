"""The whole procedure: what is taken out, what is known, what is designed, and when a run that looks may stop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Gaussian, KaimingUniform, Zero
from rsverify.errors import BudgetError, InputError
from rsverify.montecarlo import Budget, estimate
from rsverify.montecarlo.curve import KnownCurve, influences, limit_exponent, magnitude
from rsverify.montecarlo.exponent import fit_exponent, fit_shared
from rsverify.montecarlo.gram.isotropic import isotropic
from rsverify.montecarlo.gram.sampler import GramSampler
from rsverify.montecarlo.planning import Aim, Pilot, plan, spreads
from rsverify.statistics.intervals import slope_weights
from rsverify.statistics.special import trigamma
from rsverify.statistics.streams import stream
from rsverify.symbolic import derive

GAUSSIAN = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
RANKS = tuple(2**k for k in range(2, 17))


def chi_square(rank: int, draws: int, name: str, power: float = 1.0) -> np.ndarray:
    return (2 * stream(0, "chi", name, rank).standard_gamma(rank / 2, draws)) ** power


# The line, its bias, and what is taken out.


def test_ordinary_least_squares_misses_however_many_draws_and_the_law_taken_out_does_not() -> None:
    """Over 4..65536 the line through r (r + 2) itself, no noise at all, has slope 2 - 0.03; intervals of many draws exclude 2."""
    squares = {r: chi_square(r, 4000, "ols", 2.0) for r in RANKS}
    logs = np.log([v.mean() for v in squares.values()])
    errors = np.array([v.std() / v.mean() / math.sqrt(len(v)) for v in squares.values()])
    c = slope_weights(np.log(RANKS))
    slope, error = c @ logs, math.sqrt((c**2) @ errors**2)
    assert 0.02 < 2 - slope < 0.04 and 2 - slope > 5 * error
    points = [magnitude(r, v, "rms") for r, v in squares.items()]
    law = KnownCurve(tuple(math.sqrt(r * (r + 2)) for r in RANKS), 1.0, "test")
    known, extrapolated = fit_exponent(points, known=law), fit_exponent(points)
    assert known.systematic == 0 and abs(known.exponent - 1) < 5 * known.error < 1e-3
    lo, hi = extrapolated.interval(1 - 1e-6)
    assert lo < 1 < hi < 1.01


@pytest.mark.statistical
def test_the_engines_law_is_taken_out_and_a_wrong_one_is_noticed(monkeypatch) -> None:
    right = estimate(GAUSSIAN, "alpha/r", ranks=RANKS, precision=0.002)
    assert right.engine == "gram" and right.systematic == 0 and "taken out" in right.notes[-1]
    true = GramSampler.second_moment
    # The leading order r**2 in place of r (r + 2): the ratio at rank 4 is 1.5.
    monkeypatch.setattr(GramSampler, "second_moment", lambda self, rank: true(self, rank) * rank / (rank + 2))
    wrong = estimate(GAUSSIAN, "alpha/r", ranks=RANKS)
    assert "not that of the draws" in wrong.notes[-1] and wrong.systematic > 0
    assert wrong.interval[0] < -1 < wrong.interval[1]


@pytest.mark.statistical
def test_a_predictions_exact_curve_can_be_taken_out() -> None:
    asked = {"quantity": "input_gradient", "optimizer": "sgd"}
    curve = derive("lora", "alpha/r", **asked)
    e = estimate("lora", "alpha/r", ranks=(4, 16, 64, 256), d_in=12, d_out=8, curve=curve, **asked)
    assert e.systematic == 0 and "law of the prediction taken out" in e.notes[-1]
    assert e.interval[0] < float(curve.exponent) < e.interval[1] and e.interval[1] - e.interval[0] < 0.02
    for bad, message in (
        (derive("lora", "alpha/sqrt(r)", **asked), "curve speaks of"),
        (replace(curve, exact=False, error_order="O(1/r)"), "not exact at finite rank"),
        (replace(curve, formula=None), "no formula"),
    ):
        with pytest.raises(InputError, match=message):
            estimate("lora", "alpha/r", ranks=(4, 16, 64), curve=bad, **asked)
    with pytest.raises(InputError, match="samples=3"):
        estimate("lora", "alpha/r", ranks=(4, 16, 64), curve=curve, samples=3, **asked)


def test_the_limit_of_a_law_is_read_far_out_or_not_at_all() -> None:
    assert limit_exponent(lambda r: math.sqrt(r * (r + 2.0))) == 1.0
    assert limit_exponent(lambda r: (r + 7.0) ** -0.5) == -0.5
    assert limit_exponent(lambda r: r * math.log(r)) is None
    assert limit_exponent(lambda r: None) is None
    assert limit_exponent(lambda r: float(r) ** 30) is None  # overflows


# Weights that are known.


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("quantity", "statistic", "steps"),
    [
        ("gradient_norm", "frobenius", 0), ("gradient:B", "rms", 0), ("gradient_norm", "log", 0), ("update", "rms", 1),
        ("update", "projection", 1), ("update", "log", 1), ("loss_decrease", "rms", 1),
    ],
)  # fmt: skip
def test_the_known_errors_of_one_isotropic_step_are_those_of_the_draws(quantity: str, statistic: str, steps: int) -> None:
    asked = setting(GAUSSIAN, "alpha/r", quantity=quantity, statistic=statistic, steps=steps)
    law = isotropic(asked, 1)
    assert law is not None
    from rsverify.montecarlo.engines import sampler_for
    from rsverify.montecarlo.problem import make_problem
    from rsverify.montecarlo.samplers import Task

    rank, draws = 40, 20_000
    task = Task(asked, make_problem(0, d_in=6, d_out=5, cosine=1.0), 20.0, 1e-3, 0, Budget())
    seen = magnitude(rank, sampler_for(task, "gram").sample(rank, "test", draws).values, statistic)
    # The deviation of n draws has relative error sqrt((kurtosis - 1) / 4 n), under 1.2 % here; six of those.
    assert law.error(rank, draws) == pytest.approx(seen.log_error, rel=0.07)
    assert law.spread(rank) == pytest.approx(seen.spread, rel=0.07)


def test_the_gradients_weight_is_a_quarter_of_trigamma() -> None:
    law = isotropic(setting(GAUSSIAN, "alpha/r", quantity="gradient_norm", statistic="frobenius", steps=0), 1)
    assert law is not None and law.error(8, 5) == pytest.approx(math.sqrt(float(trigamma(20.0)) / 4), rel=1e-14)


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": "adam"}, {"steps": 2}, {"probe": "orthogonal"}, {"quantity": "input_gradient"}, {"optimizer": "sgd:clip=1"},
        {"quantity": "gradient_norm", "steps": 1}, {"adapter": GAUSSIAN.with_init(A=KaimingUniform("i"))},
        {"adapter": GAUSSIAN.with_init(B=Gaussian(1))}, {"samples": 2},
    ],
)  # fmt: skip
def test_nothing_is_claimed_to_be_known_elsewhere(changed) -> None:
    changed = dict(changed)
    adapter, samples = changed.pop("adapter", GAUSSIAN), changed.pop("samples", 1)
    assert isotropic(setting(adapter, "alpha/r", **changed), samples) is None


# Draws that the ranks share.


@pytest.mark.statistical
def test_shared_draws_are_handled_as_correlated() -> None:
    """200 repeats of 60 nested draws: the error that ignores the correlation is half as large as the scatter; the fit's own is right."""
    ranks, truth = RANKS[:9], KnownCurve(tuple(float(r) for r in RANKS[:9]), 1.0, "test")
    found, said, independent = [], [], []
    for repeat in range(200):
        rng = stream(0, "shared", repeat)
        steps = np.diff([0, *ranks])
        values = np.stack([2 * rng.standard_gamma(s / 2, 60) for s in steps], axis=1).cumsum(axis=1)
        fit = fit_shared(ranks, values, "projection", known=truth)
        found.append(fit.exponent)
        said.append(fit.error)
        independent.append(
            fit_exponent([magnitude(r, v, "projection") for r, v in zip(ranks, values.T, strict=True)], known=truth).exponent
        )
    scatter = float(np.std(found))
    # A standard deviation of 200 has relative error 5 %.
    assert float(np.sqrt(np.mean(np.square(said)))) == pytest.approx(scatter, rel=0.25)
    assert abs(float(np.mean(found)) - 1) < 5 * scatter / math.sqrt(200)
    # Weighing them as if they were independent scatters more: the generalised fit is worth having.
    assert float(np.std(independent)) > 1.02 * scatter


def test_few_shared_draws_get_their_error_from_each_draws_own_slope() -> None:
    rng, ranks = stream(0, "few shared"), (4, 8, 16, 32)
    values = np.exp(rng.standard_normal((10, 1)) * 3) * np.array(ranks)
    fit = fit_shared(ranks, values, "projection", known=KnownCurve(tuple(map(float, ranks)), 1.0, "test"))
    assert fit.exponent == pytest.approx(1, abs=1e-9) and fit.error < 1e-9 and fit.freedom == 9  # what all ranks share cancels
    with pytest.raises(InputError, match="a column for each rank"):
        fit_shared(ranks, values[:, :3], "rms")
    assert influences(values, "log").mean() == pytest.approx(0, abs=1e-12)


# The design.


def _pilots(costs: list[int], ranks=RANKS) -> list[Pilot]:
    return [Pilot(r, chi_square(r, 64, "pilot", 2.0), cost, 1e-6) for r, cost in zip(ranks, costs, strict=True)]


def _aim(**changed) -> Aim:
    return Aim(**{"level": 1 - 1e-6, "target": 0.005, "asked": 0.005, "insist": True, "points": False, "known": True, **changed})


def test_draws_go_where_they_narrow_the_exponent_most_for_their_cost() -> None:
    pilots, even = _pilots(list(RANKS)), _pilots([1] * len(RANKS))
    spread = np.sqrt(2 / np.array(RANKS))
    by_cost, _ = plan(pilots, spread, aim=_aim(target=2e-4), budget=Budget(draws=None, entries=None))
    alike, _ = plan(even, spread, aim=_aim(target=2e-4), budget=Budget(draws=None, entries=None))
    for draws in (by_cost, alike):
        error = np.array(spread) / np.sqrt(draws)
        c = slope_weights(np.log(RANKS), 1 / error**2)
        assert 4.8 * math.sqrt((c**2) @ error**2) < 2e-4  # 4.89 is the normal quantile; Student's part makes room
    cost = np.array(RANKS)
    assert cost @ by_cost < 0.7 * cost @ alike and sum(alike) < sum(by_cost)


def test_what_is_out_of_reach_is_refused_with_its_price_or_noted() -> None:
    pilots, spread = _pilots([100] * len(RANKS)), np.sqrt(2 / np.array(RANKS))
    with pytest.raises(BudgetError, match=r"an exponent to \+-1e-06 at level .* takes about .* draws; 1e\+05 are allowed") as caught:
        plan(pilots, spread, aim=_aim(target=1e-6, asked=1e-6), budget=Budget(draws=100_000))
    assert caught.value.needed > caught.value.allowed == 100_000 and caught.value.unit == "draws"
    with pytest.raises(BudgetError, match="entries"):
        plan(pilots, spread, aim=_aim(target=1e-5), budget=Budget(draws=None, entries=1e6))
    with pytest.raises(BudgetError, match="seconds"):
        plan(pilots, spread, aim=_aim(target=1e-6), budget=Budget(draws=None, entries=None, seconds=0.1))
    draws, notes = plan(pilots, spread, aim=_aim(target=1e-6, insist=False, points=True), budget=Budget(draws=100_000))
    assert sum(draws) <= 100_000 and any("that would take" in note for note in notes)


def test_pilot_spreads_are_smoothed_over_many_ranks_and_left_alone_over_few() -> None:
    pilots = _pilots([1] * len(RANKS))
    truth = np.array([math.sqrt((8 * r + 24) / (r * (r + 2))) / 2 for r in RANKS])
    raw = np.array([magnitude(p.rank, p.values, "rms").spread for p in pilots])
    assert np.abs(np.log(spreads(pilots, "rms") / truth)).mean() < 0.7 * np.abs(np.log(raw / truth)).mean()
    np.testing.assert_array_equal(spreads(pilots[:4], "rms"), raw[:4])


@pytest.mark.statistical
@pytest.mark.parametrize("asked", [{}, {"samples": 3, "steps": 2}, {"statistic": "projection"}, {"quantity": "input_gradient"}])
def test_a_precision_is_reached(asked) -> None:
    e = estimate(GAUSSIAN, "alpha/sqrt(r)", ranks=RANKS, precision=0.01, **asked)
    lo, hi = e.interval
    assert lo < 0 < hi and (hi - lo) / 2 <= 0.01 * 1.25  # spreads are planned from a pilot of some 64 draws a rank


# Runs that look.


@pytest.mark.statistical
def test_a_sequential_run_stops_when_the_stability_is_settled_and_says_so() -> None:
    fast = estimate(GAUSSIAN, "alpha/r", ranks=RANKS, sequential=True)
    lo, hi = fast.interval
    assert hi < -fast.design["margin"] and lo < -1 < hi and fast.design["looks"] >= 8
    slow = estimate(GAUSSIAN, "alpha/r", ranks=RANKS, sequential=True, precision=0.004)
    assert slow.interval[0] < -1 < slow.interval[1] and (slow.interval[1] - slow.interval[0]) / 2 <= 0.004
    assert slow.design["looks"] > fast.design["looks"]
    again = estimate(GAUSSIAN, "alpha/r", ranks=RANKS, sequential=True)
    assert again == fast


@pytest.mark.statistical
def test_a_run_at_the_margins_edge_ends_and_tells_its_price() -> None:
    at = estimate(GAUSSIAN, "alpha/r**0.55", ranks=RANKS[::3], sequential=True, budget=Budget(draws=5000))
    assert at.interval is not None and any(note.startswith("inconclusive at a margin of 0.1") for note in at.notes)
    with pytest.raises(BudgetError, match="takes about"):
        estimate(GAUSSIAN, "alpha/r", ranks=RANKS, sequential=True, precision=1e-5, budget=Budget(draws=10_000))


@pytest.mark.statistical
def test_sequential_intervals_hold_at_the_stopping_time() -> None:
    """100 runs at 80 %, stopped as soon as they are narrow enough: at most 20 % miss. A binomial tail of 1e-6 is 41 misses."""
    ranks, misses = RANKS[::2], 0
    for seed in range(100):
        e = estimate(GAUSSIAN, "alpha/r", ranks=ranks, sequential=True, precision=0.01, error_budget=0.2, seed=seed)
        misses += not e.interval[0] <= -1 <= e.interval[1]
    assert misses <= 41
