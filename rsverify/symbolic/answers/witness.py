"""Witness 1: the magnitude of a quantity as a formula at finite rank, and its power of the rank."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.registry import as_declared
from rsverify.definitions.rules import ScalingRule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import BudgetError, InputError, NotDerivable, known_arguments
from rsverify.expressions import Expression
from rsverify.records import Claim, Prediction
from rsverify.symbolic.answers.leading import log_exponent
from rsverify.symbolic.answers.reading import exponent_range, settled, terms_of
from rsverify.symbolic.answers.refusal import with_command
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.flatdata import averaged, changing, flat_values, random_names
from rsverify.symbolic.moments.network import DATA
from rsverify.symbolic.moments.sizes import growth_note
from rsverify.symbolic.steps import optimizers, wrapped
from rsverify.symbolic.steps.magnitude import Magnitude, exact_number


@known_arguments
def derive(
    adapter: Adapter | str,
    rule: ScalingRule | str | Callable[[int, float], float],
    *,
    optimizer: Optimizer | str = "sgd",
    quantity: str = "update",
    statistic: str = "rms",
    probe: str = "aligned",
    steps: int = 1,
    regime: str = "rank",
) -> Prediction:
    """What must happen, derived from the declaration alone.

    Raises: NotDerivable with the reason; RuleError where the rule has no power law; UnknownName, InputError.
    Source: the forward and backward clauses for LoRA are the theorem of Kalajdzievski 2023, arXiv 2312.03732.
    """
    declared = as_declared(adapter)
    outer = declared if isinstance(declared, WrappedAdapter) else None
    asked = setting(
        declared.core if isinstance(declared, WrappedAdapter) else declared, rule,
        optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime,
    )  # fmt: skip
    if outer is not None:
        return _derived(asked, outer)
    with with_command(asked):
        return _derived(asked)


def _derived(asked: Setting, outer: WrappedAdapter | None = None) -> Prediction:
    """The prediction for a setting; with `outer`, for the adapter that wraps the setting's."""
    claim, p = asked.claim, asked.rule.power
    if outer is None:
        found = magnitude(asked.adapter, asked.optimizer, claim)
    else:
        found = wrapped.magnitude(outer, asked.optimizer, claim, partial(magnitude, asked.adapter, asked.optimizer))
        claim = replace(claim, adapter=outer.name, init=outer.init)
    below_widths = outer is not None and outer.name in wrapped.BELOW_THE_WIDTHS
    read_at = replace(claim, regime="width") if below_widths else claim
    found = settled(found, read_at, p)
    terms = terms_of(found, read_at)
    bounds = exponent_range(found, read_at, p)
    if bounds is None:
        return Prediction(claim, None, zero=True, rule=asked.rule.expression, notes=found.notes)
    shown = sp.sqrt(found.value) if found.squared else found.value
    known = bounds[0] == bounds[1]
    growing = _growing(shown, asked.adapter)
    whole = found.upper is None and found.large is None and not growing
    formula = _formula(shown, claim) if whole else None
    return Prediction(
        claim,
        bounds[0] if known else None,
        log_exponent(terms, p) / found.root,
        formula=formula,
        exact=found.exact,
        error_order=found.error_order,
        exponent_range=None if known else bounds,
        terms=_first_order(terms, found.root),
        rule=asked.rule.expression,
        notes=(*found.notes, *growing, *_assumed(claim, asked.adapter), *((LONG,) if whole and formula is None else ())),
        **(_flat_data(found, shown, claim, asked.adapter) if formula is not None else {}),
    )


LONG = "the formula at finite rank is too long to be written; its power of r is exact"


def _formula(shown: sp.Expr, claim: Claim) -> Expression | None:
    """A formula in the package's language; None where it is longer or deeper than that reads."""
    try:
        return Expression(_text(shown, claim))
    except InputError:
        return None


def _assumed(claim: Claim, adapter: Adapter) -> tuple[str, ...]:
    note = growth_note(adapter) if claim.regime == "width" else None
    return () if note is None else (note,)


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    """The claim's magnitude in symbols, for every rule at once: gamma is left open.

    Raises: NotDerivable with the reason.
    """
    if clash := set(DATA) & set(adapter.laws):
        raise NotDerivable(f"factor {min(clash)!r} has the name of a data vector (sample x, signal v); give the factor another name")
    if claim.statistic == "log":
        raise NotDerivable("the mean of a logarithm is no polynomial of the draws")
    return _magnitude(adapter, optimizer, replace(claim, rule="", regime="rank"))


@lru_cache(maxsize=512)
def _magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    return optimizers.magnitude(adapter, optimizer, claim)


def _first_order(terms: Iterable[tuple[Fraction, Fraction, Fraction]], root: int) -> tuple[tuple[Fraction, Fraction, Fraction], ...]:
    """(a, b, c) of gamma**a * r**b * lr**c, of each (a, b) the lowest power of lr: weight decay adds higher ones."""
    lowest: dict[tuple[Fraction, Fraction], Fraction] = {}
    for a, b, c in terms:
        lowest[a, b] = min(c, lowest.get((a, b), c))
    return tuple(sorted((a / root, b / root, c / root) for (a, b), c in lowest.items()))


def _text(shown: sp.Expr, claim: Claim) -> str:
    """The formula as text, with the cosine of an aligned or orthogonal probe put in."""
    if claim.cosine in (0.0, 1.0, -1.0):
        shown = shown.subs(s.cosine, int(claim.cosine))
    return _written(sp.factor_terms(shown))


def _written(shown: sp.Expr) -> str:
    """An expression in the package's language, whose function names are small."""
    text = str(shown)
    for name in ("Abs", "Max", "Min"):
        text = text.replace(f"{name}(", f"{name.lower()}(")
    return re.sub(r"harmonic\((\w+)\)", r"harmonic(\1, 1)", text)  # sympy leaves the power 1 out


def _flat_data(found: Magnitude, shown: sp.Expr, claim: Claim, adapter: Adapter) -> dict[str, Any]:
    """Flat values of the invariants that a formula names, and, where some depend on signs, the formula averaged over them.

    None where a mean over signs vanishes or cannot be written: the invariants must then be given.
    """
    names = {str(symbol) for symbol in shown.free_symbols}
    flat = {name: Expression(_written(value)) for name, value in sorted(flat_values(names).items())}
    if not (random := random_names(names)):
        return {"flat": flat}
    try:
        mean: Any = averaged(found.value, random, adapter)
    except (NotDerivable, BudgetError):
        return {"flat": flat, "signs": random}
    mean = mean.subs(s.cosine, exact_number(claim.cosine)) if claim.cosine in (0.0, 1.0, -1.0) else mean
    if mean == 0:
        return {"flat": flat, "signs": random}
    formula = _formula(sp.sqrt(mean) if found.squared else mean, claim)
    return {"flat": flat, "signs": random, "flat_formula": formula}


def _growing(shown: sp.Expr, adapter: Adapter) -> tuple[str, ...]:
    """A note where the data is reshaped over an axis that changes with the rank: no finite list of numbers makes a curve of ranks then."""
    names = changing((str(symbol) for symbol in shown.free_symbols), adapter)
    if not names:
        return ()
    return (
        f"the magnitude is {_written(sp.factor_terms(shown))}, where {', '.join(names)} differs at every rank; the exponent is that of flat"
        " data with signs at random",
    )
