"""Witness 3: what a rule does to adapters on a real transformer, from real inputs and real gradients.

At B = 0 one forward and backward of the bare model serves every rank, rule, optimizer and draw of A (see `probes` and
`firststep`); the numbers equal those of autograd on attached adapters to rounding, which the tests hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, setting
from rsverify.definitions.laws import Zero
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ALPHA, ScalingRule
from rsverify.errors import InputError
from rsverify.records import Claim, Measurement, Point
from rsverify.statistics.intervals import level_for, log_mean_interval, mean_interval, per_draw_slope, slope_weights
from rsverify.training.adapters.contraction import two_factors
from rsverify.training.first_step.closed_form import FirstSteps, Progress, Unit, first_steps
from rsverify.training.first_step.probes import Capture, capture
from rsverify.training.first_step.quantities import ZERO, bracket, combine, is_signed, per_layer
from rsverify.training.model.data import fine_tuning_problem
from rsverify.training.model.device import as_dtype
from rsverify.training.model.problem import Problem
from rsverify.training.optimizers import DEGREE, silence

RANKS = (4, 8, 16, 32, 64, 128, 256)
DRAWS = 32
EPSILON_REACH = 100.0
"""Entries of the gradient below this many epsilons no longer take a sign-like step to a per cent: g / (|g| + eps) < 0.99."""


def measure(
    adapter: Adapter | str,
    rule: ScalingRule | str | Callable[[float, float], float],
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
    """One claim measured on a real model, by default the package's own base on source code.

    Args:
        problem (or model): what to measure on; data: text in the place of sympy's source under the package's base.
        seeds: independent draws of the adapter, at least 2; error_budget, statements: false-failure rate of a whole table
            of so many statements, from which the level of this interval follows.
        lr: multiplies what is per unit of learning rate (all but gradients at init); None = 1.
    Raises: InputError where training is silent on the claim, with the reason.
    """
    asked = setting(adapter, rule, optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime)
    ranks = parse_ranks(ranks)
    asked.rule.at(ranks, alpha)
    problem = problem or model or fine_tuning_problem(seed=seed, device=device, dtype=as_dtype(dtype), text=data)
    level = level_for(error_budget, statements)
    found = measure_all([asked], problem=problem, ranks=ranks, draws=seeds, alpha=alpha, seed=seed, level=level, margin=margin, lr=lr)
    answer = found[asked.claim]
    if isinstance(answer, str):
        raise InputError(f"training cannot measure {asked.claim.quantity} ({asked.claim.statistic}): {answer}")
    return answer


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
    """Every claim in one pass over shared draws of A; a text says why training is silent on a claim.

    Draws are independent between ranks, layers and indices (a stream each); rules and optimizers see the same draws. The
    exponent is the mean over draws of each draw's own log-log slope, its interval Student's at `level`.

    Args: progress is called with (done, total) parts of the pass.
    Raises: InputError for unusable ranks or fewer than 2 draws, RuleError for a rule without a value at some rank.
    """
    ranks = parse_ranks(ranks)
    if draws < 2:
        raise InputError(f"draws={draws}; an interval needs at least 2, and 32 for the default levels")
    answers: dict[Claim, Measurement | str] = {}
    speaking: list[Setting] = []
    for s in settings:
        s.rule.at(ranks, alpha)
        reason = silence(s.optimizer) or _silent_on(s.adapter)
        if reason:
            answers[s.claim] = reason
        else:
            speaking.append(s)
    if not speaking:
        return answers
    seen = capture(problem)
    for adapter, group in itertools.groupby(sorted(speaking, key=lambda s: s.adapter.name), key=lambda s: s.adapter):
        mine = list(group)
        factors = two_factors(adapter)
        assert factors is not None
        units = {_key(s): _unit(s, ranks, alpha) for s in mine}
        context = any(not _headline_only(s.claim) for s in mine)
        raw = first_steps(seen, adapter, units, ranks=ranks, draws=draws, seed=seed, factors=factors, context=context, progress=progress)
        for s in mine:
            answers[s.claim] = _answer(
                s,
                raw[_key(s)],
                seen=seen,
                problem=problem,
                ranks=ranks,
                alpha=alpha,
                level=level,
                margin=margin,
                lr=1.0 if lr is None else lr,
            )
    return {s.claim: answers[s.claim] for s in settings}


def _silent_on(adapter: Adapter) -> str | None:
    pair = two_factors(adapter)
    if pair is None:
        return f"training measures two-factor adapters (up times down); {adapter.name} is {adapter.expression!r}"
    up, down = (adapter.laws[name] for name in pair)
    if not isinstance(up, Zero) or not up.trainable or isinstance(down, Zero):
        return f"training measures adapters whose up-factor alone is zero at init and trained; {adapter.name} has {adapter.init}"
    if down.absorbs_gamma:
        return f"one draw of A serves every rule, but {pair[1]}={down.text()} absorbs the rule's own gamma"
    return None


def _key(s: Setting) -> Hashable:
    return s.optimizer.text if s.optimizer.name in DEGREE else (s.optimizer.text, s.rule)


def _unit(s: Setting, ranks: Sequence[int], alpha: float) -> Unit:
    gammas = [1.0] * len(ranks) if s.optimizer.name in DEGREE else s.rule.at(ranks, alpha)
    return Unit(s.optimizer, tuple(gammas))


def _headline_only(claim: Claim) -> bool:
    return is_signed(claim) or claim.steps == 0


def _answer(
    s: Setting,
    raw: FirstSteps,
    *,
    seen: Capture,
    problem: Problem,
    ranks: Sequence[int],
    alpha: float,
    level: float,
    margin: float,
    lr: float,
) -> Measurement | str:
    """The record of one claim, from the contractions of its unit."""
    claim, degree = s.claim, DEGREE.get(s.optimizer.name, 0)
    gammas = np.asarray(s.rule.at(ranks, alpha))
    factors = two_factors(s.adapter)
    assert factors is not None
    layers = per_layer(claim, raw, capture=seen, gammas=gammas, degree=degree, ranks=np.asarray(ranks, float), factors=factors)
    if isinstance(layers, str) and layers != ZERO:
        return layers
    widths = [min(layer.G.shape) for layer in seen.layers]
    marked = tuple(rank for rank in ranks if rank > min(widths))
    size = {"alpha": float(alpha), "lr": lr, "layers": float(len(widths)), "tokens": float(seen.layers[0].tokens), "margin": margin}
    if isinstance(layers, str):
        points = tuple(Point(rank, 0.0, 0.0, 0.0) for rank in ranks)
        zeros = tuple((0.0,) * len(ranks) for _ in range(raw.gradient.shape[2]))
        return Measurement(claim, None, None, level, points, zeros, problem.name, marked, zero=True, data=size)
    if claim.steps:
        layers = layers * (lr if is_signed(claim) else lr * lr)
    values = combine(claim, layers)
    notes = _epsilon_notes(s, raw, gammas, ranks)
    exponent: float | None = None
    interval: tuple[float, float] | None = None
    if (values <= 0).any():
        share = float((values <= 0).mean())
        notes.append(f"wrong sign: {share:.0%} of the values are not positive, the step does not go down the loss; no exponent exists")
    elif len(ranks) > 1:
        exponent, interval = per_draw_slope(np.log(ranks).tolist(), np.log(values), level)
        size |= _spread_over_layers(claim, layers, ranks)
        if "layer_exponent_min" in size:
            notes.append(f"layer by layer the exponent runs from {size['layer_exponent_min']:.3f} to {size['layer_exponent_max']:.3f}")
    given_epsilon = s.optimizer.given.get("eps", 0.0) > 0
    return Measurement(
        claim, exponent, interval, level, _curve(claim, values, ranks, level), tuple(map(tuple, values.tolist())), problem.name, marked,
        bracket=None if given_epsilon else bracket(claim, s.rule, degree=degree), data=size, notes=tuple(notes),
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


def _epsilon_notes(s: Setting, raw: FirstSteps, gammas: np.ndarray, ranks: Sequence[int]) -> list[str]:
    if "eps" not in s.optimizer.defaults or s.claim.steps == 0:
        return []
    eps = s.optimizer.option("eps")
    typical = np.median(raw.median, axis=0) * gammas
    hit = [rank for rank, size in zip(ranks, typical, strict=True) if size < EPSILON_REACH * eps]
    if not hit:
        return []
    shown = ", ".join(map(str, hit))
    return [f"epsilon regime at ranks {shown}: median |g| is below {EPSILON_REACH:g} eps (eps={eps:g}); SGD's exponents return there"]
