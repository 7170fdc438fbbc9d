"""Later steps to leading order in the learning rate, for every multilinear adapter: they continue the first, and reach no farther.

Given a sample and a signal that stay, the gradients of later steps are the first one up to terms of order lr. So each factor that the
first step moves goes on along the same signs (the same direction), and

    below:  the quantity after k steps is that after one, times the sum of the k step sizes, to leading order in lr;
    above:  no entry (no factor, for steps of unit length) moves farther than the sum of its k step sizes, a factor whose first gradient
            is zero included: Cauchy and Schwarz over all products of moved factors, at every order of lr.

Sums of step sizes are constants free of r, and so is the ratio by which an adaptive step of changing gradients may pass its first size
(sqrt of k terms over their shares at most). Where both bounds have the same power of r that is the exponent; else it lies between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import BudgetError, NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps.coherence import CONSTANT, OneStep, is_zero, second_moment
from rsverify.symbolic.steps.magnitude import Magnitude, exact_number
from rsverify.symbolic.steps.polynomial import asked_gradients

CONTINUED = (
    "later steps continue the first, to leading order in lr, from below; from above, nothing moves farther than its steps add up to, at"
    " every order of lr"
)
First = Callable[[Claim], Magnitude]
"""The magnitude of a claim of one step."""


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim, first: First) -> Magnitude:
    """Bounds on a claim's magnitude after any number of nonlinear steps, up to constants free of r.

    Raises: NotDerivable with the reason.
    """
    step = OneStep(adapter, optimizer)
    _refuse(adapter, optimizer)
    if not step.moving:
        return Magnitude(sp.Integer(0), True)
    kind = claim.quantity.partition(":")[0]
    if kind in ("gradient", "gradient_norm"):
        return _gradients(step, adapter, claim)
    if claim.statistic == "projection" and claim.cosine == 0 and kind in ("output", "update"):
        raise NotDerivable("the mean motion at an orthogonal probe comes from factors that move after the first step: not written")
    one = first(replace(claim, steps=1))
    below = leading_in_lr(one.value if one.squared else one.value**2)
    if kind == "loss_decrease":  # along the first gradient: what no first gradient reaches does not count
        above = one.upper if one.upper is not None else one.value if one.squared else one.value**2
        return Magnitude(below, True, False, CONSTANT, sp.expand(above), (CONTINUED, *one.notes), adapter)
    rows, columns = adapter.result
    onto, entries = (columns, s.d_in) if kind == "input_gradient" else (rows, s.d_out)
    quantity = "input_gradient" if kind == "input_gradient" else "output"
    start = second_moment(adapter, quantity, claim.probe)
    above = step.reach(quantity, onto, claim.probe, adapter.trainable)
    if decay := optimizer.option("weight_decay"):
        above += (s.lr * exact_number(decay) * claim.steps * len(adapter.trainable)) ** 2 * start
    if kind != "update":
        above += start
    above = sp.expand(above / (entries if claim.statistic == "rms" else 1))
    return Magnitude(below, True, False, CONSTANT, above, (CONTINUED, *one.notes), adapter)


def _refuse(adapter: Adapter, optimizer: Optimizer) -> None:
    """Refuse what the bounds do not cover."""
    name = optimizer.name
    if optimizer.option("weight_decay") and name not in ("adamw", "lion", "adafactor", "muon", "muon-torch"):
        raise NotDerivable(f"coupled weight decay turns the zero gradient of a factor into its sign under {name}")
    for factor in adapter.trainable:
        if name in ("muon", "muon-torch") and len(adapter.operands[factor]) != 2:
            raise NotDerivable(f"factor {factor} has {len(adapter.operands[factor])} axes: only a matrix can be orthogonalised by {name}")


def _gradients(step: OneStep, adapter: Adapter, claim: Claim) -> Magnitude:
    """Gradients after the steps: those of the first, where they are not zero, and what motion adds."""
    if claim.statistic == "projection":
        raise NotDerivable("a projection is defined for output, update, input_gradient and loss_decrease only")
    asked = asked_gradients(adapter, claim)
    below: Any = sp.Integer(0)
    above: Any = sp.Integer(0)
    for name in asked:
        others = [factor for factor in adapter.trainable if factor != name]
        below += step.squares[name]
        if step.squares[name] == 0 and not is_zero(adapter.laws[name]):
            # <G_F, F> is the full contraction, -<D, G> to leading order in lr: so |G_F| is at least that over |F|.
            below += step.alignment(upper=False) / step.norm2(name)
        above += step.squares[name] + step.reach(f"gradient:{name}", adapter.operands[name], moving=others)
    entries = step.count(asked) if claim.statistic == "rms" and claim.factor else 1
    below = leading_in_lr(below / entries)
    return Magnitude(below, True, False, CONSTANT, sp.expand(above / entries), (CONTINUED,), adapter)


def linear(optimizer: Optimizer, claim: Claim, first: First, priced: BudgetError) -> Magnitude:
    """SGD's later steps where the exact polynomial is too long to be written: the first step, as often as the steps add up to.

    Raises: the BudgetError itself where the first step leaves the quantity at zero.
    """
    one = first(replace(claim, steps=1))
    kind = claim.quantity.partition(":")[0]
    value = leading_in_lr(one.value, empty=priced)
    kept = exact_number(optimizer.option("momentum")) if optimizer.name == "momentum" else sp.Integer(0)
    # The buffer at step t holds 1 + kept + ... + kept**(t-1) gradients.
    steps = sp.Add(*(kept**j for t in range(claim.steps) for j in range(t + 1)))
    if kind in ("output", "input_gradient", "gradient", "gradient_norm") and not value.has(s.lr):
        steps = sp.Integer(1)  # what was there at init leads
    note = f"to leading order in the learning rate: {priced}"
    return Magnitude(
        value * (steps**2 if one.squared else steps), one.squared, False, "O(lr)", notes=(note, *one.notes), adapter=one.adapter
    )


def leading_in_lr(value: Any, *, empty: Exception | None = None) -> Any:
    """The terms of the lowest power of the learning rate.

    Raises: `empty`, or NotDerivable, where there are none: the first step leaves the quantity at zero.
    """
    by_power: dict[Fraction, Any] = {}
    for term in sp.Add.make_args(sp.expand(value)):
        _, power = term.as_coeff_exponent(s.lr)
        by_power[Fraction(str(power))] = by_power.get(Fraction(str(power)), sp.Integer(0)) + term
    lowest = {power: total for power, total in by_power.items() if sp.expand(total) != 0}
    if not lowest:
        raise empty or NotDerivable("the first step leaves this at zero, and what later steps bring has no leading order in lr here")
    return lowest[min(lowest)]
