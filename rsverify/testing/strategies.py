"""Hypothesis strategies for what the theory speaks of: ranks, dimensions, rules, laws, expressions, adapters.

    @given(strategies.adapters(), strategies.rules(), strategies.ranks())
    def test_mine(adapter, rule, rank): ...

Each shrinks to what one would write by hand: rank 1, the rule alpha/r, the expression "o r, r i -> o i". Adapters are
sound unless asked otherwise: nothing is added at init, and the first step moves something.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal
from weakref import WeakKeyDictionary

from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from rsverify.definitions import registry
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Frozen, Gaussian, KaimingUniform, Law, Orthonormal, Uniform, Zero, frozen
from rsverify.definitions.registry import Declared
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.definitions.rules import rules as named_rules
from rsverify.errors import AdapterError, InputError
from rsverify.testing.brokenrules import FAULTS, BrokenRule

RuleKind = Literal["text", "power", "callable"]

_GROUPED = ("a", "b", "p", "q")


def ranks(min_rank: int = 1, max_rank: int = 64) -> SearchStrategy[int]:
    """A rank, none that `alphas` drew for this example; shrinks to the smallest."""
    drawn = st.integers(_whole("min_rank", min_rank), _whole("max_rank", max_rank))
    return drawn.filter(lambda r: r not in _drawn("alphas")).map(lambda r: _draw_noted("ranks", r))


def rank_lists(min_size: int = 2, max_size: int = 6, *, max_rank: int = 1024) -> SearchStrategy[tuple[int, ...]]:
    """Rising ranks, as a curve or an exponent needs them; shrinks to (1, 2)."""
    return st.lists(ranks(1, max_rank), min_size=min_size, max_size=max_size, unique=True).map(lambda drawn: tuple(sorted(drawn)))


def dimensions(min_size: int = 1, max_size: int = 32) -> SearchStrategy[tuple[int, int]]:
    """Widths (d_in, d_out) of an adapted layer, square ones and both kinds of rectangle; shrinks to the smallest square."""
    width = st.integers(_whole("min_size", min_size), _whole("max_size", max_size))
    return st.one_of(width.map(lambda d: (d, d)), st.tuples(width, width))


def alphas(*, avoiding: Collection[int] = ()) -> SearchStrategy[float]:
    """Values of alpha, whole numbers among them, that equal no rank: a rule never hides behind gamma = 1. Shrinks to 20.

    No rank means none of `avoiding`, and none that a strategy of ranks drew for the same example, before or after.
    """
    whole = st.one_of(st.sampled_from([20, 16, 32, 8, 64, 1, 2, 128, 256]), st.integers(1, 1024))
    unequal = whole.filter(lambda a: a not in avoiding and a not in _drawn("ranks")).map(lambda a: _draw_noted("alphas", a)).map(float)
    return st.one_of(unequal, st.sampled_from([0.5, 2.5, 7.5, 100.5]), st.floats(0.125, 512.0).filter(lambda a: a != round(a)))


_EXAMPLES: WeakKeyDictionary[Any, dict[str, set[int]]] = WeakKeyDictionary()
"""Ranks and whole alphas that were drawn for an example, so that neither equals the other."""


def _drawn(kind: str) -> set[int]:
    """What was drawn of a kind for the example that is being made."""
    try:
        example = current_build_context().data
    except InvalidArgument:  # not inside an example
        return set()
    return _EXAMPLES.setdefault(example, {"ranks": set(), "alphas": set()})[kind]


def _draw_noted(kind: str, value: int) -> int:
    _drawn(kind).add(value)
    return value


@st.composite
def points(draw: st.DrawFn, *, min_rank: int = 1, max_rank: int = 1024) -> tuple[int, float]:
    """A rank and an alpha that is not that rank nor the next one, at which rules are compared; shrinks to (1, 20.0)."""
    r = draw(ranks(min_rank, max_rank))
    return r, draw(alphas(avoiding=(r, r + 1)))


def broken_rules(right: str = "alpha/sqrt(r)", *, faults: Sequence[str] = tuple(FAULTS)) -> SearchStrategy[ScalingRule]:
    """Rules that should be `right` and have one of the faults of `brokenrules.FAULTS`: what a test of a rule must find.

    Each differs from the right rule at some rank up to 1024; shrinks to the first fault of size 1.
    """
    unknown = [fault for fault in faults if fault not in FAULTS]
    if unknown or not faults:
        raise InputError(f"faults={list(faults)!r}; expected some of {', '.join(FAULTS)}")
    return st.builds(BrokenRule, st.just(right), st.sampled_from(list(faults)), st.integers(1, 4)).map(ScalingRule)


@dataclass(frozen=True)
class PowerCallable:
    """alpha / r**power as a callable, as a user's own function would be; its text says what it computes."""

    power: Fraction

    @property
    def __name__(self) -> str:
        return _power_text(self.power)

    def __call__(self, r: int, alpha: float) -> float:
        return alpha / r ** float(self.power)


def _power_text(power: Fraction) -> str:
    if power in (0, 1):
        return "alpha/r" if power else "alpha"
    return f"alpha/r**{power}" if power.denominator == 1 else f"alpha/r**({power})"


def powers(max_power: Fraction | int = 2) -> SearchStrategy[Fraction]:
    """p of a rule alpha / r**p, from 0 in halves, thirds and quarters; shrinks to 1, the usual rule."""
    steps = {Fraction(k, n) for n in (1, 2, 3, 4) for k in range(int(max_power * n) + 1)}
    return st.sampled_from(sorted(steps, key=lambda p: (p != 1, p.denominator, p)))


def rules(kinds: Sequence[RuleKind] = ("text", "power", "callable")) -> SearchStrategy[ScalingRule]:
    """A scaling rule: a named text, a power of r in the grammar, or a callable; shrinks to alpha/r.

    Args: kinds are those that may come, the first being what examples shrink to. All are positive at every rank, and each
        is a power law, though only texts can tell their power.
    """
    made: dict[RuleKind, SearchStrategy[ScalingRule]] = {
        "text": st.sampled_from(list(named_rules().values())),
        "power": powers().map(lambda p: ScalingRule(_power_text(p))),
        "callable": powers().map(lambda p: ScalingRule(PowerCallable(p))),
    }
    unknown = [kind for kind in kinds if kind not in made]
    if unknown or not kinds:
        raise InputError(f"kinds={list(kinds)!r}; expected some of {', '.join(made)}")
    return st.one_of(*(made[kind] for kind in kinds))


def formulas(names: Sequence[str] = ("r", "alpha"), *, max_leaves: int = 6) -> SearchStrategy[str]:
    """A text of the project's formula language over the names, positive and finite wherever these are; shrinks to a name.

    Differences are left out, since they may vanish; sums, products, quotients, fixed powers, roots, minima and maxima come.
    """
    if not names:
        raise InputError("names=() leaves nothing to write a formula of; give at least one, e.g. ('r',)")
    leaves = st.one_of(st.sampled_from(list(names)), st.integers(1, 9).map(str))

    def grow(inner: SearchStrategy[str]) -> SearchStrategy[str]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda two: f"{_bracket(two[0])}*{_bracket(two[1])}"),
            pairs.map(lambda two: f"{_bracket(two[0])}/{_bracket(two[1])}"),
            pairs.map(lambda two: f"{two[0]} + {two[1]}"),
            st.tuples(inner, st.sampled_from(["2", "(1/2)", "(-1)"])).map(lambda two: f"{_bracket(two[0])}**{two[1]}"),
            inner.map(lambda one: f"sqrt({one})"),
            pairs.map(lambda two: f"min({two[0]}, {two[1]})"),
            pairs.map(lambda two: f"max({two[0]}, {two[1]})"),
        )

    return st.recursive(leaves, grow, max_leaves=max_leaves)


def laws(axes: Sequence[str] = ("i",), *, trainable: bool | None = None, zero: bool | None = None) -> SearchStrategy[Law]:
    """An init law of a factor with these axes; shrinks to zero, or to Kaiming uniform where zero=False.

    Args: trainable=False gives frozen laws only, True none of them; zero=True gives only laws that vanish, False none of
        them; None leaves it open.
    """
    fans = [axis for axis in axes if axis != "r"] or list(axes)
    spreads = st.sampled_from(["1", "0.5", "1/r", "1/sqrt(r)", *(f"1/sqrt({axis})" for axis in fans)])
    nonzero: list[SearchStrategy[Law]] = [
        st.sampled_from(fans).map(KaimingUniform),
        spreads.map(Gaussian),
        spreads.map(Uniform),
        spreads.map(Constant),
    ]
    if len(axes) == 2:
        nonzero.append(spreads.map(Orthonormal))
    vanishing: SearchStrategy[Law] = st.just(Zero())
    free = vanishing if zero else st.one_of(*nonzero) if zero is False else st.one_of(vanishing, *nonzero)
    if trainable is None:
        return st.tuples(free, st.booleans()).map(lambda drawn: frozen(drawn[0]) if drawn[1] else drawn[0])
    return free if trainable else free.map(frozen)


@st.composite
def expressions(draw: st.DrawFn, *, max_factors: int = 4, grouped: bool = True) -> str:
    """A named-axes expression with rows o, columns i and one rank axis r; shrinks to "o r, r i -> o i".

    Chains, scalings by vectors, Hadamard products, inner cores, factors that share any axes, and, where `grouped`,
    Kronecker results "(a p) (b q)".
    """
    if max_factors < 2:
        raise InputError(f"max_factors={max_factors}; an expression has at least two factors")
    kinds = [kind for kind in (_CHAIN, _CORE, _HADAMARD, _KRONECKER) if len(kind[0]) <= max_factors and (grouped or kind is not _KRONECKER)]
    operands, result = draw(st.sampled_from(kinds))
    axes = sorted({axis for operand in operands for axis in operand.split()}, key="oirsapbq".index)
    # Drawn for every kind, used where there is room: what draws less would count as smaller than a plain chain.
    operand = st.lists(st.integers(0, 4), min_size=1, max_size=3)
    places: list[list[int]] = draw(st.lists(operand, max_size=max_factors - 2))
    more = [" ".join(dict.fromkeys(axes[k % len(axes)] for k in chosen)) for chosen in places]
    return f"{', '.join([*operands, *more][:max_factors])} -> {result}"


Shape = tuple[tuple[str, ...], str]
"""Operands and result of the simplest expression of a kind."""

_CHAIN: Shape = (("o r", "r i"), "o i")
_CORE: Shape = (("o r", "r s", "s i"), "o i")
_HADAMARD: Shape = (("o r", "r i", "o s", "s i"), "o i")
_KRONECKER: Shape = (("a b", "p r", "r q"), "(a p) (b q)")


def _kronecker_sizes(d_in: int, d_out: int, r: int) -> dict[str, int]:
    a, b = _divisor(d_out), _divisor(d_in)
    return {"a": a, "p": d_out // a, "b": b, "q": d_in // b}


def _divisor(width: int) -> int:
    """The largest divisor up to the root: every width has one, so that any layer can carry the adapter."""
    return max(k for k in range(1, math.isqrt(width) + 1) if width % k == 0)


@st.composite
def adapters(draw: st.DrawFn, *, sound: bool = True, max_factors: int = 4, grouped: bool = True) -> Adapter:
    """A declared adapter that fits a layer of any widths; shrinks to LoRA: "o r, r i -> o i", B zero, A Kaiming uniform.

    Args: sound means that exactly one factor vanishes at init and is trained, so that nothing is added at first and a
        gradient reaches it; otherwise any laws come, adapters that never learn among them.
    """
    text = draw(expressions(max_factors=max_factors, grouped=grouped))
    operands = [tuple(part.split()) for part in text.split("->")[0].split(",")]
    names = _factor_names(len(operands))
    if sound:
        first = draw(st.sampled_from(range(len(operands))))
        drawn = [draw(laws(axes, trainable=True, zero=True) if k == first else laws(axes, zero=False)) for k, axes in enumerate(operands)]
    else:
        drawn = [draw(laws(axes)) for axes in operands]
        if all(isinstance(law, Frozen) for law in drawn):
            drawn[-1] = drawn[-1].law  # type: ignore[attr-defined]
    used = {axis for axes in operands for axis in axes}
    inner = ("r", "s") if "s" in used else ("r",)
    factors: dict[str, Any] = dict(zip(names, drawn, strict=True))
    return Adapter("drawn", text, rank_axes=inner, sizes=_kronecker_sizes if used & set(_GROUPED) else None, **factors)


def _factor_names(count: int) -> tuple[str, ...]:
    return ("B", "A", *(f"C{k}" for k in range(1, count - 1)))[:count]


@st.composite
def declared_adapters(draw: st.DrawFn, *, multilinear: bool = False) -> Declared:
    """An adapter of the registry, those of the running program and of other packages among them; shrinks to lora.

    Args: multilinear leaves out those that only a torch module can express, such as dora.
    """
    known = registry.adapters()
    names = [name for name, adapter in known.items() if isinstance(adapter, Adapter) or not multilinear]
    return known[draw(st.sampled_from(sorted(names, key=lambda name: (name != "lora", name))))]


@dataclass(frozen=True)
class Layer:
    """A rank and the widths of a layer that an adapter fits."""

    rank: int
    d_in: int
    d_out: int


@st.composite
def layers(draw: st.DrawFn, adapter: Declared, *, max_rank: int = 8, max_width: int = 16) -> Layer:
    """A rank and widths that an adapter can have, divisibility and all; shrinks to rank 1 of the smallest layer that fits.

    Raises: InputError where no layer within the bounds fits.
    """
    r = draw(ranks(1, max_rank))
    pairs = [(d_in, d_out) for d_in in range(1, max_width + 1) for d_out in range(1, max_width + 1) if _fits(adapter, r, d_in, d_out)]
    if not pairs:
        raise InputError(f"adapter {adapter.name!r} fits no layer up to {max_width} x {max_width} at rank {r}; raise max_width=")
    d_in, d_out = draw(st.sampled_from(sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair[0] != pair[1]))))
    return Layer(r, d_in, d_out)


def _fits(adapter: Declared, r: int, d_in: int, d_out: int) -> bool:
    try:
        (adapter if isinstance(adapter, Adapter) else adapter.core).shapes(r, d_in, d_out)
    except AdapterError:
        return False
    return True


def _bracket(text: str) -> str:
    return text if text.replace(".", "").isalnum() else f"({text})"


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r}; expected a whole number from 1")
    return value


# So that `from_type` knows them, and what is loaded once is loaded with this module: an example's deadline is a fifth of a second.
st.register_type_strategy(Adapter, adapters())
st.register_type_strategy(ScalingRule, rules())
registry.adapters()
as_rule("alpha/sqrt(r)").gamma(3)
