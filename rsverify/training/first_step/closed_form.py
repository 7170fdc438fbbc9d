"""The first optimizer step of every rank, draw, rule and optimizer from one backward of the bare model.

With B = 0 the gradient of B is gamma H, H = G A' (H is d_out x r), and the step makes B = -lr S, S the optimizer's first
step. Every quantity is then a contraction of H, S, A and three small matrices of the layer (G = V'X, X'X, V'V); no output
of an adapter is materialised. Kept transposed (r rows), all draws of a rank share one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.training.adapters.contraction import draw_factors
from rsverify.training.first_step.probes import Capture, LayerProbe
from rsverify.training.optimizers import DEGREE, first_step

CHUNK = 1_000_000
"""Entries of the largest stacked matrix of one chunk of draws: 8 MB in float64; smaller ones are all overhead."""
NORMS = frozenset({"update", "input_gradient", "gradient_down"})
"""The contractions that cost matrix products of their own, each made only where a claim asks for it."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Unit:
    """An optimizer with the factor at each rank; one unit serves all rules where the step is homogeneous in the gradient."""

    optimizer: Optimizer
    gammas: tuple[float, ...]


@dataclass
class FirstSteps:
    """Raw contractions of a unit, gamma = 1 outside S and lr = 1: `S` is the step taken for the gradient gamma H.

    Shapes: all (layers, ranks, draws) but `median` (layers, ranks).
    In words: gradient = |H|^2, decrease = <H, S>, update = |S A X'|^2, input_gradient = |V S A|^2,
    gradient_down = |S'G|^2 (squares of Frobenius norms), median = median |H_ij| of the first draw.
    """

    gradient: np.ndarray
    decrease: np.ndarray
    update: np.ndarray
    input_gradient: np.ndarray
    gradient_down: np.ndarray
    median: np.ndarray


def _zeros(capture: Capture, ranks: int, draws: int) -> dict[str, Tensor]:
    """The fields of `FirstSteps` on the device where they are computed: the host reads them once, when all are there."""
    shape, device = (len(capture.layers), ranks, draws), capture.layers[0].G.device
    names = [field.name for field in fields(FirstSteps)]
    return {name: torch.zeros(shape[:2] if name == "median" else shape, dtype=torch.float64, device=device) for name in names}


def first_steps(
    capture: Capture,
    adapter: Adapter,
    units: Mapping[Hashable, Unit],
    *,
    ranks: Sequence[int],
    draws: int,
    seed: int,
    factors: tuple[str, str],
    norms: frozenset[str] = NORMS,
    progress: Progress | None = None,
) -> dict[Hashable, FirstSteps]:
    """The raw contractions of every unit, all on the same draws: one independent A for each (rank, draw, layer).

    Args: factors names (up, down), up zero at init; norms of NORMS are made, the others stay zero.
    """
    _, down = factors
    sums = {key: _zeros(capture, len(ranks), draws) for key in units}
    for i, layer in enumerate(capture.layers):
        d_out, d_in = layer.G.shape
        seen = _Seen(layer)
        for j, rank in enumerate(ranks):
            size = max(1, CHUNK // (rank * max(d_in, d_out)))
            for start in range(0, draws, size):
                part = slice(start, min(start + size, draws))
                drawn = np.stack(
                    [
                        draw_factors(adapter, rank=rank, d_in=d_in, d_out=d_out, seed=seed, draw=draw, layer=layer.name)[down]
                        for draw in range(part.start, part.stop)
                    ]
                )
                A = torch.from_numpy(drawn).to(layer.G.device, layer.G.dtype)
                _chunk(seen, A, units, sums, place=(i, j, part), norms=norms)
            if progress:
                progress(i * len(ranks) + j + 1, len(capture.layers) * len(ranks))
    return {key: FirstSteps(**{name: value.cpu().numpy() for name, value in sums[key].items()}) for key in units}


@dataclass(frozen=True)
class _Seen:
    """A layer's matrices, and those products of them that linear steps contract with, each made once.

    Shapes: G (d_out, d_in); the rest (d_in, d_in) but VV (d_out, d_out).
    """

    layer: LayerProbe

    @cached_property
    def G(self) -> Tensor:
        return self.layer.G

    @cached_property
    def XX(self) -> Tensor:
        return self.layer.XX

    @cached_property
    def VV(self) -> Tensor:
        return self.layer.VV

    @cached_property
    def GG(self) -> Tensor:
        return self.G.T @ self.G

    @cached_property
    def GGGG(self) -> Tensor:
        return self.GG @ self.GG

    @cached_property
    def GVVG(self) -> Tensor:
        return self.G.T @ (self.VV @ self.G)


def _chunk(
    seen: _Seen,
    A: Tensor,
    units: Mapping[Hashable, Unit],
    sums: Mapping[Hashable, Mapping[str, Tensor]],
    *,
    place: tuple[int, int, slice],
    norms: frozenset[str],
) -> None:
    """Shapes: A (draws, r, d_in)."""
    i, j, part = place
    H = A @ seen.G.T  # (draws, r, d_out)
    gradient, median = _square(H), H[0].abs().median()
    for key, unit in units.items():
        into, gamma = sums[key], unit.gammas[j]
        into["gradient"][i, j, part] = gradient
        into["median"][i, j] = median
        ratio = unit.optimizer.option("lr_ratio")
        # A linear step keeps to H: its norms are those of A'A, whatever the step's factor.
        if DEGREE.get(unit.optimizer.name) == 1 and _linear_is_cheaper(A, H):
            into["decrease"][i, j, part] = ratio * gamma * gradient
            for name, value in _linear_norms(seen, A, norms).items():
                into[name][i, j, part] = (ratio * gamma) ** 2 * value
            continue
        S = first_step(unit.optimizer, gamma * H)
        if ratio != 1.0:
            S = ratio * S
        into["decrease"][i, j, part] = _dot(H, S)
        for name, value in _norms(seen, A, S, norms).items():
            into[name][i, j, part] = value


def _norms(seen: _Seen, A: Tensor, S: Tensor, norms: frozenset[str]) -> dict[str, Tensor]:
    """The contractions of any step S, by r x r Gram matrices or by the d_out x d_in product S'A, whichever is cheaper."""
    r, d_in, d_out = A.shape[1], A.shape[2], S.shape[2]
    values: dict[str, Tensor] = {}
    if "gradient_down" in norms:
        values["gradient_down"] = _square(S @ seen.G)
    if not norms - {"gradient_down"}:
        return values
    grams = d_in * r * (d_in + 2 * r) + 2 * r * r * d_out + r * d_out * d_out
    if grams < r * d_in * d_out + d_in * d_out * (d_in + d_out):
        if "update" in norms:
            values["update"] = _dot((A @ seen.XX) @ A.mT, S @ S.mT)
        if "input_gradient" in norms:
            values["input_gradient"] = _dot(A @ A.mT, (S @ seen.VV) @ S.mT)
        return values
    M = S.mT @ A
    if "update" in norms:
        values["update"] = _dot(M @ seen.XX, M)
    if "input_gradient" in norms:
        values["input_gradient"] = _dot(seen.VV @ M, M)
    return values


def _linear_is_cheaper(A: Tensor, H: Tensor) -> bool:
    r, d_in, d_out = A.shape[1], A.shape[2], H.shape[2]
    grams = d_in * r * (d_in + 2 * r) + 2 * r * r * d_out + r * d_out * d_out
    return d_in * d_in * (r + 3 * d_in) < min(grams, r * d_in * d_out + d_in * d_out * (d_in + d_out))


def _linear_norms(seen: _Seen, A: Tensor, norms: frozenset[str]) -> dict[str, Tensor]:
    """The contractions of S = H = A G', in K = A'A: S'A = G K, so that |X A'S|**2 = <K X'X K, G'G>, and so on."""
    K = A.mT @ A
    values: dict[str, Tensor] = {}
    if "gradient_down" in norms:
        values["gradient_down"] = _dot(K, seen.GGGG.expand_as(K))
    if "update" in norms:
        values["update"] = _dot(K @ seen.XX @ K, seen.GG.expand_as(K))
    if "input_gradient" in norms:
        values["input_gradient"] = _dot(K @ K, seen.GVVG.expand_as(K))
    return values


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two matrices for each draw, without their product in memory."""
    return torch.linalg.vecdot(a.flatten(1), b.flatten(1))


def _square(values: Tensor) -> Tensor:
    return _dot(values, values)
