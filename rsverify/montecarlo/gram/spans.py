"""LoRA's training in the span of the data: exact for SGD, momentum, weight decay, clipping, whatever rank and width.

In words: let the columns of Q be an orthonormal basis of the samples and probes, X = Q R. With B_0 = 0 every step keeps

    B_t = P_t (A_0 Q)',    A_t Q = (A_0 Q) M_t,    A_t = c_t A_0 off the span of Q,

so that the outputs are gamma P W M R with W = Q'A_0'A_0 Q (k x k, k at most the number of columns), and A_0 enters through W
alone. With V_t the gradient of the loss at the outputs (p x n), the gradients of the two factors move

    P by gamma V_t R' M',    M by gamma P' V_t R',

their squared norms being tr(gP W gP') and tr(gM' W gM). Where V_t is given (a linear loss), P and M are the same for every
draw. Derived here; the tests hold it against plain loops over A and B.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import InputError
from rsverify.statistics.rounding import gamma_n

OPTIMIZERS = ("sgd", "momentum", "normalized-sgd")


@dataclass(frozen=True)
class Span:
    """Samples and probes in an orthonormal basis of their span.

    Shapes: Q (d_in, k), R (k, n) the samples, R_probe (k, n') the probes.
    """

    Q: np.ndarray
    R: np.ndarray
    R_probe: np.ndarray


def span(X: np.ndarray, X_probe: np.ndarray | None = None) -> Span:
    """The basis by Gram and Schmidt, in the order of the columns; a column that depends on those before adds nothing.

    Shapes: X (d_in, n), X_probe (d_in, n'). Raises: InputError for another shape or values that are not finite.
    """
    X_probe = X if X_probe is None else X_probe
    for name, array in (("X", X), ("X_probe", X_probe)):
        if array.ndim != 2 or len(array) != len(X) or not np.isfinite(array).all():
            raise InputError(f"{name} has shape {array.shape}; expected finite numbers, one column per sample, {len(X)} rows")
    # What is left of a dependent column is rounding: some d_in operations on numbers of its size, done twice.
    rounding = 4 * gamma_n(len(X) + X.shape[1] + X_probe.shape[1])
    Q = np.empty((len(X), 0))
    for column in np.concatenate([X, X_probe], axis=1).T:
        left = column - Q @ (Q.T @ column)
        left -= Q @ (Q.T @ left)  # once more: one pass loses orthogonality where columns are nearly dependent
        if (norm := float(np.linalg.norm(left))) > rounding * float(np.linalg.norm(column)):
            Q = np.concatenate([Q, left[:, None] / norm], axis=1)
    return Span(Q, Q.T @ X, Q.T @ X_probe)


class Loss(ABC):
    """The gradient V (p, n) of a batch's loss at the outputs of all samples; zero columns for samples outside the batch."""

    needs_outputs: bool

    @abstractmethod
    def signal(self, t: int, outputs: np.ndarray | None) -> np.ndarray:
        """V at step t (from 1), from the outputs (draws, p, n) where it needs them."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(p, n)."""


@dataclass(frozen=True)
class Linear(Loss):
    """A loss that is linear in the outputs: its gradient is given, the same at every step or one for each.

    Shapes: signals (p, n) or (steps, p, n). Raises: InputError for another shape, or for a step that has no signal.
    """

    signals: np.ndarray
    needs_outputs = False

    def __post_init__(self) -> None:
        if self.signals.ndim not in (2, 3) or not np.isfinite(self.signals).all():
            raise InputError(f"signals have shape {self.signals.shape}; expected finite numbers of shape (p, n) or (steps, p, n)")

    def signal(self, t: int, outputs: np.ndarray | None) -> np.ndarray:
        if self.signals.ndim == 3 and t > len(self.signals):
            raise InputError(f"step {t} has no signal: {len(self.signals)} were given; give one per step, or one of shape (p, n) for all")
        return self.signals if self.signals.ndim == 2 else self.signals[t - 1]

    @property
    def shape(self) -> tuple[int, int]:
        return self.signals.shape[-2], self.signals.shape[-1]


@dataclass(frozen=True)
class SquaredError(Loss):
    """Half the mean squared error of a batch: V = (outputs - targets) / batch size on the batch's samples.

    Args: batches holds the samples of each step's batch, cycled; all samples where it is empty. Shapes: targets (p, n).
    """

    targets: np.ndarray
    batches: tuple[tuple[int, ...], ...] = field(default=())
    needs_outputs = True

    def __post_init__(self) -> None:
        if self.targets.ndim != 2 or not np.isfinite(self.targets).all():
            raise InputError(f"targets have shape {self.targets.shape}; expected finite numbers of shape (p, n)")
        n = self.targets.shape[1]
        for batch in self.batches:
            if not batch or not all(0 <= i < n for i in batch) or len(set(batch)) < len(batch):
                raise InputError(f"batch={batch}; expected at least one sample, none twice, each from 0 to {n - 1}")

    def signal(self, t: int, outputs: np.ndarray | None) -> np.ndarray:
        assert outputs is not None
        n = self.targets.shape[1]
        batch = list(self.batches[(t - 1) % len(self.batches)]) if self.batches else list(range(n))
        found = np.zeros_like(outputs)
        found[..., batch] = (outputs - self.targets)[..., batch] / len(batch)
        return found

    @property
    def shape(self) -> tuple[int, int]:
        return self.targets.shape[0], self.targets.shape[1]


@dataclass(frozen=True)
class State:
    """Where training is: P (p, k), M (k, k), the factor c of A_0 off the span, one for all draws or (draws, ...) each.

    `moments` are the running means that momentum keeps of the three; `diverged` is the first step that was not finite.
    """

    P: np.ndarray
    M: np.ndarray
    c: float = 1.0
    moments: tuple[np.ndarray | float, np.ndarray | float, float] = (0.0, 0.0, 0.0)
    diverged: int | None = None


def outputs(state: State, W: np.ndarray, columns: np.ndarray, gamma: float) -> np.ndarray:
    """gamma B_t A_t x for the data whose coordinates are the columns.

    Shapes: W (draws, k, k), columns (k, m) -> (draws, p, m).
    """
    if state.P.ndim > 2:
        return gamma * (state.P @ (W @ (state.M @ columns)))
    # One state for all draws: two products of tall matrices in place of two small ones for each draw.
    draws, k, m = len(W), len(columns), columns.shape[1]
    seen = (W.reshape(draws * k, k) @ (state.M @ columns)).reshape(draws, k, m)
    return np.swapaxes((np.swapaxes(seen, 1, 2).reshape(draws * m, k) @ (gamma * state.P.T)).reshape(draws, m, len(state.P)), 1, 2)


def gradients(state: State, R: np.ndarray, V: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """What the gradients of B and of A are in place of P and M: G_B = gP (A_0 Q)', G_A = (A_0 Q) gM Q'."""
    VR = gamma * (V @ R.T)
    return VR @ np.swapaxes(state.M, -1, -2), np.swapaxes(state.P, -1, -2) @ VR


def squared_norms(gP: np.ndarray, gM: np.ndarray, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|G_B|**2 and |G_A|**2 of every draw."""
    return ((gP @ W) * gP).sum(axis=(-2, -1)), ((W @ gM) * gM).sum(axis=(-2, -1))


def depends_on_draw(loss: Loss, optimizer: Optimizer) -> bool:
    """Whether P and M differ between draws: where the loss sees outputs, or a step sees the gradients' norms."""
    return loss.needs_outputs or optimizer.name == "normalized-sgd" or bool(optimizer.option("clip"))


def train(
    R: np.ndarray, loss: Loss, optimizer: Optimizer, *, gamma: float, lr: float, steps: int, W: np.ndarray | None = None,
    trained: tuple[bool, bool] = (True, True),
) -> State:  # fmt: skip
    """The state after the steps.

    Args: W (draws, k, k) is needed where `depends_on_draw`; trained says whether B and A move.
    Raises: InputError for an optimizer whose step leaves the span, or has an option without meaning.
    """
    if steps and optimizer.name not in OPTIMIZERS:
        raise InputError(f"optimizer={optimizer.text!r}: its steps leave the span of the data; known here are {', '.join(OPTIMIZERS)}")
    decay, mu = optimizer.option("weight_decay"), optimizer.option("momentum") if optimizer.name == "momentum" else 0.0
    if decay and optimizer.name == "normalized-sgd":
        raise InputError(f"optimizer {optimizer.text!r}: normalized-sgd has no weight decay here")
    if steps and depends_on_draw(loss, optimizer) and W is None:
        raise InputError("this loss or optimizer depends on the draw; W must be given")
    p, k = loss.shape[0], len(R)
    state = State(np.zeros((p, k)), np.eye(k))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(1, steps + 1):
            seen = outputs(state, W, R, gamma) if loss.needs_outputs and W is not None else None
            gP, gM = gradients(state, R, loss.signal(t, seen), gamma)
            if W is not None:
                gP, gM = _scaled(optimizer, gP, gM, W, trained)
            state = _step(state, gP, gM, decay=decay, mu=mu, rates=(lr * optimizer.option("lr_ratio"), lr), trained=trained)
            if state.diverged is None and not (np.isfinite(state.P).all() and np.isfinite(state.M).all()):
                state = State(state.P, state.M, state.c, state.moments, t)
    return state


def _step(
    state: State, gP: np.ndarray, gM: np.ndarray, *, decay: float, mu: float, rates: tuple[float, float], trained: tuple[bool, bool]
) -> State:
    # Coupled decay adds a multiple of the factor to its gradient; momentum sums what results.
    mP, mM, mc = (
        mu * m + g + decay * w
        for m, g, w in zip(state.moments, (gP, gM, 0.0), (state.P, state.M, state.c), strict=True)
    )  # fmt: skip
    up, down = (rate if moves else 0.0 for rate, moves in zip(rates, trained, strict=True))
    return State(state.P - up * mP, state.M - down * mM, state.c - down * float(mc), (mP, mM, float(mc)), state.diverged)


def _scaled(
    optimizer: Optimizer, gP: np.ndarray, gM: np.ndarray, W: np.ndarray, trained: tuple[bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Clipped to a global norm, then normalised, as the optimizer says."""
    clip = optimizer.option("clip")
    if not clip and optimizer.name != "normalized-sgd":
        return gP, gM
    squares = sum(s for s, moves in zip(squared_norms(gP, gM, W), trained, strict=True) if moves)
    norm = np.sqrt(np.maximum(squares, 0.0))
    scale = np.ones_like(norm)
    if clip:
        scale = np.minimum(1.0, np.divide(clip, norm, out=np.full_like(norm, np.inf), where=norm > 0))
    if optimizer.name == "normalized-sgd":
        norm = norm * scale
        scale = scale * np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
    return gP * scale[:, None, None], gM * scale[:, None, None]
