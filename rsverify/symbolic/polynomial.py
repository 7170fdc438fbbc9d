"""Squared magnitudes after steps that are polynomial in the gradient (SGD): substitute the step, then take expectations."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import NotDerivable
from rsverify.records import Claim
from rsverify.symbolic import symbols as s
from rsverify.symbolic.moments import expectation
from rsverify.symbolic.network import Tensor, at_init, contraction, data, inner, scaled
from rsverify.symbolic.sizes import factor_size

Factors = Mapping[str, Tensor]


def init_factors(adapter: Adapter) -> dict[str, Tensor]:
    """The factors before any step."""
    return {name: at_init(adapter, name) for name in adapter.operands}


def gradient(adapter: Adapter, factors: Factors, name: str) -> Tensor:
    """The loss gradient with respect to one factor, on the sample x with signal v: its axes free."""
    return contraction(adapter, factors, without=name, row="v", column="x")


def sgd_displacement(adapter: Adapter, factors: Factors, optimizer: Optimizer, name: str) -> Tensor:
    """What one step adds to a factor."""
    rate = s.lr * learning_rate_ratio(optimizer, name)
    moved = scaled(gradient(adapter, factors, name), -rate)
    decay = sp.nsimplify(optimizer.option("weight_decay"), rational=True)
    return moved + scaled(factors[name], -rate * decay) if decay else moved


def learning_rate_ratio(optimizer: Optimizer, name: str) -> sp.Expr:
    """The learning rate of a factor over the base rate: LoRA+'s ratio belongs to B."""
    return sp.nsimplify(optimizer.option("lr_ratio"), rational=True) if name == "B" else sp.Integer(1)


def stepped(adapter: Adapter, optimizer: Optimizer, steps: int) -> dict[str, Tensor]:
    """The factors after so many SGD steps on one repeated sample.

    Raises: NotDerivable beyond one step.
    """
    if steps > 1:
        raise NotDerivable(f"{steps} steps need the closed form in A_0 (B_k = Q_k A_0', A_k = A_0 M_k), which is not written yet")
    factors = init_factors(adapter)
    if steps == 0:
        return factors
    return {name: factors[name] + (sgd_displacement(adapter, factors, optimizer, name) if name in adapter.trainable else ())
            for name in factors}  # fmt: skip


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> tuple[sp.Expr, bool]:
    """The claim's magnitude: (E of the square, True), or for a projection (the signed mean, False)."""
    factors = init_factors(adapter)
    after = stepped(adapter, optimizer, claim.steps)
    kind = claim.quantity.partition(":")[0]
    if kind in ("output", "update"):
        change = contraction(adapter, after, column="x'")
        # Where the weight added at init is not zero, what it did to the output is taken off: of the update by its name.
        if kind == "update":
            change = change + scaled(contraction(adapter, factors, column="x'"), sp.Integer(-1))
        if claim.statistic == "projection":
            return -expectation(inner(change, data("v", adapter.result[0])), adapter) / sp.sqrt(s.v_norm2), False
        return expectation(inner(change, change), adapter) / entries(adapter, claim, d=s.d_out), True
    if kind == "input_gradient":
        passed = contraction(adapter, after, row="v")
        if claim.statistic == "projection":
            return expectation(inner(passed, data("x", adapter.result[1])), adapter) / sp.sqrt(s.x_norm2), False
        return expectation(inner(passed, passed), adapter) / entries(adapter, claim, d=s.d_in), True
    if kind == "loss_decrease":
        terms: Tensor = ()
        for name in adapter.trainable:
            step = sgd_displacement(adapter, factors, optimizer, name)
            terms += scaled(inner(gradient(adapter, factors, name), step), sp.Integer(-1))
        if claim.statistic == "projection":
            return expectation(terms, adapter), False
        return expectation(inner(terms, terms), adapter), True
    names = adapter.trainable if kind == "gradient_norm" else (str(claim.factor),)
    total: sp.Expr = sp.Integer(0)
    for name in names:
        g = gradient(adapter, after, name)
        total += expectation(inner(g, g), adapter)
    if claim.statistic == "projection":
        raise NotDerivable("a projection is defined for output, update, input_gradient and loss_decrease only")
    # The norm of all factors is one number: its rms is over draws alone. A single factor's gradient has entries.
    return total / (factor_size(adapter, names) if claim.statistic == "rms" and claim.factor else 1), True


def entries(adapter: Adapter, claim: Claim, *, d: sp.Expr) -> sp.Expr:
    """What the squared norm is divided by: the number of entries for an rms, one for a norm."""
    return d if claim.statistic == "rms" else sp.Integer(1)
