"""Exact formulas against every outcome: factors of independent signs are enumerated, and the mean must be the formula's value."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import data_quantities, setting
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.problem import Problem
from rsverify.symbolic.answers.witness import magnitude
from rsverify.symbolic.moments import symbols as s
from tests.symbolic.variants import multilinear, with_signs

CLAIMS = {
    "update": {},
    "projection": {"statistic": "projection"},
    "input gradient": {"quantity": "input_gradient"},
    "loss": {"quantity": "loss_decrease"},
    "gradient": {"quantity": "gradient_norm"},
}


def enumerated(adapter, claim, *, rank, x, probe, v, gamma=2, lr=1):
    """The mean over all outcomes of the claim's number (squared, but for projections), as a fraction.

    Whole numbers throughout: float64 holds every one of them and their sum exactly.
    """
    asked = setting(adapter, "alpha", statistic="frobenius", **claim) if "statistic" not in claim else setting(adapter, "alpha", **claim)
    shapes = adapter.shapes(rank, len(x), len(v))
    laws = {name: getattr(law, "law", law) for name, law in adapter.laws.items()}
    random = [name for name in shapes if laws[name].text() == "signs"]
    bits = sum(int(np.prod(shapes[name])) for name in random)
    assert bits <= 14, "too many outcomes"
    table = np.array(list(itertools.product((-1.0, 1.0), repeat=bits)))
    factors, used = {}, 0
    for name, shape in shapes.items():
        if name in random:
            size = int(np.prod(shape))
            factors[name] = table[:, used : used + size].reshape(-1, *shape)
            used += size
        else:
            level = laws[name].scale({})
            factors[name] = np.full((len(table), *shape), level) if level else None
    engine = Engine(adapter, rank, float(gamma), len(x), len(v))
    problem = Problem(*(np.array(value, dtype=float) for value in (x, probe, v)))
    values = observe(asked, engine, problem, factors, lr=float(lr), draws=len(table)).values
    return asked, values


def predicted(asked, *, rank, x, probe, v, gamma=2, lr=1):
    """The symbolic formula at whole numbers, exactly."""
    derived = magnitude(asked.adapter, asked.optimizer, asked.claim)
    assert derived.exact
    found = derived.value
    x, probe, v = (np.array(value, dtype=float) for value in (x, probe, v))
    values = {s.r: rank, s.d_in: len(x), s.d_out: len(v), s.gamma: gamma, s.lr: lr}
    names = {symbol.name for symbol in found.free_symbols} - {symbol.name for symbol in values}
    data = data_quantities(x, probe, v, adapter=asked.adapter, r=rank, names=[n for n in names if n[0] in "SVG"])
    data["cosine"] = Fraction(int(x @ probe), int(x @ x))
    for symbol in found.free_symbols - values.keys():
        values[symbol] = sp.Rational(str(Fraction(data[symbol.name])))
    return found.subs(values)


def agree(asked, values, value):
    if asked.claim.statistic == "projection":
        return float(value) == pytest.approx(float(values.mean()), rel=1e-12, abs=1e-12)
    total = Fraction(sum(int(number) for number in values), len(values))
    return value == sp.Rational(str(total))


SIZES = {"lora-xs": (2, 2, 2), "loha": (2, 2, 1), "loha-lycoris": (2, 2, 2), "lokr": (4, 4, 2), "lokr-lycoris": (4, 4, 2),
         "hira": (3, 2, 2), "vera": (3, 2, 2), "randlora": (2, 3, 2), "miss": (4, 2, 2), "both": (3, 2, 2),
         "columns grouped": (4, 2, 2)}  # fmt: skip
"""d_in, d_out, rank: small enough to enumerate, no two alike where that can be."""


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("name", multilinear())
def test_every_variant_equals_its_enumeration(name, claim):
    adapter = with_signs(multilinear()[name])
    if name == "moe-lora":
        adapter = Adapter(name, adapter.expression, sizes={"e": "2"}, **adapter.laws)
    d_in, d_out, rank = SIZES.get(name, (3, 2, 2))
    x, probe = {2: ([1, 2], [2, -1]), 3: ([1, -2, 3], [3, 1, 2]), 4: ([1, -2, 3, 1], [-3, 1, 1, 2])}[d_in]
    v = [2, -1, 1, 3][:d_out]
    asked, values = enumerated(adapter, CLAIMS[claim], rank=rank, x=x, probe=probe, v=v)
    assert agree(asked, values, predicted(asked, rank=rank, x=x, probe=probe, v=v))
