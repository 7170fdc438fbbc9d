"""From an optimizer to its magnitude: exact where Gaussian integrals close, bounds of one power of r where coherence decides it."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import PrincipalComponents
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import BudgetError, NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.steps import coherence, epsilon, later, muon, normstep, polynomial, several, signstep
from rsverify.symbolic.steps.magnitude import Magnitude
from rsverify.symbolic.steps.scalarsteps import SIGN_LIKE
from rsverify.symbolic.steps.twofactor import two_factors


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    """The claim's magnitude in symbols, gamma left open.

    Raises: NotDerivable with the reason.
    """
    if optimizer.option("clip"):
        raise NotDerivable("clipping ties the step to the norm over all layers")
    if claim.steps == 0 or optimizer.name in ("sgd", "momentum"):
        return _polynomial(adapter, optimizer, claim)
    if "eps" in optimizer.defaults and optimizer.theory_option("eps"):
        if claim.steps > 1:
            raise NotDerivable(f"{optimizer.text}: after several steps an epsilon beside the gradient leaves neither SGD nor signs")
        small = _polynomial(*epsilon.linear_step(optimizer, adapter, claim))
        without = Optimizer(optimizer.name, optimizer.formula, optimizer.defaults, optimizer.coordinatewise, optimizer.note,
                            {key: value for key, value in optimizer.given.items() if key != "eps"})  # fmt: skip
        return epsilon.joined(small, _nonlinear(adapter, without, claim), adapter, optimizer)
    return _nonlinear(adapter, optimizer, claim)


def _nonlinear(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    """One step or several at epsilon zero: in formulas where they close, else by bounds to leading order in the learning rate."""
    try:
        return _closed(adapter, optimizer, claim)
    except NotDerivable as error:
        kind = claim.quantity.partition(":")[0]
        if claim.steps > 1 or (kind in ("gradient", "gradient_norm") and isinstance(error, coherence.SeveralMove)):
            bounds = later.magnitude(adapter, optimizer, claim, lambda first: _closed(adapter, optimizer, first))
            return muon.remarked(replace(bounds, notes=(*_bounded(adapter), *bounds.notes)), optimizer, rank_one=False)
        raise


def _closed(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    factors = two_factors(adapter)
    if factors is None:
        bounds = coherence.magnitude(adapter, optimizer, claim)
        return muon.remarked(replace(bounds, notes=(*_bounded(adapter), *bounds.notes)), optimizer, rank_one=False)
    if optimizer.name in SIGN_LIKE:
        return signstep.magnitude(adapter, factors, optimizer, claim)
    if optimizer.name in normstep.UNIT_LENGTH:
        return muon.remarked(normstep.magnitude(adapter, factors, optimizer, claim), optimizer, rank_one=True)
    raise NotDerivable(f"{claim.steps} steps of {optimizer.name} are not written in symbols; the numeric witnesses can speak")


def _polynomial(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    if claim.steps > 1 and several.up_and_down(adapter):
        value, squared = several.magnitude(adapter, optimizer, claim)
        return Magnitude(value, squared, adapter=adapter)  # its powers of 1 +- t are the short form: it is not multiplied out
    try:
        value, squared = polynomial.magnitude(adapter, optimizer, claim)
    except BudgetError as error:
        if claim.steps < 2:
            raise
        return later.linear(optimizer, claim, lambda first: _polynomial(adapter, optimizer, first), error)
    return Magnitude(_short(value), squared, adapter=adapter, notes=_bounded(adapter))


def _short(value: sp.Expr) -> sp.Expr:
    """A formula in a form that is short: what frames divide by is factored, polynomials are multiplied out but for their common factor."""
    choices = {choice: sp.Dummy(positive=True) for choice in value.atoms(sp.Max, sp.Min)}
    if not choices:
        return sp.factor_terms(sp.expand(value))
    short = cast(sp.Expr, sp.factor(value.xreplace(choices)))
    return cast(sp.Expr, short.xreplace({dummy: choice for choice, dummy in choices.items()}))


def _bounded(adapter: Adapter) -> tuple[str, ...]:
    """A note where the rank cannot grow without end."""
    bare = (getattr(law, "law", law) for law in adapter.laws.values())
    return (COMPONENTS,) if any(isinstance(law, PrincipalComponents) for law in bare) else ()


COMPONENTS = (
    "principal components: r is at most min(d_in, d_out), which the power of r at fixed widths passes over;"
    " for ranks far below the widths ask for regime='width'"
)
