"""Witness 3: what a rule does to adapters on a real transformer, from real inputs and real gradients.

At B = 0 one forward and backward of the bare model serves every rank, rule, optimizer and draw of A (see `probes` and
`closed_form`); the numbers equal those of autograd on attached adapters to rounding, which the tests hold. Any other adapter, and
later steps, are followed linear by linear (see `by_layer`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, setting
from rsverify.definitions.laws import Zero
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ALPHA, ScalingRule
from rsverify.errors import InputError, RsverifyError
from rsverify.records import Claim, Measurement, Point
from rsverify.statistics.intervals import level_for, log_mean_interval, mean_interval, per_draw_slope, slope_weights
from rsverify.training.adapters.contraction import two_factors
from rsverify.training.adapters.trainable import as_trainable, usable_ranks
from rsverify.training.first_step.by_layer import LEARNING_RATE, follow
from rsverify.training.first_step.closed_form import Progress, Unit, first_steps
from rsverify.training.first_step.probes import Capture, capture
from rsverify.training.first_step.quantities import ZERO, bracket, combine, is_signed, per_layer
from rsverify.training.model.data import fine_tuning_problem
from rsverify.training.model.device import as_dtype
from rsverify.training.model.linears import linear_at
from rsverify.training.model.problem import Problem
from rsverify.training.optimizers import DEGREE, silence

RANKS = (4, 8, 15, 32, 61, 128, 256)
DRAWS = 32
EPSILON_REACH = 100.0
"""Entries of the gradient below this many epsilons no longer take a sign-like step to a per cent: g / (|g| + eps) < 0.99."""


def measure(
    adapter: Any,
    rule: ScalingRule | str | Callable[[int, float], float],
    *,
    optimizer: Optimizer | str = "sgd",
    quantity: str = "update",
    statistic: str = "rms",
    probe: str = "aligned",
    steps: int = 1,
    regime: str = "rank",
    problem: Problem | None = None,
    model: Problem | None = None,
    data: bytes | None = None,
    ranks: str | Sequence[int] = RANKS,
    seeds: int = DRAWS,
    alpha: float = ALPHA,
    device: str = "cpu",
    dtype: str | torch.dtype = "float64",
    seed: int = 0,
    margin: float = 0.1,
    error_budget: float = 1e-6,
    statements: int = 1,
    lr: float | None = None,
) -> Measurement:
    """One claim about any adapter measured on a real model, by default the package's own base on source code.

    Args:
        adapter: a declaration by object or name, or what builds a module: a function build(rank, base, alpha), or an object with a `build`
            (`rv.Subject`). A module applies a rule of its own to alpha; `rule` is the one that it is said to follow.
        problem (or model): what to measure on; data: text in the place of sympy's source under the package's base.
        seeds: independent draws of the adapter, at least 2; error_budget, statements: false-failure rate of a whole table
            of so many statements, from which the level of this interval follows.
        lr: the learning rate. Where the first step has a closed form it multiplies what is per unit of it (all but gradients at init),
            None = 1; any other adapter, and later steps, really take their steps at it, None = 1e-3.
    Raises: InputError where training is silent on the claim, with the reason.
    """
    asked = trained_setting(
        adapter, rule, optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime
    )
    ranks = parse_ranks(ranks)
    asked.rule.at(ranks, alpha)
    problem = problem or model or fine_tuning_problem(seed=seed, device=device, dtype=as_dtype(dtype), text=data)
    level = level_for(error_budget, statements)
    given = {"ranks": ranks, "draws": seeds, "alpha": alpha, "seed": seed, "level": level, "margin": margin, "lr": lr}
    answer = measure_all([asked], problem=problem, **given)[asked.claim]
    if isinstance(answer, str):
        raise InputError(f"training cannot measure {asked.claim.quantity} ({asked.claim.statistic}): {answer}")
    return answer


def trained_setting(adapter: Any, rule: ScalingRule | str | Callable[[int, float], float], **asked: Any) -> Setting:
    """The setting of a claim about anything that training takes for an adapter: as `claims.setting`, whose other arguments it has.

    A claim about a module, or a weight that is no contraction, says "as built" for its init; its factors are the module's parameters.
    """
    trained = as_trainable(adapter)
    if isinstance(trained, Adapter):
        return setting(trained, rule, **asked)
    stand_in = Adapter(trained.name, "o i -> o i", rank_axes=(), W=Zero(), note=trained.note)
    quantity = asked.get("quantity", "update")
    made = setting(stand_in, rule, **{**asked, "quantity": "gradient_norm" if quantity.startswith("gradient:") else quantity})
    return replace(made, adapter=trained, claim=replace(made.claim, init="as built", quantity=quantity))  # type: ignore[arg-type]


def measure_all(
    settings: Sequence[Setting],
    *,
    problem: Problem,
    ranks: Sequence[int] = RANKS,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
    level: float = 1 - 1e-8,
    margin: float = 0.1,
    lr: float | None = None,
    progress: Progress | None = None,
) -> dict[Claim, Measurement | str]:
    """Every claim in one pass over shared draws of the adapters; a text says why training is silent on a claim.

    Draws are independent between ranks, layers and indices (a stream each); rules and optimizers see the same draws. The
    exponent is the mean over draws of each draw's own log-log slope, its interval Student's at `level`.

    Args: settings as `trained_setting` makes them; progress is called with (done, total) parts of the pass.
    Raises: InputError for unusable ranks or fewer than 2 draws, RuleError for a rule without a value at some rank.
    """
    ranks = parse_ranks(ranks)
    if draws < 2:
        raise InputError(f"draws={draws}; an interval needs at least 2, and 32 for the default levels")
    answers: dict[Claim, Measurement | str] = {}
    speaking: list[Setting] = []
    for s in settings:
        s.rule.at(ranks, alpha)
        if reason := silence(s.optimizer) or _means_nothing(s.claim):
            answers[s.claim] = reason
        else:
            speaking.append(s)
    if not speaking:
        return answers
    seen = capture(problem)
    asked = Asked(problem, seen, ranks, draws, alpha, seed, level, margin, lr)
    for adapter, group in itertools.groupby(sorted(speaking, key=lambda s: s.adapter.name), key=lambda s: s.adapter):
        members = list(group)
        closed = [s for s in members if has_closed_form(s)]
        others = [s for s in members if not has_closed_form(s)]
        if closed:
            answers |= _by_closed_form(closed, adapter, asked, progress)
        if others:
            answers |= _by_layer(others, adapter, asked, progress)
    return {s.claim: answers[s.claim] for s in settings}


@dataclass(frozen=True)
class Asked:
    """What all claims of a pass have in common."""

    problem: Problem
    seen: Capture
    ranks: tuple[int, ...]
    draws: int
    alpha: float
    seed: int
    level: float
    margin: float
    lr: float | None


def has_closed_form(s: Setting) -> bool:
    """Whether the first step of the bare model says it all: of an up-factor at zero, trained, times a drawn down-factor."""
    pair = two_factors(s.adapter) if isinstance(s.adapter, Adapter) else None
    if pair is None or s.claim.steps > 1:
        return False
    up, down = (s.adapter.laws[name] for name in pair)
    # One draw of the down-factor serves every rule, unless its law absorbs the rule's own gamma.
    return isinstance(up, Zero) and up.trainable and not isinstance(down, Zero) and not down.absorbs_gamma


def _means_nothing(claim: Claim) -> str | None:
    if claim.probe != "aligned":
        return f"on a real batch the probe is the batch itself (aligned); {claim.probe} has no meaning there"
    if claim.statistic == "log":
        return "training reports rms, frobenius and projection; the mean of logarithms is Monte Carlo's"
    if claim.statistic == "projection" and (claim.quantity == "gradient_norm" or claim.factor):
        return f"training does not measure {claim.quantity} {claim.statistic}: a gradient has no direction to be projected on"
    return None


def _by_closed_form(
    members: Sequence[Setting], adapter: Adapter, asked: Asked, progress: Progress | None
) -> dict[Claim, Measurement | str]:
    factors = two_factors(adapter)
    assert factors is not None
    ranks, alpha = asked.ranks, asked.alpha
    units = {_key(s): _unit(s, ranks, alpha) for s in members}
    norms = frozenset(name for s in members if (name := _norm(s.claim)) is not None)
    raw = first_steps(
        asked.seen, adapter, units, ranks=ranks, draws=asked.draws, seed=asked.seed, factors=factors, norms=norms, progress=progress
    )
    answers: dict[Claim, Measurement | str] = {}
    for s in members:
        gammas, mine, degree = np.asarray(s.rule.at(ranks, alpha)), raw[_key(s)], DEGREE.get(s.optimizer.name, 0)
        layers = per_layer(s.claim, mine, capture=asked.seen, gammas=gammas, degree=degree, ranks=np.asarray(ranks, float), factors=factors)
        lr = 1.0 if asked.lr is None else asked.lr
        if isinstance(layers, str):
            answers[s.claim] = _nothing(s, asked, ranks, draws=asked.draws, lr=lr) if layers == ZERO else layers
            continue
        if s.claim.steps:
            layers = layers * (lr if is_signed(s.claim) else lr * lr)
        typical = np.median(mine.median, axis=0) * gammas
        limits = None if s.optimizer.given.get("eps", 0.0) > 0 else bracket(s.claim, s.rule, degree=degree)
        answers[s.claim] = _record(s, layers, asked, ranks, typical=typical, limits=limits, lr=lr, notes=())
    return answers


def _by_layer(members: Sequence[Setting], adapter: Any, asked: Asked, progress: Progress | None) -> dict[Claim, Measurement | str]:
    """As simulation takes it: steps that are really taken, on the inputs and signals of the bare model."""
    linears = {layer.name: linear_at(asked.problem.model, layer.name) for layer in asked.seen.layers}
    lr = LEARNING_RATE if asked.lr is None else asked.lr
    try:
        ranks, missing = usable_ranks(adapter, linears, asked.ranks, alpha=asked.alpha)
        if len(ranks) < 2 <= len(asked.ranks):
            reason = next(iter(missing.values()))
            return {s.claim: f"of ranks {list(asked.ranks)} only {list(ranks)} can be had: {reason}" for s in members}
        followed, notes = follow(
            members, adapter, problem=asked.problem, seen=asked.seen, ranks=ranks, draws=asked.draws, alpha=asked.alpha, seed=asked.seed,
            lr=lr, progress=progress,
        )  # fmt: skip
    except RsverifyError as error:
        return {s.claim: str(error) for s in members}
    notes += tuple(f"rank {rank} is left out: {reason}" for rank, reason in missing.items())
    answers: dict[Claim, Measurement | str] = {}
    for s in members:
        layers, claim = followed[s.claim].values, s.claim
        if claim.statistic == "rms" and not is_signed(claim) and claim.quantity != "gradient_norm":
            layers = layers / followed[claim].entries[None, :, None]
        if not layers.any():
            answers[claim] = _nothing(s, asked, ranks, draws=layers.shape[2], lr=lr)
            continue
        own = notes
        if claim.steps > 1:
            own = ("each step is taken on the inputs and signals of the bare model, which a small learning rate leaves as they are", *own)
        answers[claim] = _record(s, layers, asked, ranks, typical=followed[claim].median, limits=None, lr=lr, notes=own)
    return answers


def _key(s: Setting) -> Hashable:
    return s.optimizer.text if s.optimizer.name in DEGREE else (s.optimizer.text, s.rule)


def _unit(s: Setting, ranks: Sequence[int], alpha: float) -> Unit:
    gammas = [1.0] * len(ranks) if s.optimizer.name in DEGREE else s.rule.at(ranks, alpha)
    return Unit(s.optimizer, tuple(gammas))


def _norm(claim: Claim) -> str | None:
    """The contraction beyond the headline rows' that a claim asks for."""
    if is_signed(claim) or claim.steps != 1:
        return None
    if claim.quantity in ("update", "output"):
        return "update"
    return "gradient_down" if claim.factor is not None else "input_gradient"


def _size(asked: Asked, lr: float) -> dict[str, float]:
    layers = asked.seen.layers
    named = {"alpha": asked.alpha, "lr": lr, "layers": len(layers), "tokens": layers[0].tokens, "margin": asked.margin}
    return {name: float(value) for name, value in named.items()}


def _beyond_widths(asked: Asked, ranks: Sequence[int]) -> tuple[int, ...]:
    """The ranks above the least width, where only the effective learning rate grows."""
    least = min(min(layer.G.shape) for layer in asked.seen.layers)
    return tuple(rank for rank in ranks if rank > least)


def _nothing(s: Setting, asked: Asked, ranks: Sequence[int], *, draws: int, lr: float) -> Measurement:
    """The record of a quantity that vanishes identically."""
    points = tuple(Point(rank, 0.0, 0.0, 0.0) for rank in ranks)
    zeros = tuple((0.0,) * len(ranks) for _ in range(draws))
    marked = _beyond_widths(asked, ranks)
    return Measurement(s.claim, None, None, asked.level, points, zeros, asked.problem.name, marked, zero=True, data=_size(asked, lr))


def _record(
    s: Setting, layers: np.ndarray, asked: Asked, ranks: Sequence[int], *, typical: np.ndarray, limits: tuple[float, float] | None,
    lr: float, notes: Sequence[str],
) -> Measurement:  # fmt: skip
    """The record of one claim, from what the layers contribute. Shapes: layers (layers, ranks, draws), typical (ranks,)."""
    claim, level, data = s.claim, asked.level, _size(asked, lr)
    values = combine(claim, layers)
    remarks = [*_epsilon_notes(s, typical, ranks), *notes]
    exponent: float | None = None
    interval: tuple[float, float] | None = None
    if (values <= 0).any():
        share = float((values <= 0).mean())
        remarks.append(f"wrong sign: {share:.0%} of the values are not positive, the step does not go down the loss; no exponent exists")
    elif len(ranks) > 1:
        exponent, interval = per_draw_slope(np.log(ranks).tolist(), np.log(values), level)
        data |= _spread_over_layers(claim, layers, ranks)
        if "layer_exponent_min" in data:
            remarks.append(f"layer by layer the exponent runs from {data['layer_exponent_min']:.3f} to {data['layer_exponent_max']:.3f}")
    return Measurement(
        claim, exponent, interval, level, _curve(claim, values, ranks, level), tuple(map(tuple, values.tolist())), asked.problem.name,
        _beyond_widths(asked, ranks), bracket=limits, data=data, notes=tuple(remarks),
    )  # fmt: skip


def _curve(claim: Claim, values: np.ndarray, ranks: Sequence[int], level: float) -> tuple[Point, ...]:
    """The statistic over draws at each rank: a signed mean for projections, the root of the mean square for the rest.

    A negative loss decrease keeps its sign: a root mean square would hide a step in the wrong direction.
    """
    points = []
    for rank, column in zip(ranks, values.T, strict=True):
        if claim.statistic == "projection" or (column <= 0).any():
            value, (lo, hi) = mean_interval(column, level)
        else:
            centre, (low, high) = log_mean_interval(column**2, level)
            value, lo, hi = math.exp(centre / 2), _exp(low / 2), _exp(high / 2)
        points.append(Point(int(rank), value, lo, hi))
    return tuple(points)


def _exp(value: float) -> float:
    """exp, infinite where two draws at an extreme level leave the upper end open."""
    return math.exp(value) if value < 700 else math.inf


def _spread_over_layers(claim: Claim, layers: np.ndarray, ranks: Sequence[int]) -> dict[str, float]:
    """Least and largest exponent of the single layers, each from its mean over draws."""
    means = layers.mean(axis=2)
    if layers.shape[0] < 2 or (means <= 0).any():
        return {}
    slopes = np.log(means) @ slope_weights(np.log(ranks).tolist()) * (1.0 if is_signed(claim) else 0.5)
    return {"layer_exponent_min": float(slopes.min()), "layer_exponent_max": float(slopes.max())}


def _epsilon_notes(s: Setting, typical: np.ndarray, ranks: Sequence[int]) -> list[str]:
    if "eps" not in s.optimizer.defaults or s.claim.steps == 0:
        return []
    eps = s.optimizer.option("eps")
    hit = [rank for rank, size in zip(ranks, typical, strict=True) if size < EPSILON_REACH * eps]
    if not hit:
        return []
    shown = ", ".join(map(str, hit))
    return [f"epsilon regime at ranks {shown}: median |g| is below {EPSILON_REACH:g} eps (eps={eps:g}); SGD's exponents return there"]
