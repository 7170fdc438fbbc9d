"""Every registered adapter under SGD and AdamW: which headline claims are answered, and that simulation says the same.

No exponent stands here: an exact formula must equal the mean over draws; bounds must hold it between them at every rank; and the power
of r that is read off must be the slope of the formula itself, far out.
"""

import math
from fractions import Fraction
from functools import cache

import pytest
import sympy as sp

import rsverify as rv
from rsverify.definitions.claims import data_quantities, setting
from rsverify.definitions.laws import Frozen, Zero
from rsverify.montecarlo.dense.drawing import draw_block
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.problem import make_problem
from rsverify.statistics.intervals import normal_quantile
from rsverify.symbolic.answers.reading import exponent_range
from rsverify.symbolic.answers.witness import magnitude
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.flatdata import averaged, changing, flat_values, random_names
from rsverify.symbolic.moments.sizes import growth

HEADLINES = {
    "update": {},
    "gradient": {"quantity": "gradient_norm", "statistic": "frobenius", "steps": 0},
    "decrease": {"quantity": "loss_decrease"},
}
OPTIMIZERS = ("sgd", "adamw")
D_IN, D_OUT, LR, RANKS, DRAWS = 16, 24, 1e-3, (2, 4, 8), 400
LEVEL = 1 - 1e-6 / 1000  # some three hundred comparisons: one false failure in a million runs
KURTOSIS = 3
"""E L**4 <= 3 (E L**2)**2 for linear forms of centred uniform, normal, constant and orthonormal entries."""

WRAPPED = {"delora", "dora", "fourierft", "olora", "pissa"}
WIDTH_SILENT = {(name, "adamw", "update") for name in ("loha", "lokr", "pissa 0", "pissa 1/3", "lokr-lycoris", "lora-xs", "randlora")}
"""Bounds that differ by a power of the width: within one response of theirs the signs of a step are tied."""

SPEAKING = {name: adapter for name, adapter in rv.adapters().items() if name not in WRAPPED}
for decay in ("0", "1/3"):
    laws = {"B": rv.PrincipalComponents("columns", decay), "A": rv.PrincipalComponents("rows", decay)}
    SPEAKING[f"pissa {decay}"] = rv.adapters()["pissa"].with_init(**laws)
CASES = [(name, optimizer, headline) for name in SPEAKING for optimizer in OPTIMIZERS for headline in HEADLINES]


def reason(name, **asked):
    """Why nothing is derived; None where something is."""
    try:
        rv.derive(name, "alpha/r", **asked)
    except rv.NotDerivable as silent:
        return silent
    return None


def test_the_table_of_who_is_silent():
    width = set()
    for name, optimizer, headline in CASES:
        assert reason(SPEAKING[name], optimizer=optimizer, **HEADLINES[headline]) is None
        silent = reason(SPEAKING[name], optimizer=optimizer, regime="width", **HEADLINES[headline])
        if silent is not None:
            assert "power of the width" in silent.reason
            width.add((name, optimizer, headline))
    assert width == WIDTH_SILENT


@pytest.mark.parametrize("name", sorted(WRAPPED))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_not_multilinear_is_told_to_first_order_or_has_a_reason_and_a_core_that_is_solved(name, optimizer):
    for asked in HEADLINES.values():
        silent = reason(name, optimizer=optimizer, **asked)
        if silent is None:
            told = rv.derive(name, "alpha/r", optimizer=optimizer, **asked)
            assert not told.exact and told.error_order and told.formula is None
        else:
            # Where the core itself has bounds that say nothing, it is no help and is not named.
            assert len(silent.reason) > 30 and (silent.core == rv.adapters()[name].core or "power of the width" in silent.reason)
        assert rv.solve(rv.adapters()[name].core, optimizer=optimizer, **asked).terms


@cache
def case(name, optimizer, headline):
    asked = setting(SPEAKING[name], "1", optimizer=optimizer, **HEADLINES[headline])
    return asked, magnitude(asked.adapter, asked.optimizer, asked.claim)


def number(expression, values):
    return sp.N(expression.xreplace({symbol: sp.N(values[str(symbol)], 60) for symbol in expression.free_symbols}), 30)


def simulated(asked, rank):
    problem = make_problem(3, d_in=D_IN, d_out=D_OUT, cosine=1.0)
    sizes = {"rank": rank, "gamma": 1.0, "d_in": D_IN, "d_out": D_OUT}
    drawn, factors = next(draw_block(asked.adapter, seed=7, phase="table", number=0, draws=DRAWS, chunk=DRAWS, **sizes))
    values = observe(asked, Engine(asked.adapter, rank, 1.0, D_IN, D_OUT), problem, factors, lr=LR, draws=drawn).values
    data = data_quantities(problem.x, problem.x_probe, problem.v, adapter=asked.adapter, r=rank)
    given = {**data, "r": rank, "d_in": D_IN, "d_out": D_OUT, "gamma": 1.0, "lr": LR}
    return values.mean(), normal_quantile(LEVEL) * values.std(ddof=1) / math.sqrt(drawn), given


def outside(found, adapter, mean, error, given):
    """By how much of the mean the simulated square lies outside what theory says; 0 where it is inside."""
    below = above = float(number(found.value, given))
    if found.upper is not None:
        random = sum(not isinstance(law.law if isinstance(law, Frozen) else law, Zero) for law in adapter.laws.values())
        # From below E|g| >= E g**2 / sqrt(3)**random; above, the squares of a sum over sets of moving factors.
        below /= KURTOSIS**random
        above = float(number(found.upper, given)) * (2 ** len(adapter.trainable) - 1)
    elif not found.exact:
        below, above = below * (1 - 2 / D_IN), above * (1 + 2 / D_IN)  # an error of O(1/d_in)
    rounding = 1e-12 * abs(mean)
    return max(below - mean - error - rounding, mean - above - error - rounding, 0.0) / mean


@pytest.mark.parametrize(("name", "optimizer", "headline"), CASES)
def test_simulation_says_the_same(name, optimizer, headline):
    asked, found = case(name, optimizer, headline)
    assert found.squared
    for rank in RANKS:
        assert outside(found, asked.adapter, *simulated(asked, rank)) == 0


@pytest.mark.parametrize("wrong", [4, sp.Rational(1, 4), s.r, 1 / s.r, 1 / s.lr], ids=str)
def test_simulation_sees_a_wrong_formula(wrong):
    from dataclasses import replace

    for name, headline in (("hira", "update"), ("lokr", "gradient"), ("vera", "decrease")):
        asked, found = case(name, "sgd", headline)
        assert outside(replace(found, value=found.value * wrong), asked.adapter, *simulated(asked, 8)) > 0.1


@pytest.mark.parametrize(("name", "optimizer", "headline"), CASES)
@pytest.mark.parametrize("regime", ["rank", "width"])
def test_the_power_is_the_slope_far_out(name, optimizer, headline, regime):
    asked, found = case(name, optimizer, headline)
    if regime == "width" and (name, optimizer, headline) in WIDTH_SILENT:
        pytest.skip("bounds differ by a power of the width")
    claim = setting(SPEAKING[name], "1", optimizer=optimizer, regime=regime, **HEADLINES[headline]).claim
    low, high = exponent_range(found, claim, Fraction(0))
    for value, power in ((found.value, low), (found.upper, high)):
        names = [] if value is None else [str(symbol) for symbol in value.free_symbols]
        if value is None or changing(names, asked.adapter):
            continue
        # Fixed widths and an endless rank, or widths that dwarf a rank that is large by itself.
        far, d_in, d_out = (2**200, D_IN, D_OUT) if regime == "rank" else (2**100, 4**400, 4**400)
        given = {"d_in": d_in, "d_out": d_out, "x_norm2": d_in, "v_norm2": 1, "gamma": 1, "lr": LR, "cosine": 1}
        wide = {s.d_in: sp.Integer(d_in), s.d_out: sp.Integer(d_out)}
        given |= {f"n_{axis}": size.subs(wide) for axis, size in growth(asked.adapter).items()}
        flat = {key: number(expression, given) for key, expression in flat_values(names).items()}
        value = averaged(value, random_names(names), asked.adapter)
        near, twice = (number(value, {**given, **flat, "r": r}) for r in (far, 2 * far))
        assert float(sp.log(twice / near, 2)) / 2 == pytest.approx(float(power), abs=1e-4)
