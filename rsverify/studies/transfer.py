"""From one rank to another: which alpha and which learning rate keep what training does, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.errors import InputError, NotDerivable, RuleError, known_arguments
from rsverify.studies.transfer_simulated import default_widths, simulated_rate
from rsverify.studies.transfer_widths import Widths, layer_widths
from rsverify.symbolic.answers.explain import power_text
from rsverify.symbolic.answers.regimes import Regime, regimes

if TYPE_CHECKING:
    import torch

SAME = 0.02
"""Rates of two layers that differ by less than this share are one answer, their geometric mean."""


@dataclass(frozen=True)
class Way:
    """One regime's answer: the learning rate at the new rank, and the law that keeps it.

    Args: alpha: what keeps the update at the old learning rate instead; None where gamma does not enter or the rule has no such alpha.
        widths: of the layer that it is for, where its formula at finite rank or a simulation was used; None for ranks far below them.
        how: "power law", "formula" or "simulated".
    """

    regime: str
    law: str
    lr: float
    alpha: float | None = None
    widths: Widths | None = None
    how: str = "power law"
    first: bool = True


@dataclass(frozen=True)
class Transfer:
    """What to set at the new rank.

    Args:
        alpha, gamma, lr: as they are at `rank` under `rule`; to_alpha, to_gamma: at `to_rank` under `to_rule`.
        to_lr: the learning rate that leaves the first step's update as it was; None where theory gives a range only.
        to_lr_range: from where to where theory leaves it open, as training goes on, a batch has many directions or layers have several
            widths; None where it does not.
        alpha_at_same_lr: the alpha that leaves the update as it was if the learning rate is kept instead; None where gamma does not enter,
            or where regimes differ: `alpha_at_same_lr_range` is then what they span.
        widths: (d_in, d_out) of every kind of layer that it is for; empty where ranks are taken to be far below the widths.
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
    alpha_at_same_lr_range: tuple[float, float] | None = None
    widths: tuple[Widths, ...] = ()


@known_arguments
def transfer(
    adapter: Adapter | str = "lora",
    *,
    rank: int,
    alpha: float,
    lr: float,
    to_rank: int,
    rule: ScalingRule | str | Callable[[int, float], float] | None = None,
    to_rule: ScalingRule | str | Callable[[int, float], float] | None = None,
    optimizer: Optimizer | str = "adamw",
    d_in: int | None = None,
    d_out: int | None = None,
    width: int | None = None,
    model: str | torch.nn.Module | None = None,
    seed: int = 0,
) -> Transfer:
    """Alpha and learning rate at another rank, so that a layer's output moves as far in the first step as before.

    With widths the formulas at finite rank are used where they exist; where theory gives bounds only, the first step is simulated.
    Without, ranks are taken to be far below the widths.

    Args:
        rule: the scaling rule in use, by default the adapter's own; to_rule: the one to change to, by default the same. On a change
            alpha is chosen so that gamma at the old rank, and with it the function of a trained adapter, stays what it is.
        d_in, d_out, width, model: the widths of the adapted layers: both, one for square layers, or a model whose linears are asked.
        seed: of the simulation.
    Raises: NotDerivable where theory cannot speak; InputError, RuleError, UnknownName.
    """
    known, used = as_adapter(adapter), as_optimizer(optimizer)
    before = as_rule(known.rule if rule is None else rule)
    after = before if to_rule is None else as_rule(to_rule)
    _check(rank=rank, to_rank=to_rank, alpha=alpha, lr=lr)
    layers = layer_widths(d_in=d_in, d_out=d_out, width=width, model=model)
    gamma = before.gamma(rank, alpha)
    to_alpha = alpha if to_rule is None else _alpha_for(after, rank, gamma)
    to_gamma = after.gamma(to_rank, to_alpha)
    asked = _Asked(known, used, after, rank, to_rank, gamma, to_gamma, to_alpha, float(lr), seed)
    found, layers = _regimes(asked, layers)
    ways = [asked.way(regime, widths) for regime in found for widths in (layers or (None,))]
    if found and layers and any(regime.size is None for regime in found if regime.first):
        ways = [asked.simulated(widths) for widths in layers]  # a bound says little at finite rank: the step itself is drawn
    first = [way.lr for way in ways if way.first]
    rates = [way.lr for way in ways]
    to_lr = float(lr) if not rates else _one(first)
    alphas = [way.alpha for way in ways if way.first]
    together = [each for each in alphas if each is not None]
    same = None if len(together) < len(alphas) or not together else _one(together)
    plain = Transfer(
        known.name, used.text, rank, to_rank, before.text, after.text, float(alpha), to_alpha, gamma, to_gamma, float(lr),
        to_lr, None if _alike(rates) else (min(rates), max(rates)), same, tuple(ways), (), (),
        (min(together), max(together)) if same is None and together and len(together) == len(alphas) else None, layers,
    )  # fmt: skip
    return replace(plain, reasons=_reasons(plain, found), caveats=_caveats(plain, known, used, found))


def _regimes(asked: _Asked, layers: tuple[Widths, ...]) -> tuple[tuple[Regime, ...], tuple[Widths, ...]]:
    """The regimes for ranks below the widths, and the layers to be asked: where theory is silent there, widths to simulate at."""
    try:
        return regimes(asked.adapter, optimizer=asked.optimizer, regime="width"), layers
    except NotDerivable:
        found = regimes(asked.adapter, optimizer=asked.optimizer)  # silent on every regime: then that is the answer
        return found, layers or (default_widths((asked.rank, asked.to_rank)),)


def _one(rates: Sequence[float]) -> float | None:
    """One rate for several layers that want nearly the same; None where they do not."""
    if _alike(rates):
        return rates[0]
    return math.exp(sum(map(math.log, rates)) / len(rates)) if max(rates) <= min(rates) * (1 + SAME) else None


def _alike(rates: Sequence[float]) -> bool:
    return all(math.isclose(rate, rates[0], rel_tol=1e-12) for rate in rates)


@dataclass(frozen=True)
class _Asked:
    """From which rank, gamma and rate to which rank and gamma, with what."""

    adapter: Adapter
    optimizer: Optimizer
    rule: ScalingRule
    rank: int
    to_rank: int
    gamma: float
    to_gamma: float
    to_alpha: float
    lr: float
    seed: int

    def way(self, regime: Regime, widths: Widths | None) -> Way:
        """lr at the new rank from gamma**a lr**c f(r) kept, f a power of r or the formula at these widths."""
        a, b, c = regime.term
        size = regime.size if widths is not None else None
        if size is None or widths is None:
            shrunk = float(Fraction(self.rank, self.to_rank)) ** float(b)
        else:
            shrunk = size.at(self.rank, *widths) / size.at(self.to_rank, *widths)
        lr = self.lr * (self.gamma / self.to_gamma) ** float(a / c) * shrunk ** float(1 / c)
        alpha = None if not a else _alpha_or_none(self.rule, self.to_rank, self.gamma * shrunk ** float(1 / a))
        how = "power law" if size is None else "formula"
        return Way(regime.name, power_text(regime.term), lr, alpha, widths if size is not None else None, how, regime.first)

    def simulated(self, widths: Widths) -> Way:
        """The same by drawing the step: a first step of several factors, whose constants theory does not know."""
        lr = simulated_rate(
            self.adapter, self.optimizer, widths=widths, ranks=(self.rank, self.to_rank), gammas=(self.gamma, self.to_gamma), lr=self.lr,
            seed=self.seed,
        )  # fmt: skip
        alpha = None
        if self.optimizer.name not in ("sgd", "momentum"):  # the update is linear in gamma: what lr may do, gamma may
            alpha = _alpha_or_none(self.rule, self.to_rank, self.to_gamma * lr / self.lr)
        return Way("first step", f"drawn at d_in = {widths[0]}, d_out = {widths[1]}", lr, alpha, widths, "simulated")


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


def _alpha_or_none(rule: ScalingRule, rank: int, gamma: float) -> float | None:
    try:
        return _alpha_for(rule, rank, gamma)
    except RuleError:
        return None


def _reasons(found: Transfer, regimes: tuple[Regime, ...]) -> tuple[str, ...]:
    reasons: list[str] = []
    rank, to_rank, factor = found.rank, found.to_rank, found.gamma / found.to_gamma
    if found.to_rule != found.rule:
        reasons.append(
            f"{found.rule} at r = {rank}, alpha = {found.alpha:g} is gamma = {found.gamma:.6g}; {found.to_rule} gives that there at alpha ="
            f" {found.to_alpha:.6g}: an adapter trained at rank {rank} computes the same function under both."
        )
    reasons.append(f"At r = {to_rank} gamma is {found.to_gamma:.6g}, {1 / factor:.4g} times that at r = {rank}.")
    if not regimes:
        reasons.append("No learning rate enters the update: it may stay.")
    by_name = {regime.name: regime for regime in regimes}
    for way in found.ways:
        at = "" if way.widths is None else f" at d_in = {way.widths[0]}, d_out = {way.widths[1]}"
        if way.how == "simulated":
            reasons.append(
                f"Theory bounds the first step only, so it was drawn{at}: the update stays where lr is {way.lr:.4g}, to a few percent."
            )
            continue
        regime = by_name[way.regime]
        a, b, c = regime.term
        if way.how == "formula":
            grown = (way.lr / found.lr / factor ** float(a / c)) ** -float(c)
            reasons.append(
                f"{regime.why}{at}: the update goes as gamma**({a}) * lr**({c}) times a formula of r and the widths, {grown:.4g} times as"
                f" large at r = {to_rank} as at r = {rank}; so it stays where lr = {way.lr:.4g}."
            )
        else:
            reasons.append(
                f"{regime.why}: the update goes as {way.law}, so it stays where lr is multiplied by {factor:.4g}**({a / c}) * "
                f"({rank}/{to_rank})**({b / c}): lr = {way.lr:.4g}."
            )
    return tuple(reasons)


def _caveats(found: Transfer, adapter: Adapter, optimizer: Optimizer, regimes: tuple[Regime, ...]) -> tuple[str, ...]:
    if not found.widths:
        size = (
            ", for ranks far below the widths of the layers, up to corrections of relative order 1/r and r/d; give the widths (--width,"
            " --d-in with --d-out, or --model) for the formula at finite rank"
        )
    elif any(way.how == "simulated" for way in found.ways):
        size = f", at {_layers(found.widths)}, as drawn there"
    else:
        size = f", at {_layers(found.widths)}, by the formula at finite rank"
    caveats = [
        f"Invariant is how far the first step moves a layer's output on its own batch{size}; the best learning rate of a long run is an"
        " empirical matter that this only bounds."
    ]
    caveats += dict.fromkeys(regime.caveat for regime in regimes if regime.caveat and (regime.first or found.to_lr_range))
    decay = optimizer.option("weight_decay")
    if decay and found.to_lr is not None and not math.isclose(found.to_lr, found.lr):
        caveats.append(
            f"{optimizer.name} decays weights by lr * weight_decay a step: weight_decay = {decay * found.lr / found.to_lr:.4g} keeps that"
            f" as it was ({decay:g} would make it {found.to_lr / found.lr:.3g} times as strong)."
        )
    if optimizer.name == "adafactor" and max(found.lr, *(way.lr for way in found.ways)) > 1:
        caveats.append("Adafactor takes min(lr, 1/sqrt(t)) as its rate: beyond 1 the first step no longer grows, and no rate keeps it.")
    caveats.append(
        f"A rank beyond the smaller width of a layer adds no directions, only effective learning rate: compare {found.to_rank} with"
        + (f" {min(map(min, found.widths))}." if found.widths else " min(d_in, d_out).")
    )
    return (*caveats, f"Rank counts: {adapter.counts}.") if adapter.counts != "rows of A" else tuple(caveats)


def _layers(widths: Sequence[Widths]) -> str:
    return " and ".join(f"d_in = {d_in}, d_out = {d_out}" for d_in, d_out in widths)


def _check(*, rank: int, to_rank: int, alpha: float, lr: float) -> None:
    for name, value in (("rank", rank), ("to_rank", to_rank)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r}; expected a whole number from 1")
    for name, value in (("alpha", alpha), ("lr", lr)):
        if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise InputError(f"{name}={value!r}; expected a positive finite number")
