"""The training witness's own updates: one function per optimizer, from gradients to the step before the learning rate.

An update w -= lr * step(g). State lives with the caller, so that a first step from rest is the same code as a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping

import torch
from torch import Tensor

from rsverify.definitions.optimizers import Optimizer

State = MutableMapping[str, Tensor]
Step = Callable[[Optimizer, Tensor, Tensor, State, int], Tensor]


def sgd(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    return g + o.option("weight_decay") * w


def momentum(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    g = g + o.option("weight_decay") * w
    state["m"] = g if t == 1 else o.option("momentum") * state["m"] + g
    return state["m"]


def signsgd(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    return torch.sign(g + o.option("weight_decay") * w)


def lion(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    m = state["m"] if t > 1 else torch.zeros_like(g)
    step = torch.sign(o.option("beta1") * m + (1 - o.option("beta1")) * g) + o.option("weight_decay") * w
    state["m"] = o.option("beta2") * m + (1 - o.option("beta2")) * g
    return step


def _adam(o: Optimizer, g: Tensor, state: State, t: int) -> Tensor:
    b1, b2 = o.option("beta1"), o.option("beta2")
    m = (1 - b1) * g if t == 1 else b1 * state["m"] + (1 - b1) * g
    s = (1 - b2) * g * g if t == 1 else b2 * state["s"] + (1 - b2) * g * g
    state["m"], state["s"] = m, s
    # In place on what is made here alone: each further array is a pass over memory.
    return (m / (1 - b1**t)).div_((s / (1 - b2**t)).sqrt_().add_(o.option("eps")))


def adam(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    return _adam(o, g + o.option("weight_decay") * w, state, t)


def adamw(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    return _adam(o, g, state, t).add_(o.option("weight_decay") * w)


def rmsprop(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    g = g + o.option("weight_decay") * w
    a = o.option("alpha")
    state["s"] = (1 - a) * g * g if t == 1 else a * state["s"] + (1 - a) * g * g
    return g / (state["s"].sqrt() + o.option("eps"))


def adagrad(o: Optimizer, g: Tensor, w: Tensor, state: State, t: int) -> Tensor:
    g = g + o.option("weight_decay") * w
    state["s"] = g * g if t == 1 else state["s"] + g * g
    return g / (state["s"].sqrt() + o.option("eps"))


STEPS: Mapping[str, Step] = {
    "sgd": sgd, "momentum": momentum, "signsgd": signsgd, "lion": lion,
    "adam": adam, "adamw": adamw, "rmsprop": rmsprop, "adagrad": adagrad,
}  # fmt: skip
"""The optimizers that training speaks for."""

DEGREE: Mapping[str, int] = {"sgd": 1, "momentum": 1, "signsgd": 0, "lion": 0}
"""Where the first step is homogeneous in the gradient: step(c g) = c**degree step(g). Epsilon breaks it for the others."""


def silence(optimizer: Optimizer) -> str | None:
    """Why training cannot speak for an optimizer; None where it can."""
    if optimizer.name not in STEPS:
        return f"training has no update for {optimizer.name} yet; it steps with {', '.join(STEPS)}"
    if optimizer.option("clip"):
        return "training does not clip gradients yet: a bound on their global norm couples the layers"
    return None


def first_step(optimizer: Optimizer, g: Tensor) -> Tensor:
    """The first step of a factor that is zero at init, per unit of learning rate: the factor becomes -lr * first_step."""
    return STEPS[optimizer.name](optimizer, g, torch.zeros((), dtype=g.dtype, device=g.device), {}, 1)
