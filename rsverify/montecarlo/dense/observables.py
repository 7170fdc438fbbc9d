"""From trained draws to one number per draw, whose mean over draws is the statistic (its square, its log)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsverify.definitions.claims import Setting
from rsverify.errors import InputError
from rsverify.montecarlo.dense.engine import Engine, Factors
from rsverify.montecarlo.problem import Problem
from rsverify.records import Claim


@dataclass(frozen=True)
class Observed:
    """One number per draw; `vanishes` where the quantity is identically zero; `typical` is the median gradient entry."""

    values: np.ndarray
    vanishes: bool
    typical: float


def check_askable(setting: Setting) -> None:
    """Refuse what has no meaning, before anything is drawn."""
    claim, adapter = setting.claim, setting.adapter
    if claim.factor is not None and claim.factor not in adapter.trainable:
        raise InputError(
            f"quantity={claim.quantity!r}: factor {claim.factor} is frozen and has no gradient; trained are {adapter.trainable}"
        )
    if claim.statistic == "projection" and (claim.quantity == "gradient_norm" or claim.factor):
        raise InputError(f"statistic='projection' of {claim.quantity}: no direction belongs to it; ask for rms, frobenius or log")


def observe(setting: Setting, engine: Engine, problem: Problem, factors: Factors, *, lr: float, draws: int) -> Observed:
    """The claim's number for each of the draws."""
    return observe_all([setting], engine, problem, factors, lr=lr, draws=draws)[0]


def observe_all(
    settings: Sequence[Setting], engine: Engine, problem: Problem, factors: Factors, *, lr: float, draws: int
) -> list[Observed]:  # fmt: skip
    """The numbers of claims that differ in what is looked at alone: one training serves all."""
    first = settings[0]
    after = engine.train(factors, problem, first.optimizer, steps=first.claim.steps, lr=lr, draws=draws)
    return [_seen(setting, engine, problem, factors, after, draws) for setting in settings]


def _seen(setting: Setting, engine: Engine, problem: Problem, factors: Factors, after: Factors, draws: int) -> Observed:
    claim = setting.claim
    typical = np.inf
    if "eps" in setting.optimizer.defaults and claim.steps:
        one = {name: None if w is None else w[:1] for name, w in factors.items()}
        first = [np.abs(g.ravel()[:: 1 + g.size // 1000]) for g in engine.gradients(one, problem, 1).values() if g is not None]
        typical = min((float(np.median(g)) for g in first), default=np.inf)
    if claim.quantity == "gradient_norm" or claim.factor:
        gradients = engine.gradients(after, problem, draws)
        arrays = [gradients[claim.factor]] if claim.factor else list(gradients.values())
        squares = sum((_squares(g) for g in arrays if g is not None), np.zeros(draws))
        shapes = engine.adapter.shapes(engine.rank, engine.d_in, engine.d_out)
        # The norm of all factors is one number: its rms is over draws alone. A single factor's gradient has entries.
        entries = int(np.prod(shapes[claim.factor])) if claim.factor else 1
        return Observed(_reduce(squares, None, entries, claim), all(g is None for g in arrays), typical)
    y, along = _vector(claim, engine, problem, factors, after, draws)
    if y is None:
        return Observed(np.zeros(draws), True, typical)
    component = y @ along if y.ndim == 2 else np.einsum("npi,pi->n", y, along) / y.shape[2]  # the mean over samples
    return Observed(_reduce(_squares(y), component, math.prod(y.shape[1:]), claim), not y.any(), typical)


def _vector(
    claim: Claim, engine: Engine, problem: Problem, before: Factors, after: Factors, draws: int
) -> tuple[np.ndarray | None, np.ndarray]:
    down = -problem.v / np.linalg.norm(problem.v, axis=0)
    if claim.quantity == "output":
        return engine.output(after, problem.x_probe), down
    if claim.quantity == "update":
        return _difference(engine.output(after, problem.x_probe), engine.output(before, problem.x_probe)), down
    if claim.quantity == "input_gradient":
        return engine.input_gradient(after, problem.v), problem.x / np.linalg.norm(problem.x, axis=0)
    gradients = engine.gradients(before, problem, draws)
    decrease = np.zeros(draws)
    for name, gradient in gradients.items():
        moved = _difference(after[name], before[name])
        if gradient is not None and moved is not None:
            decrease -= np.einsum("nk,nk->n", gradient.reshape(draws, -1), moved.reshape(draws, -1))
    return decrease[:, None], np.ones(1)


def _difference(after: np.ndarray | None, before: np.ndarray | None) -> np.ndarray | None:
    if after is None or before is None:
        return after if before is None else -before
    return None if after is before else after - before


def _squares(y: np.ndarray) -> np.ndarray:
    flat = y.reshape(len(y), -1)
    return np.einsum("nk,nk->n", flat, flat)


def _reduce(squares: np.ndarray, component: np.ndarray | None, entries: int, claim: Claim) -> np.ndarray:
    if claim.statistic == "projection":
        assert component is not None
        return component
    if claim.statistic == "frobenius":
        return squares
    if claim.statistic == "log":
        with np.errstate(divide="ignore"):
            return 0.5 * np.log(squares / entries)
    return squares / entries
