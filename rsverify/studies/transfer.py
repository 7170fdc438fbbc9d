"""From one rank to another: which alpha and which learning rate keep what training does, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.errors import InputError, RuleError
from rsverify.symbolic.answers.explain import power_text
from rsverify.symbolic.answers.regimes import Regime, regimes


@dataclass(frozen=True)
class Way:
    """One regime's answer: the learning rate at the new rank, and the law that keeps it."""

    regime: str
    law: str
    lr: float


@dataclass(frozen=True)
class Transfer:
    """What to set at the new rank.

    Args:
        alpha, gamma, lr: as they are at `rank` under `rule`; to_alpha, to_gamma: at `to_rank` under `to_rule`.
        to_lr: the learning rate that leaves the first step's update as it was; None where theory gives a range only.
        to_lr_range: from where to where theory leaves it open, as training goes on or a batch has many directions; None where it does not.
        alpha_at_same_lr: the alpha that leaves the update as it was if the learning rate is kept instead; None where gamma does not enter.
        ways: the answer of every regime. reasons, caveats: in words.
    """

    adapter: str
    optimizer: str
    rank: int
    to_rank: int
    rule: str
    to_rule: str
    alpha: float
    to_alpha: float
    gamma: float
    to_gamma: float
    lr: float
    to_lr: float | None
    to_lr_range: tuple[float, float] | None
    alpha_at_same_lr: float | None
    ways: tuple[Way, ...]
    reasons: tuple[str, ...]
    caveats: tuple[str, ...]


def transfer(
    adapter: Adapter | str = "lora",
    *,
    rank: int,
    alpha: float,
    lr: float,
    to_rank: int,
    rule: ScalingRule | str | Callable[[float, float], float] | None = None,
    to_rule: ScalingRule | str | Callable[[float, float], float] | None = None,
    optimizer: Optimizer | str = "adamw",
) -> Transfer:
    """Alpha and learning rate at another rank, so that a layer's output moves as far in the first step as before.

    Args:
        rule: the scaling rule in use, by default the adapter's own; to_rule: the one to change to, by default the same. On a change
            alpha is chosen so that gamma at the old rank, and with it the function of a trained adapter, stays what it is.
    Raises: NotDerivable where theory cannot speak; InputError, RuleError, UnknownName.
    """
    known, used = as_adapter(adapter), as_optimizer(optimizer)
    before = as_rule(known.rule if rule is None else rule)
    after = before if to_rule is None else as_rule(to_rule)
    _check(rank=rank, to_rank=to_rank, alpha=alpha, lr=lr)
    gamma = before.gamma(rank, alpha)
    to_alpha = alpha if to_rule is None else _alpha_for(after, rank, gamma)
    to_gamma = after.gamma(to_rank, to_alpha)
    found = regimes(known, optimizer=used)
    ways = tuple(_way(regime, lr=lr, gamma=gamma / to_gamma, rank=Fraction(rank, to_rank)) for regime in found)
    first = [way.lr for way, regime in zip(ways, found, strict=True) if regime.first]
    rates = [way.lr for way in ways]
    to_lr = lr if not rates else first[0] if _alike(first) else None
    same = None if to_lr is None or not found else _alpha_at_same_lr(found[0], after, gamma=gamma, rank=rank, to_rank=to_rank)
    plain = Transfer(
        known.name, used.text, rank, to_rank, before.text, after.text, float(alpha), to_alpha, gamma, to_gamma, float(lr),
        to_lr, None if _alike(rates) else (min(rates), max(rates)), same, ways, (), (),
    )  # fmt: skip
    return replace(plain, reasons=_reasons(plain, found), caveats=_caveats(plain, known, used, found))


def _alike(rates: Sequence[float]) -> bool:
    return all(math.isclose(rate, rates[0], rel_tol=1e-12) for rate in rates)


def _way(regime: Regime, *, lr: float, gamma: float, rank: Fraction) -> Way:
    """lr at the new rank from gamma**a lr**c r**b kept: lr (gamma/gamma')**(a/c) (r/r')**(b/c)."""
    a, b, c = regime.term
    return Way(regime.name, power_text(regime.term), lr * gamma ** float(a / c) * float(rank) ** float(b / c))


def _alpha_for(rule: ScalingRule, rank: int, gamma: float) -> float:
    """The alpha at which a rule gives gamma at a rank.

    Raises: RuleError where the rule is not proportional to alpha.
    """
    unit = rule.gamma(rank, 1.0)
    found = gamma / unit
    if not math.isclose(rule.gamma(rank, found), gamma, rel_tol=1e-9):
        raise RuleError(
            f"rule={rule.text!r} is not proportional to alpha: no alpha can be read from gamma={gamma:g} at r={rank}; write the rule as"
            " alpha times a function of r, e.g. alpha/sqrt(r)"
        )
    return found


def _alpha_at_same_lr(regime: Regime, rule: ScalingRule, *, gamma: float, rank: int, to_rank: int) -> float | None:
    a, b, _ = regime.term
    if not a:
        return None
    try:
        return _alpha_for(rule, to_rank, gamma * float(Fraction(rank, to_rank)) ** float(b / a))
    except RuleError:
        return None


def _reasons(found: Transfer, regimes: tuple[Regime, ...]) -> tuple[str, ...]:
    said: list[str] = []
    rank, to_rank, factor = found.rank, found.to_rank, found.gamma / found.to_gamma
    if found.to_rule != found.rule:
        said.append(
            f"{found.rule} at r = {rank}, alpha = {found.alpha:g} is gamma = {found.gamma:.6g}; {found.to_rule} gives that there at alpha ="
            f" {found.to_alpha:.6g}: an adapter trained at rank {rank} computes the same function under both."
        )
    said.append(f"At r = {to_rank} gamma is {found.to_gamma:.6g}, {1 / factor:.4g} times that at r = {rank}.")
    if not regimes:
        said.append("No learning rate enters the update: it may stay.")
    for regime, way in zip(regimes, found.ways, strict=True):
        a, b, c = regime.term
        said.append(
            f"{regime.why}: the update goes as {way.law}, so it stays where lr is multiplied by {factor:.4g}**({a / c}) * "
            f"({rank}/{to_rank})**({b / c}): lr = {way.lr:.4g}."
        )
    return tuple(said)


def _caveats(found: Transfer, adapter: Adapter, optimizer: Optimizer, regimes: tuple[Regime, ...]) -> tuple[str, ...]:
    said = [
        "Invariant is how far the first step moves a layer's output on its own batch, up to corrections of relative order 1/r; the best"
        " learning rate of a long run is an empirical matter that this only bounds."
    ]
    said += dict.fromkeys(regime.caveat for regime in regimes if regime.caveat and (regime.first or found.to_lr_range))
    decay = optimizer.option("weight_decay")
    if decay and found.to_lr is not None and not math.isclose(found.to_lr, found.lr):
        said.append(
            f"{optimizer.name} decays weights by lr * weight_decay a step: weight_decay = {decay * found.lr / found.to_lr:.4g} keeps that"
            f" as it was ({decay:g} would make it {found.to_lr / found.lr:.3g} times as strong)."
        )
    said.append(
        f"A rank beyond the smaller width of a layer adds no directions, only effective learning rate: compare {found.to_rank} with"
        " min(d_in, d_out)."
    )
    return (*said, f"Rank counts: {adapter.counts}.") if adapter.counts != "rows of A" else tuple(said)


def _check(*, rank: int, to_rank: int, alpha: float, lr: float) -> None:
    for name, value in (("rank", rank), ("to_rank", to_rank)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r}; expected a whole number from 1")
    for name, value in (("alpha", alpha), ("lr", lr)):
        if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise InputError(f"{name}={value!r}; expected a positive finite number")
