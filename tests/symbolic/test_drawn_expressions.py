"""Raw moments of expressions that Hypothesis draws, factors, axes and all: exact against enumeration, and against sampling."""

import itertools
import string
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import rsverify as rv
from rsverify.definitions.claims import data_quantities
from rsverify.definitions.laws import Frozen, Zero
from rsverify.errors import AdapterError
from rsverify.statistics.streams import stream
from rsverify.symbolic.answers.raw import raw_moment
from rsverify.symbolic.moments import expectation
from rsverify.testing import strategies
from tests.symbolic.variants import Signs

MOST_BITS = 12  # 4096 equally likely outcomes, gone through one by one
MOST_OCCURRENCES = 6  # of factors in a product: two factors to the third power, or six to the first; the fourth is tested of LoRA by name
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def update(adapter, factors, sizes, x, x_probe, v):
    """What one SGD step at lr = gamma = 1 changes at the probe, for a batch of draws: plain einsum over whole tensors, nothing shared.

    Shapes: each factor (draws, ...); result (draws, d_out).
    """
    letter = dict(zip(adapter.axes, string.ascii_lowercase, strict=False))
    words = {name: "Z" + "".join(letter[axis] for axis in axes) for name, axes in adapter.operands.items()}
    rows, columns = ("".join(letter[axis] for axis in side) for side in adapter.result)
    shape_of = [tuple(sizes[axis] for axis in side) for side in adapter.result]

    def output(now, at):
        parts = ",".join(words[name] for name in now)
        y = np.einsum(f"{parts},{columns}->Z{rows}", *now.values(), at.reshape(shape_of[1]), optimize=False)
        return y.reshape(len(y), -1)

    moved = dict(factors)
    for name in adapter.trainable:
        others = {other: value for other, value in factors.items() if other != name}
        parts = ",".join(words[other] for other in others)
        pulled = np.einsum(f"{parts},{columns},{rows}->{words[name]}", *others.values(), x.reshape(shape_of[1]), v.reshape(shape_of[0]))
        moved[name] = factors[name] - pulled
    return output(moved, x_probe) - output(factors, x_probe)


@st.composite
def cases(draw, *, signs):
    """An adapter of drawn expression and laws, a rank, widths, data in small whole numbers, an order."""
    text = draw(strategies.expressions(max_factors=4))
    operands = [tuple(part.split()) for part in text.split("->")[0].split(",")]
    zero = draw(st.sampled_from([None, *range(len(operands))]))
    laws = {}
    for k, axes in enumerate(operands):
        law = (
            Zero()
            if k == zero
            else Signs()
            if signs
            else draw(strategies.laws(axes, trainable=True, zero=False).filter(lambda law: law.independent))
        )
        still = k != zero and draw(st.booleans())
        laws[f"F{k}"] = Frozen(law) if still else law
    inner = tuple(axis for axis in ("r", "s") if any(axis in axes for axes in operands))
    sizes = {"a": 1, "p": "d_out", "b": 1, "q": "d_in"} if "(" in text else None
    if sizes and draw(st.booleans()):
        sizes = {"a": "d_out", "p": 1, "b": 1, "q": "d_in"}
    sizes = {axis: str(size) for axis, size in sizes.items()} if sizes else None
    try:
        adapter = rv.Adapter("drawn", text, rank_axes=inner, sizes=sizes, **laws)
    except AdapterError:  # every factor frozen
        assume(False)
        raise
    r, d_in, d_out = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    whole = st.integers(-2, 2).filter(bool)
    x = np.array(draw(st.lists(whole, min_size=d_in, max_size=d_in)))
    v = np.array(draw(st.lists(whole, min_size=d_out, max_size=d_out)))
    orthogonal = d_in == 2 and draw(st.booleans())
    return adapter, r, x, (np.array([-x[1], x[0]]) if orthogonal else x), v, orthogonal


def derived(adapter, order, r, x, x_probe, v, orthogonal):
    """The raw moment with all its symbols put in, as an exact number."""
    found = raw_moment(adapter, order, probe="orthogonal" if orthogonal else "aligned")
    names = [symbol.name for symbol in found.free_symbols]
    given_data = data_quantities(
        x.astype(float), x_probe.astype(float), v.astype(float), adapter=adapter, r=r, names=[n for n in names if n[0] in "SVG"]
    )
    values = {**given_data, "r": r, "d_in": len(x), "d_out": len(v), "gamma": 1, "lr": 1}
    return found.subs({symbol: sp.nsimplify(values[symbol.name], rational=True) for symbol in found.free_symbols})


@settings(max_examples=30, suppress_health_check=SLOW)
@given(cases(signs=True), st.integers(1, 4))
def test_equals_enumeration_exactly(case, order):
    adapter, r, x, x_probe, v, orthogonal = case
    sizes = adapter.axis_sizes(r, len(x), len(v))
    shapes = adapter.shapes(r, len(x), len(v))
    random = [name for name, law in adapter.laws.items() if not isinstance(law, Zero)]
    bits = sum(int(np.prod(shapes[name])) for name in random)
    assume(bits <= MOST_BITS and order * len(random) <= MOST_OCCURRENCES)
    try:
        found = derived(adapter, order, r, x, x_probe, v, orthogonal)
    except (rv.BudgetError, rv.NotDerivable):
        assume(False)
        raise
    outcomes = np.array(list(itertools.product((-1, 1), repeat=bits)), dtype=np.int64).reshape(2**bits, bits)
    factors, place = {}, 0
    for name in adapter.laws:
        if name not in random:
            factors[name] = np.zeros((2**bits, *shapes[name]), dtype=np.int64)
            continue
        count = int(np.prod(shapes[name]))
        factors[name] = outcomes[:, place : place + count].reshape(2**bits, *shapes[name])
        place += count
    y = update(adapter, factors, sizes, x, x_probe, v)
    total = sum(int(value) ** order for value in y.ravel())
    assert found == sp.Rational(Fraction(total, y.size))


@pytest.mark.statistical
@settings(max_examples=25, suppress_health_check=SLOW)
@given(cases(signs=False), st.integers(1, 2), st.integers(0, 2**20))
def test_agrees_with_sampling(case, order, seed):
    """Within 6 exact standard deviations of the mean of 4000 draws: the variance is derived too, as the moment of twice the order.

    With a sampled variance heavy products would look narrower than they are. A normal mean passes 6 deviations at 2e-9; a skewed one more
    often, and Chebyshev bounds what nobody can rule out at 1/36.
    """
    adapter, r, x, x_probe, v, orthogonal = case
    draws = 4000
    try:
        mean, square = (float(derived(adapter, k, r, x, x_probe, v, orthogonal)) for k in (order, 2 * order))
    except (rv.BudgetError, rv.NotDerivable):
        assume(False)
        raise
    sizes = adapter.axis_sizes(r, len(x), len(v))
    rng = stream(seed, "tests", "drawn")
    factors = {
        name: law.draw(rng, (draws, *shape), {**sizes, "d_in": len(x), "d_out": len(v)})
        for (name, law), shape in zip(adapter.laws.items(), adapter.shapes(r, len(x), len(v)).values(), strict=True)
    }
    y = update(adapter, factors, sizes, x.astype(float), x_probe.astype(float), v.astype(float))
    seen = (y**order).mean(axis=1)
    # Entries of one draw hang together: at worst their mean varies as much as one of them.
    spread = max(square - mean**2, 0.0) ** 0.5
    rounding = 1e-12 * np.abs(y**order).max(initial=0.0)
    assert abs(seen.mean() - mean) <= 6 * spread / draws**0.5 + rounding


@pytest.mark.parametrize(
    "wrong", [lambda law, k: law.standard_cumulant(k) * (2 if k == 2 else 1), lambda law, k: law.standard_cumulant(k) * (k < 4)]
)
def test_a_corrupted_engine_is_caught(monkeypatch, wrong):
    """The second cumulant doubled, or all above the third lost: the enumeration no longer agrees."""
    adapter = rv.Adapter("plain", "o r, r i -> o i", B=Zero(), A=Signs())
    x, v = np.array([1, 2]), np.array([1, -1])
    true = derived(adapter, 4, 2, x, x, v, False)
    class_cumulant = Signs.standard_cumulant
    monkeypatch.setattr(Signs, "standard_cumulant", lambda self, k: wrong(_Plain(class_cumulant, self), k))
    for cached in expectation.__dict__.values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    try:
        assert derived(adapter, 4, 2, x, x, v, False) != true
    finally:
        monkeypatch.undo()
        for cached in expectation.__dict__.values():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()


class _Plain:
    """A law whose cumulant is looked up past the patch."""

    def __init__(self, function, law):
        self._function, self._law = function, law

    def standard_cumulant(self, k):
        return self._function(self._law, k)
