"""From a state of the Gram engine to the claim's number per draw, written apart from the dense engine's `observables`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsverify.definitions.laws import Law
from rsverify.montecarlo.gram import spans
from rsverify.records import Claim


@dataclass(frozen=True)
class Factors:
    """The names of LoRA's two factors in an adapter, the law of A without its `frozen`, and whether B and A are trained."""

    B: str
    A: str
    law: Law
    trained: tuple[bool, bool]


def needs_off_span(claim: Claim) -> bool:
    """Whether a claim sees A_0 off the span of the data: only what the adapter passes to its input does."""
    return claim.quantity == "input_gradient"


def off_span_draws(rng: np.random.Generator, draws: int, outside: int, samples: int) -> np.ndarray:
    """Chi-square variables of as many degrees as there are directions off the span, (draws, samples)."""
    return 2 * rng.standard_gamma(outside / 2, (draws, samples)) if outside else np.zeros((draws, samples))


@dataclass(frozen=True)
class Seen:
    """What is looked at: a claim, at one rank, on given data; W below has A's spread in it.

    Shapes: V (p, n).
    """

    claim: Claim
    factors: Factors
    trained: tuple[str, ...]
    data: spans.Span
    V: np.ndarray
    rank: int
    gamma: float
    spread: float

    def numbers(self, state: spans.State, W: np.ndarray, off_span: np.ndarray | None) -> tuple[np.ndarray, bool]:
        """The claim's number of each draw, and whether all vanish."""
        if self.claim.quantity == "gradient_norm" or self.claim.factor:
            return self._gradients(state, W)
        if self.claim.quantity == "loss_decrease":
            return self._loss_decrease(state, W)
        if self.claim.quantity == "input_gradient":
            assert off_span is not None
            return self._input_gradient(state, W, off_span)
        y = spans.outputs(state, W, self.data.R_probe, self.gamma)  # before training the output is zero: it is its own update
        along = -self.V / np.linalg.norm(self.V, axis=0)
        component = mean_component(y, along) if self.claim.statistic == "projection" else None
        squares = np.square(y).sum(axis=(1, 2))
        return reduced(self.claim, squares, component, y.shape[1] * y.shape[2]), not squares.any() and not y.any()

    def _gradients(self, state: spans.State, W: np.ndarray) -> tuple[np.ndarray, bool]:
        norms = spans.squared_norms(*spans.gradients(state, self.data.R, self.V, self.gamma), W)
        squares = dict(zip((self.factors.B, self.factors.A), norms, strict=True))
        sizes = {self.factors.B: len(self.V) * self.rank, self.factors.A: self.rank * len(self.data.Q)}
        names = [self.claim.factor] if self.claim.factor else list(self.trained)
        total = sum((squares[name] for name in names), np.zeros(len(W)))
        # The norm of all factors is one number: its rms is over draws alone.
        return reduced(self.claim, total, None, sizes[self.claim.factor] if self.claim.factor else 1), not total.any()

    def _loss_decrease(self, state: spans.State, W: np.ndarray) -> tuple[np.ndarray, bool]:
        # Of the gradient at init only B's part is not zero, and B starts at zero: -<G_B, B_t>.
        first = self.gamma * (self.V @ self.data.R.T)
        decrease = -((first @ W) * state.P).sum(axis=(-2, -1))
        return reduced(self.claim, decrease**2, decrease, 1), not decrease.any()

    def _input_gradient(self, state: spans.State, W: np.ndarray, off_span: np.ndarray) -> tuple[np.ndarray, bool]:
        # A_t' B_t' v: in the span M' W P' v; off it c A_0' (A_0 Q) P' v, given W normal with covariance
        # spread**2 v' P W P' v, for several v a matrix with that Gram matrix: sums of its eigenvalues times chi squares.
        PV = np.swapaxes(state.P, -1, -2) @ self.V
        inside = self.gamma * (np.swapaxes(state.M, -1, -2) @ (W @ PV))
        covariance = np.swapaxes(PV, -1, -2) @ W @ PV
        if np.isfinite(covariance).all():
            eigenvalues = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
        else:
            eigenvalues = np.full(covariance.shape[:-1], np.inf)
        outside = (self.gamma * state.c * self.spread) ** 2 * (eigenvalues * off_span).sum(axis=-1)
        along = self.data.R / np.linalg.norm(self.data.R, axis=0)
        total = np.einsum("nki,nki->n", inside, inside) + outside
        return reduced(self.claim, total, mean_component(inside, along), len(self.data.Q) * self.V.shape[1]), not total.any()


def reduced(claim: Claim, squares: np.ndarray, component: np.ndarray | None, entries: int) -> np.ndarray:
    """The number of each draw that a claim's statistic asks for, from squared norms and signed components."""
    if claim.statistic == "projection":
        assert component is not None
        return component
    if claim.statistic == "frobenius":
        return squares
    if claim.statistic == "log":
        with np.errstate(divide="ignore"):
            return 0.5 * np.log(squares / entries)
    return squares / entries


def mean_component(y: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The mean over samples of the component along a direction of each.

    Shapes: y (draws, m, n), along (m, n) -> (draws,).
    """
    return np.einsum("npi,pi->n", y, along) / y.shape[2]
