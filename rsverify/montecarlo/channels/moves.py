"""LoRA as a sum over rank channels: exact for coordinatewise optimizers while A keeps to its init, or shrinks by a factor.

In words: with B_0 = 0 the gradient of B in channel k is gamma V u_k, where u_k = X'a_k is all that the data see of row k of A, and the
gradient of A is zero. A coordinatewise optimizer moves column b_k of B by u_k alone. So after one step, and after any number of
steps where A is frozen, each quantity is a sum over independent channels of a function of u_k: the output at probes is
gamma c sum b_k u'_k. From the second step on a trained A moves by all d_in entries of its gradient: that is the dense engine's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsverify.definitions.optimizers import Optimizer
from rsverify.montecarlo.gram.spans import Span
from rsverify.montecarlo.updates import DECOUPLED, State, apply_step

SIGN = ("signsgd", "lion")
LINEAR = ("sgd", "momentum")
OPTIMIZERS = (*LINEAR, *SIGN, "adam", "adamw", "rmsprop", "adagrad")


def silence(optimizer: Optimizer, *, steps: int, a_trained: bool) -> str | None:
    """Why an optimizer's steps are not a sum over channels; None where they are."""
    if not steps:
        return None
    if optimizer.name not in OPTIMIZERS:
        return f"{optimizer.name} looks at whole matrices: rank channels do not move by themselves"
    if optimizer.option("clip"):
        return "clipping to a global norm ties the rank channels together"
    if a_trained and steps > 1:
        return f"from step 2 on the entries of A move by their own gradients under {optimizer.name}"
    if a_trained and optimizer.option("weight_decay") and optimizer.name not in (*LINEAR, *DECOUPLED):
        return f"the weight decay of {optimizer.name} moves the entries of A by their own sizes"
    return None


def first_step(optimizer: Optimizer, g: np.ndarray) -> np.ndarray:
    """What the first step subtracts for gradient entries g at lr = 1; may write into g.

    Adam's means are g and g**2 once corrected for their start: g / (|g| + eps).
    """
    if optimizer.name in LINEAR:
        return g
    if optimizer.name in SIGN:
        return np.sign(g, out=g)
    eps = optimizer.option("eps")
    size = np.abs(g)
    if optimizer.name == "rmsprop":
        size *= np.sqrt(1 - optimizer.option("alpha"))
    if eps:
        size += eps
        return np.divide(g, size, out=g)
    return np.divide(g, size, out=g, where=size > 0)


def degree(optimizer: Optimizer, steps: int) -> int | None:
    """The a with b(s g) = s**a b(g), so that one pass serves every gamma; None where there is none."""
    eps = optimizer.option("eps") if "eps" in optimizer.defaults else 0.0
    if optimizer.name in LINEAR or not steps:
        return 1
    if steps > 1 and (optimizer.option("weight_decay") or optimizer.name not in SIGN):
        return None
    return None if eps else 0


@dataclass(frozen=True)
class Run:
    """What every channel goes through: data, signals, optimizer. The rate of B has its lr_ratio in it.

    Shapes: V (p, n).
    """

    data: Span
    V: np.ndarray
    optimizer: Optimizer
    lr: float
    steps: int
    a_trained: bool

    @property
    def shrunk(self) -> float:
        """The factor of A after the steps: decay alone moves it."""
        decayed = self.steps and self.a_trained
        return 1.0 - self.lr * self.optimizer.option("weight_decay") if decayed else 1.0

    def gradient(self, z: np.ndarray, scale: float) -> np.ndarray:
        """The gradient of B in each channel, (draws, channels, p); scale is gamma times the spread of A."""
        return (z.reshape(-1, z.shape[2]) @ (scale * (self.data.R @ self.V.T))).reshape(*z.shape[:2], len(self.V))

    def b(self, g: np.ndarray) -> np.ndarray:
        """The columns of B after the steps, for a gradient that stays; may write into g."""
        rate = self.lr * self.optimizer.option("lr_ratio")
        if self.steps == 1:  # B starts at zero: its decay has nothing to act on
            step = first_step(self.optimizer, g)
            return np.multiply(step, -rate, out=step)
        state: State = {}
        now: np.ndarray | None = None
        for t in range(1, self.steps + 1):
            now = apply_step(self.optimizer, {"B": now}, {"B": g.copy()}, state, t=t, lr=self.lr, ups=("B",))["B"]
        return np.zeros_like(g) if now is None else now


@dataclass(frozen=True)
class Term:
    """A sum over channels of one block, and how many gradients and columns of B each product in it has.

    Shapes: value (draws, ...).
    """

    value: np.ndarray
    gradients: int
    columns: int

    def at(self, scale: float, degree: int) -> np.ndarray:
        """The same sum for gradients `scale` times as large."""
        return self.value * scale ** (self.gradients + degree * self.columns)


def terms(run: Run, quantity: str, z: np.ndarray, scale: float) -> tuple[Term, ...]:
    """The sums over the channels of z (draws, channels, k) that a quantity is made of.

    Shapes: output, update: (draws, p, n'). loss_decrease: (draws,). gradients: of B, of A without gamma, (draws,) each.
    input_gradient: in the span (draws, k, n), and the Gram matrix of what is off it (draws, n, n).
    """
    g = run.gradient(z, scale)
    if quantity == "loss_decrease":
        return (Term(-np.einsum("dcp,dcp->d", g, run.b(g.copy())), 1, 1),)
    if quantity == "gradients":
        squares = np.einsum("dcp,dcp->d", g, g)
        back = run.b(g) @ (run.V @ run.data.R.T)
        return Term(squares, 2, 0), Term(np.einsum("dck,dck->d", back, back), 0, 2)
    b = run.b(g)
    if quantity == "input_gradient":
        back = b @ run.V
        return Term(np.swapaxes(z, 1, 2) @ back, 0, 1), Term(np.swapaxes(back, 1, 2) @ back, 0, 2)
    return (Term(np.swapaxes(b, 1, 2) @ (z @ run.data.R_probe), 0, 1),)
