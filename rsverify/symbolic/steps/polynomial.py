"""Squared magnitudes after steps that are polynomial in the gradient (SGD): substitute the step, then take expectations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.rates import rate_ratio
from rsverify.errors import BudgetError, InputError, NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.expectation import expectation
from rsverify.symbolic.moments.network import Tensor, at_init, contraction, data, inner, merged, scaled
from rsverify.symbolic.moments.sizes import factor_size

Factors = Mapping[str, Tensor]


def init_factors(adapter: Adapter) -> dict[str, Tensor]:
    """The factors before any step."""
    return {name: at_init(adapter, name) for name in adapter.operands}


def gradient(adapter: Adapter, factors: Factors, name: str) -> Tensor:
    """The loss gradient with respect to one factor, on the sample x with signal v: its axes free."""
    return contraction(adapter, factors, without=name, row="v", column="x")


def learning_rate_ratio(optimizer: Optimizer, adapter: Adapter, name: str) -> sp.Expr:
    """The learning rate of a factor over the base rate, as an exact number."""
    return cast(sp.Expr, sp.nsimplify(rate_ratio(optimizer, adapter, name), rational=True))


def stepped(adapter: Adapter, optimizer: Optimizer, steps: int) -> dict[str, Tensor]:
    """The factors after so many SGD steps on one repeated sample, as sums of networks in the draws at init.

    Raises: BudgetError where the products of several steps have too many terms.
    """
    factors = init_factors(adapter)
    buffers: dict[str, Tensor] = dict.fromkeys(adapter.trainable, ())
    kept = sp.nsimplify(optimizer.option("momentum"), rational=True) if optimizer.name == "momentum" else sp.Integer(0)
    decay = sp.nsimplify(optimizer.option("weight_decay"), rational=True)
    for step in range(1, steps + 1):
        moved = dict(factors)
        for name in adapter.trainable:
            _check_terms(adapter, factors, name, step)
            pull = gradient(adapter, factors, name) + (scaled(factors[name], decay) if decay else ())
            buffers[name] = merged(scaled(buffers[name], kept) + pull if kept else pull)
            moved[name] = merged(factors[name] + scaled(buffers[name], -s.lr * learning_rate_ratio(optimizer, adapter, name)))
        factors = moved
    return factors


MAX_TERMS = 40
"""Networks that a quantity may be the sum of: second moments meet pairs of them."""


def _check_terms(adapter: Adapter, factors: Factors, name: str, step: int) -> None:
    count = math.prod(len(tensor) for other, tensor in factors.items() if other != name)
    if count > MAX_TERMS:
        raise BudgetError(
            f"at step {step} the gradient of {name} in {adapter.expression!r} is a sum of {count} networks, and at most {MAX_TERMS} are"
            " followed: ask for fewer steps, or sample them",
            needed=count, allowed=MAX_TERMS, unit="networks",
        )  # fmt: skip


def _check_count(count: int, adapter: Adapter, claim: Claim) -> None:
    """Refuse before networks are multiplied out whose pairs would be too many."""
    if count > MAX_TERMS:
        raise BudgetError(
            f"{claim.quantity} after {claim.steps} steps of {adapter.expression!r} is a sum of {count} networks: {count**2} pairs,"
            f" at most {MAX_TERMS**2}; ask for fewer steps, or sample them", needed=count, allowed=MAX_TERMS, unit="networks",
        )  # fmt: skip


def observed(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> tuple[Tensor, Tensor]:
    """The quantity of a claim as a network, and the direction of its projection: (y, -v), (y, x), or a scalar and nothing.

    A direction is not of length one: its length is v_norm2 or x_norm2 to the power 1/2.
    """
    factors = init_factors(adapter)
    after = stepped(adapter, optimizer, claim.steps)
    kind = claim.quantity.partition(":")[0]
    rows, columns = adapter.result
    if kind != "loss_decrease":
        _check_count(math.prod(len(tensor) for tensor in after.values()), adapter, claim)
    if kind in ("output", "update"):
        change = contraction(adapter, after, column="x'")
        # Where the weight added at init is not zero, what it did to the output is taken off: of the update by its name.
        if kind == "update":
            change = change + scaled(contraction(adapter, factors, column="x'"), sp.Integer(-1))
        return merged(change), scaled(data("v", rows), sp.Integer(-1))
    if kind == "input_gradient":
        return merged(contraction(adapter, after, row="v")), data("x", columns)
    if kind == "loss_decrease":
        terms: Tensor = ()
        for name in adapter.trainable:
            step = after[name] + scaled(factors[name], sp.Integer(-1))
            terms += scaled(inner(gradient(adapter, factors, name), merged(step)), sp.Integer(-1))
        return merged(terms), ()
    raise NotDerivable(f"{claim.quantity} is no vector: ask for its rms or frobenius norm")


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> tuple[sp.Expr, bool]:
    """The claim's magnitude: (E of the square, True), or for a projection (the signed mean, False)."""
    kind = claim.quantity.partition(":")[0]
    if kind in ("output", "update", "input_gradient", "loss_decrease"):
        y, direction = observed(adapter, optimizer, claim)
        _check_count(len(y), adapter, claim)
        scalar = kind == "loss_decrease"
        if claim.statistic == "projection":
            length = sp.Integer(1) if scalar else sp.sqrt(s.x_norm2 if kind == "input_gradient" else s.v_norm2)
            return expectation(y if scalar else inner(y, direction), adapter) / length, False
        entries = 1 if scalar or claim.statistic != "rms" else s.d_in if kind == "input_gradient" else s.d_out
        return expectation(inner(y, y), adapter) / entries, True
    if claim.statistic == "projection":
        raise NotDerivable("a projection is defined for output, update, input_gradient and loss_decrease only")
    names = asked_gradients(adapter, claim)
    after = stepped(adapter, optimizer, claim.steps)
    total: sp.Expr = sp.Integer(0)
    for name in names:
        g = gradient(adapter, after, name)
        total += expectation(inner(g, g), adapter)
    # The norm of all factors is one number: its rms is over draws alone. A single factor's gradient has entries.
    return total / (factor_size(adapter, names) if claim.statistic == "rms" and claim.factor else 1), True


def asked_gradients(adapter: Adapter, claim: Claim) -> tuple[str, ...]:
    """The factors whose gradients a claim speaks of.

    Raises: InputError where the factor is frozen.
    """
    if claim.factor is None:
        return adapter.trainable
    if claim.factor not in adapter.trainable:
        trained = ", ".join(adapter.trainable)
        raise InputError(f"quantity={claim.quantity!r}: factor {claim.factor} is frozen and has no gradient; trained are {trained}")
    return (claim.factor,)
