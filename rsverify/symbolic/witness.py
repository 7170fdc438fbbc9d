"""Witness 1: the magnitude of a quantity as a formula at finite rank, and its power of the rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.rules import ScalingRule
from rsverify.errors import NotDerivable
from rsverify.expressions import Expression
from rsverify.records import Claim, Prediction
from rsverify.symbolic import polynomial, signstep
from rsverify.symbolic import symbols as s
from rsverify.symbolic.flatdata import flat_values
from rsverify.symbolic.leading import leading_exponent, log_exponent, rank_terms
from rsverify.symbolic.magnitude import Magnitude, exact_number
from rsverify.symbolic.network import DATA


def derive(
    adapter: Adapter | str,
    rule: ScalingRule | str | Callable[[float, float], float],
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
    asked = setting(adapter, rule, optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime)
    claim, p = asked.claim, asked.rule.power
    found = magnitude(asked.adapter, asked.optimizer, claim)
    terms = rank_terms(found.value, cosine=claim.cosine, regime=claim.regime, adapter=asked.adapter)
    power = leading_exponent(terms, p)
    if power is None:
        return Prediction(claim, None, zero=True, rule=asked.rule.expression)
    bounds = None
    if found.upper is not None:
        above = leading_exponent(rank_terms(found.upper, cosine=claim.cosine, regime=claim.regime, adapter=asked.adapter), p)
        assert above is not None and above >= power, "a lower bound above the upper one: this is our bug"
        bounds = None if above == power else (power / found.root, above / found.root)
    shown = sp.sqrt(found.value) if found.squared else found.value
    return Prediction(
        claim,
        None if bounds else power / found.root,
        log_exponent(terms, p) / found.root,
        formula=Expression(_text(shown, claim)) if found.upper is None else None,
        exact=found.exact,
        error_order=found.error_order,
        exponent_range=bounds,
        terms=_first_order(terms, found.root),
        rule=asked.rule.expression,
        notes=found.notes,
        flat=_flat(shown, claim, asked.adapter),
    )


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
    if optimizer.option("clip"):
        raise NotDerivable("clipping ties the step to the norm over all layers")
    if claim.steps == 0:
        return _polynomial(adapter, optimizer, claim)
    if optimizer.theory_option("eps") if "eps" in optimizer.defaults else 0.0:
        raise NotDerivable(f"{optimizer.text}: an epsilon beside the gradient makes the step neither linear nor a sign")
    if optimizer.name == "sgd" or (optimizer.name == "momentum" and claim.steps == 1):
        return _polynomial(adapter, optimizer, claim)
    if signstep.first_step_factor(optimizer) is not None:
        return signstep.magnitude(adapter, optimizer, claim)
    raise NotDerivable(f"the update of {optimizer.name} is not written in symbols yet; the numeric witnesses can speak")


def _polynomial(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    value, squared = polynomial.magnitude(adapter, optimizer, claim)
    return Magnitude(sp.factor_terms(sp.expand(value)), squared, adapter=adapter)


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
    return text


def _flat(shown: sp.Expr, claim: Claim, adapter: Adapter) -> dict[str, Expression]:
    """Flat values of the invariants that a formula names; none where they would make it vanish, as it does only in the mean over signs."""
    names = {str(symbol): symbol for symbol in shown.free_symbols}
    found = flat_values(names, adapter)
    put_in = shown.subs({names[name]: value for name, value in found.items()}).subs(s.cosine, exact_number(claim.cosine))
    return {} if put_in == 0 else {name: Expression(_written(value)) for name, value in sorted(found.items())}
