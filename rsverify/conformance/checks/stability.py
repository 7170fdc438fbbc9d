"""Whether magnitudes move with the rank as they must under the declared rule: update, gradient norm, loss decrease.

What they must do is derived where theory speaks of the declaration. Where it does not, the declaration is simulated: by Monte Carlo's
engines where it is multilinear, as a module of our own where it is not (a norm, a start from the base's own weight). Of an undeclared
implementation that is not LoRA nothing follows from its rule alone: it is held to the exponents that it claims, or what is measured is
told without judging it.

Each statement names its regime: one step from init, probe aligned with the sample, rank to infinity at fixed widths. A pass says
that the implementation follows its rule, not that the rule is a stable one: which it is stands in the remark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rsverify.conformance.bench import Bench, ratio
from rsverify.conformance.firststep import (
    LEVEL_MARGIN,
    LR,
    MARGIN,
    OPTIMIZERS,
    SHARE,
    STATEMENTS,
    FirstStep,
    declared_step,
    first_step,
    glance,
)
from rsverify.conformance.outcomes import Skip, Unsettled, Wrong
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import check
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.adapters.lora_xs import lora_xs, of_the_base
from rsverify.definitions.claims import data_quantities
from rsverify.definitions.laws import Constant, Frozen, Gaussian, Law, Zero
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import NotDerivable, RsverifyError
from rsverify.montecarlo import Budget, estimate
from rsverify.records import Estimate
from rsverify.statistics.rounding import gamma_n
from rsverify.symbolic import derive

ENTRIES = 3e7
"""Entries of factors that a simulated prediction may draw: a second or two."""

POWERS = (0.0, -0.5, -1.0)
"""Powers of r that the spread of an undeclared factor may follow: free of r, 1/sqrt(r), 1/r."""


@dataclass(frozen=True)
class Expected:
    """What theory says of the two ranks: exponent, log magnitude at the larger (None: up to a constant), both magnitudes, how far they may
    be off, who says it, and whether draws differ."""

    exponent: float
    log_level: float | None
    values: tuple[float, float]
    error: float
    source: str
    random: bool


def _claimed(bench: Bench, seen: FirstStep) -> tuple[Adapter, bool]:
    """The multilinear adapter whose theory applies, and whether its constants do too."""
    declared = bench.subject.declared
    if isinstance(declared, Adapter):
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


def _expected(bench: Bench, seen: FirstStep, key: str, quantity: str, optimizer: str) -> Expected:
    if isinstance(bench.subject.declared, WrappedAdapter):
        return _of_module(bench, bench.subject.declared, seen, key)
    adapter, constants = _claimed(bench, seen)
    if adapter.name == lora_xs.name and not _flat(bench, seen):
        return _of_module(bench, of_the_base(), seen, key)
    layer = seen.layer
    random = any(_draws_at_random(law) for law in adapter.laws.values())
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
        source = "derived" if said.exact else f"derived to {said.error_order}"
        return _from_values(seen, values, 0.0, source, constants=constants, random=random)
    except RsverifyError:
        return _from_curve(
            seen, _simulated(bench, adapter, seen, quantity, optimizer, Budget(entries=ENTRIES)), quantity, constants=constants,
            random=random, source="simulated from its declaration",
        )  # fmt: skip


def _flat(bench: Bench, seen: FirstStep) -> bool:
    """Whether LoRA-XS's frozen A has equal singular values, as the declaration has it; those of a base weight differ."""
    A = algebra(bench).factors(bench.build(seen.layer, seen.ranks[0]))["A"].detach().double()
    # Of rows above the width there are frames too, whose rows differ in length: only the singular values tell.
    values = torch.linalg.svdvals(A)
    rows, columns = A.shape
    return bool((values[0] - values[-1]) <= _unevenness(rows, columns, bench.dtype) * values[0])


def _unevenness(rows: int, columns: int, dtype: torch.dtype) -> float:
    """How far equal singular values of a drawn frame may seem apart, as a part of themselves.

    In words: 2 * 3 * sqrt(k) * gamma(c rows columns), k the smaller side. A frame by Householder is off by sqrt(k) gamma(c m k) in the
    Frobenius norm (Higham 2002, theorem 19.4; c a small integer there, here 10: what an entry costs in a reflection and its scaling),
    its rounding to the dtype and the singular values' own computation by no more; each moves a singular value by at most its norm (Weyl).
    """
    return 6 * math.sqrt(min(rows, columns)) * gamma_n(10 * rows * columns, str(dtype).removeprefix("torch."))


def _of_module(bench: Bench, declared: WrappedAdapter, seen: FirstStep, key: str) -> Expected:
    """What our own module of the declaration does, on the pretrained weight of the bench."""
    theirs = declared_step(bench, declared, seen)
    values = [point.value for point in theirs.magnitudes[key]]
    if not any(values):
        raise Skip(f"{key} vanishes identically by its declaration")
    error = max(theirs.half(key, k) for k in (0, 1))
    source = "simulated from its declaration as a module"
    return _from_values(seen, values, error, source, constants=True, random=not theirs.identical)


def _simulated(bench: Bench, adapter: Any, seen: FirstStep, quantity: str, optimizer: str, budget: Budget) -> Estimate:
    statistic, steps = ("frobenius", 0) if quantity == "gradient_norm" else ("rms", 1)
    return estimate(
        adapter, bench.subject.scaling, optimizer=optimizer, quantity=quantity, statistic=statistic, steps=steps, ranks=seen.ranks,
        d_in=seen.layer.d_in, d_out=seen.layer.d_out, alpha=bench.alpha, lr=LR, seed=bench.seed, error_budget=bench.error_budget,
        statements=STATEMENTS, budget=budget,
    )  # fmt: skip


def _from_curve(seen: FirstStep, simulated: Estimate, quantity: str, *, constants: bool, random: bool, source: str) -> Expected:
    if simulated.zero:
        raise Skip(f"{quantity} vanishes identically by its declaration")
    error = max(math.log(point.hi / point.lo) / 2 if point.lo > 0 else math.inf for point in simulated.curve)
    return _from_values(seen, [point.value for point in simulated.curve], error, source, constants=constants, random=random)


def _from_values(
    seen: FirstStep, values: Sequence[float] | np.ndarray, error: float, source: str, *, constants: bool, random: bool
) -> Expected:
    exponent = math.log(values[1] / values[0]) / math.log(seen.ranks[1] / seen.ranks[0])
    return Expected(exponent, math.log(values[1]) if constants else None, (float(values[0]), float(values[1])), error, source, random)


def _stated(bench: Bench, seen: FirstStep, key: str) -> Expected:
    """What the implementation itself claims, without any declaration."""
    low, high = (magnitude.value for magnitude in seen.magnitudes[key])
    return Expected(float(bench.subject.exponents[key]), None, (low, high), 0.0, "claimed", not seen.identical)


def _told(bench: Bench, key: str, why: Skip) -> Skip:
    """The reason why nothing is judged, with what was measured."""
    seen = glance(bench)
    low, high = seen.magnitudes[key]
    if not (0 < abs(low.value) < math.inf and 0 < abs(high.value) < math.inf):
        return Skip(f"{why}; measured: zero or not finite")
    power, half = seen.exponent(key)
    shown = f"{power:+.2f} (one draw: every build is the same)" if seen.identical else f"{power:+.2f} +- {half:.2f}"
    return Skip(
        f"{why}, or claim it by exponents={{{key!r}: ...}}; measured without judging, ranks {low.rank} and {high.rank}, aligned probe:"
        f" r**{shown}, {_stability(power, half)}"
    )


def _stability(power: float, half: float) -> str:
    if abs(power) + half <= MARGIN:
        return "stable"
    if abs(power) - half <= MARGIN:
        return "stability open"
    return "collapses" if power < 0 else "explodes"


def _judge(bench: Bench, quantity: str, optimizer: str) -> str:
    key = quantity if quantity == "gradient_norm" else f"{quantity}:{optimizer}"
    claims = key in bench.subject.exponents
    if bench.subject.declared is None and not claims:
        try:
            _claimed(bench, glance(bench))
        except Skip as why:
            raise _told(bench, key, why) from why
    seen = first_step(bench)
    said = _stated(bench, seen, key) if claims else _expected(bench, seen, key, quantity, optimizer)
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
    if seen.identical and said.random:
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


@check("stability")
def check_gradient_norm(bench: Bench) -> str | None:
    """The gradient norm at init moves with the rank as derived for the declared rule."""
    return _judge(bench, "gradient_norm", OPTIMIZERS[0])


@check("stability")
def check_update_sgd(bench: Bench) -> str | None:
    """What one SGD step changes in the output moves with the rank as derived for the declared rule."""
    return _judge(bench, "update", "sgd")


@check("stability")
def check_update_adamw(bench: Bench) -> str | None:
    """What one AdamW step changes in the output moves with the rank as derived for the declared rule."""
    return _judge(bench, "update", "adamw")


@check("stability")
def check_loss_decrease_sgd(bench: Bench) -> str | None:
    """The first-order loss decrease of one SGD step moves with the rank as derived for the declared rule."""
    return _judge(bench, "loss_decrease", "sgd")


@check("stability")
def check_loss_decrease_adamw(bench: Bench) -> str | None:
    """The first-order loss decrease of one AdamW step moves with the rank as derived for the declared rule."""
    return _judge(bench, "loss_decrease", "adamw")
