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
from rsverify.symbolic.leading import leading_exponent, rank_terms
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
    if clash := set(DATA) & set(asked.adapter.laws):
        raise NotDerivable(f"factor {min(clash)!r} has the name of a data vector (sample x, signal v); give the factor another name")
    if claim.statistic == "log":
        raise NotDerivable("the mean of a logarithm is no polynomial of the draws")
    value, squared, exact = _magnitude(asked.adapter, asked.optimizer, _without_rule(claim))
    terms = rank_terms(value, cosine=claim.cosine, regime=claim.regime)
    power = leading_exponent(terms, p)
    if power is None:
        return Prediction(claim, None, zero=True, rule=asked.rule.expression)
    root = 2 if squared else 1
    shown = sp.sqrt(value) if squared else value
    notes = () if exact else ("E|u| of a sign step is the Gaussian one: exact for Gaussian A, else to O(1/d_in)",)
    return Prediction(
        claim,
        power / root,
        formula=Expression(_text(shown, claim)),
        exact=exact,
        error_order="" if exact else "O(1/d_in)",
        terms=_first_order(terms, root),
        rule=asked.rule.expression,
        notes=notes,
    )


@lru_cache(maxsize=512)
def _magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> tuple[sp.Expr, bool, bool]:
    """E of the square (or the signed mean) in symbols, whether it is a square, and whether it is exact."""
    if optimizer.option("clip"):
        raise NotDerivable("clipping ties the step to the norm over all layers")
    if claim.steps == 0:
        value, squared = polynomial.magnitude(adapter, optimizer, claim)
        return _tidy(value), squared, True
    if optimizer.theory_option("eps") if "eps" in optimizer.defaults else 0.0:
        raise NotDerivable(f"{optimizer.text}: an epsilon beside the gradient makes the step neither linear nor a sign")
    if optimizer.name == "sgd" or (optimizer.name == "momentum" and claim.steps == 1):
        value, squared = polynomial.magnitude(adapter, optimizer, claim)
        return _tidy(value), squared, True
    if signstep.first_step_factor(optimizer) is not None:
        return signstep.magnitude(adapter, optimizer, claim)
    raise NotDerivable(f"the update of {optimizer.name} is not written in symbols yet; the numeric witnesses can speak")


def _first_order(terms: Iterable[tuple[Fraction, Fraction, Fraction]], root: int) -> tuple[tuple[Fraction, Fraction, Fraction], ...]:
    """(a, b, c) of gamma**a * r**b * lr**c, of each (a, b) the lowest power of lr: weight decay adds higher ones."""
    lowest: dict[tuple[Fraction, Fraction], Fraction] = {}
    for a, b, c in terms:
        lowest[a, b] = min(c, lowest.get((a, b), c))
    return tuple(sorted((a / root, b / root, c / root) for (a, b), c in lowest.items()))


def _tidy(value: sp.Expr) -> sp.Expr:
    return sp.factor_terms(sp.expand(value))


def _text(shown: sp.Expr, claim: Claim) -> str:
    """The formula as text, with the cosine of an aligned or orthogonal probe put in."""
    if claim.cosine in (0.0, 1.0, -1.0):
        shown = shown.subs(s.cosine, int(claim.cosine))
    return str(sp.factor_terms(shown)).replace("Abs(", "abs(")


def _without_rule(claim: Claim) -> Claim:
    """The claim with its rule left open: magnitudes are derived in gamma, once for all rules."""
    return replace(claim, rule="", regime="rank")
