"""Whether magnitudes move with the rank as theory says for the declared rule: update, gradient norm, loss decrease.

Each statement names its regime: one step from init, probe aligned with the sample, rank to infinity at fixed widths. A pass says
that the implementation follows its rule, not that the rule is a stable one: which it is stands in the remark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rsverify.conformance.bench import Bench, ratio
from rsverify.conformance.firststep import LEVEL_MARGIN, LR, MARGIN, OPTIMIZERS, SHARE, STATEMENTS, FirstStep, first_step
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import Skip, Unsettled, Wrong, check
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import data_quantities
from rsverify.definitions.laws import Constant, Frozen, Gaussian, Law, Zero
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import NotDerivable, RsverifyError
from rsverify.montecarlo import Budget, estimate
from rsverify.symbolic import derive

ENTRIES = 3e7
"""Entries of factors that a simulated prediction may draw: a second or two."""

POWERS = (0.0, -0.5, -1.0)
"""Powers of r that the spread of an undeclared factor may follow: free of r, 1/sqrt(r), 1/r."""


@dataclass(frozen=True)
class Expected:
    """What theory says of the two ranks: exponent, log magnitude at the larger (None: up to a constant), both magnitudes, who says it."""

    exponent: float
    log_level: float | None
    values: tuple[float, float]
    error: float
    source: str


def _claimed(bench: Bench, seen: FirstStep) -> tuple[Adapter, bool]:
    """The multilinear adapter whose theory applies, and whether its constants do too."""
    declared = bench.subject.declared
    if isinstance(declared, WrappedAdapter):
        raise Skip(f"{declared.name} is not derivable: {declared.reason}")
    if declared is not None:
        return declared, "base-weight" not in declared.tags
    held = algebra(bench)
    assert isinstance(held.adapter, Adapter)
    built = bench.trained()
    if ratio(built.added().double(), held.unit_weight(built))[1] > 1e-3:
        raise Skip("its factors have LoRA's shapes but it does not add their product; declare what it is with init=")
    laws: dict[str, Law] = {}
    for name, place in held.places.items():
        spreads = []
        for rank in seen.ranks:
            built = bench.build(seen.layer, rank)
            spreads.append(float(built.own()[place.name].detach().double().square().mean().sqrt()))
        if 0.0 in spreads:
            laws[name] = Zero()
            continue
        power = math.log(spreads[1] / spreads[0]) / math.log(seen.ranks[1] / seen.ranks[0])
        nearest = min(POWERS, key=lambda p: abs(p - power))
        # The spread of n entries is known to 1/sqrt(2 n), a thousandth here; laws between these powers are none we know.
        if abs(nearest - power) > 0.1:
            raise Skip(f"the spread of its factor {place.name} goes as r**{power:.2f} at init: no law that could be derived; declare init=")
        laws[name] = Gaussian(std=f"{spreads[0] / seen.ranks[0] ** nearest!r}*r**({nearest})")
    return held.adapter.with_init(**laws), False


def _draws_at_random(law: Law) -> bool:
    inside = law.law if isinstance(law, Frozen) else law
    return not isinstance(inside, Zero | Constant)


def _expected(bench: Bench, seen: FirstStep, quantity: str, optimizer: str) -> Expected:
    adapter, constants = _claimed(bench, seen)
    layer = seen.layer
    gammas = [bench.gamma(rank) for rank in seen.ranks]
    statistic, steps = ("frobenius", 0) if quantity == "gradient_norm" else ("rms", 1)
    data = data_quantities(seen.x, seen.x, seen.v)
    try:
        if max(map(len, adapter.result)) > 1:
            raise NotDerivable("the rows or columns of its weight are grouped: closed forms average over the data, and these are given")

        said = derive(adapter, "1", optimizer=optimizer, quantity=quantity, statistic=statistic, steps=steps)
        if said.zero:
            raise Skip(f"{quantity} vanishes identically by its declaration")
        values = said.at(seen.ranks, d_in=layer.d_in, d_out=layer.d_out, alpha=bench.alpha, lr=LR, gamma=gammas, **data)
        error, source = 0.0, "derived" if said.exact else f"derived to {said.error_order}"
    except RsverifyError as refusal:
        simulated = estimate(
            adapter, bench.subject.scaling, optimizer=optimizer, quantity=quantity, statistic=statistic, steps=steps, ranks=seen.ranks,
            d_in=layer.d_in, d_out=layer.d_out, alpha=bench.alpha, lr=LR, seed=bench.seed, error_budget=bench.error_budget,
            statements=STATEMENTS, budget=Budget(entries=ENTRIES),
        )  # fmt: skip
        if simulated.zero:
            raise Skip(f"{quantity} vanishes identically by its declaration") from refusal
        values = np.asarray([point.value for point in simulated.curve])
        error = max(math.log(point.hi / point.lo) / 2 if point.lo > 0 else math.inf for point in simulated.curve)
        source = "simulated from its declaration"
    span = math.log(seen.ranks[1] / seen.ranks[0])
    exponent = math.log(values[1] / values[0]) / span
    return Expected(exponent, math.log(values[1]) if constants else None, (float(values[0]), float(values[1])), error, source)


def _judge(bench: Bench, quantity: str, optimizer: str) -> str:
    seen = first_step(bench)
    key = quantity if quantity == "gradient_norm" else f"{quantity}:{optimizer}"
    said = _expected(bench, seen, quantity, optimizer)
    low, high = seen.magnitudes[key]
    regime = f"{'at init' if quantity == 'gradient_norm' else f'one {optimizer} step'}, aligned probe, ranks {low.rank} and {high.rank}"
    if quantity == "update" and min(said.values) < seen.readable:
        raise Unsettled(
            f"{quantity} ({regime}) would be {min(said.values):.1g} beside an output of the layer of order 1: rounding hides it; a larger"
            " alpha or a rule that falls less steeply would show it"
        )
    if low.value == 0 or high.value == 0:
        raise Wrong(f"{quantity} ({regime}) is zero; {said.source}: it goes as r**{said.exponent:+.2f}")
    if not math.isfinite(low.value) or not math.isfinite(high.value):
        raise Wrong(f"{quantity} ({regime}) is not finite")
    if seen.identical and any(_draws_at_random(law) for law in _claimed(bench, seen)[0].laws.values()):
        raise Unsettled(f"every build draws the same factors: {quantity} is seen for one draw only, which decides nothing about its mean")
    span = math.log(seen.ranks[1] / seen.ranks[0])
    found, half = seen.exponent(key)
    half += math.sqrt(2) * said.error / span
    shown = (
        f"{quantity} ({regime}) goes as r**{found:+.3f} +- {half:.3f}; rule {bench.subject.scaling}, {said.source}: r**{said.exponent:+.3f}"
    )
    if abs(found - said.exponent) - half > MARGIN:
        raise Wrong(f"{shown}. The init's dependence on the rank or the scale's is another than declared")
    if said.log_level is not None:
        level, level_half = seen.log_level(key)
        level_half += said.error
        if abs(level - said.log_level) - level_half > LEVEL_MARGIN:
            raise Wrong(
                f"{quantity} ({regime}) is {math.exp(level - said.log_level):.3g} times what the declared laws give"
                f" (+-{level_half:.2g} in the logarithm): a factor's spread at init, or the scale, is another than declared"
            )
    if abs(found - said.exponent) + half > MARGIN:
        price = max(low.draws, high.draws) * (half / (SHARE * MARGIN)) ** 2
        raise Unsettled(f"{shown}; not settled to +-{MARGIN}: about {price:.3g} draws per rank would do it")
    stability = "stable" if abs(said.exponent) <= MARGIN else "collapses" if said.exponent < 0 else "explodes"
    return f"{shown}: {stability} ({low.draws} and {high.draws} draws)"


@check()
def check_gradient_norm(bench: Bench) -> str | None:
    """The gradient norm at init moves with the rank as derived for the declared rule."""
    return _judge(bench, "gradient_norm", OPTIMIZERS[0])


@check()
def check_update_sgd(bench: Bench) -> str | None:
    """What one SGD step changes in the output moves with the rank as derived for the declared rule."""
    return _judge(bench, "update", "sgd")


@check()
def check_update_adamw(bench: Bench) -> str | None:
    """What one AdamW step changes in the output moves with the rank as derived for the declared rule."""
    return _judge(bench, "update", "adamw")


@check()
def check_loss_decrease_sgd(bench: Bench) -> str | None:
    """The first-order loss decrease of one SGD step moves with the rank as derived for the declared rule."""
    return _judge(bench, "loss_decrease", "sgd")


@check()
def check_loss_decrease_adamw(bench: Bench) -> str | None:
    """The first-order loss decrease of one AdamW step moves with the rank as derived for the declared rule."""
    return _judge(bench, "loss_decrease", "adamw")
