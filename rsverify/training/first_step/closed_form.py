"""The first optimizer step of every rank, draw, rule and optimizer from one backward of the bare model.

With B = 0 the gradient of B is gamma H, H = G A' (H is d_out x r), and the step makes B = -lr S, S the optimizer's first
step. Every quantity is then a contraction of H, S, A and three small matrices of the layer (G = V'X, X'X, V'V); no output
of an adapter is materialised. Kept transposed (r rows), all draws of a rank share one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.training.adapters.contraction import draw_factors
from rsverify.training.first_step.probes import Capture, LayerProbe
from rsverify.training.optimizers import first_step

CHUNK = 1_000_000
"""Entries of the largest stacked matrix of one chunk of draws: 8 MB in float64."""

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
    context: bool = True,
    progress: Progress | None = None,
) -> dict[Hashable, FirstSteps]:
    """The raw contractions of every unit, all on the same draws: one independent A for each (rank, draw, layer).

    Args: factors names (up, down), up zero at init; context=False leaves out what only the rms rows need.
    """
    _, down = factors
    sums = {key: _zeros(capture, len(ranks), draws) for key in units}
    for i, layer in enumerate(capture.layers):
        d_out, d_in = layer.G.shape
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
                _chunk(layer, A, units, sums, place=(i, j, part), context=context)
            if progress:
                progress(i * len(ranks) + j + 1, len(capture.layers) * len(ranks))
    return {key: FirstSteps(**{name: value.cpu().numpy() for name, value in sums[key].items()}) for key in units}


def _chunk(
    layer: LayerProbe,
    A: Tensor,
    units: Mapping[Hashable, Unit],
    sums: Mapping[Hashable, Mapping[str, Tensor]],
    *,
    place: tuple[int, int, slice],
    context: bool,
) -> None:
    """Shapes: A (draws, r, d_in)."""
    i, j, part = place
    H = A @ layer.G.T  # (draws, r, d_out)
    gradient, median = _square(H), H[0].abs().median()
    # Two ways to the same norms: r x r Gram matrices, or the d_out x d_in product S A. The cheaper one by multiplications.
    r, d_in, d_out = A.shape[1], A.shape[2], H.shape[2]
    grams = d_in * r * (d_in + 2 * r) + len(units) * (2 * r * r * d_out + r * d_out * d_out)
    small = grams < len(units) * (r * d_in * d_out + d_in * d_out * (d_in + d_out))
    AXXA = AA = None
    if context and small:
        AXXA, AA = (A @ layer.XX) @ A.mT, A @ A.mT
    for key, unit in units.items():
        gamma = unit.gammas[j]
        S = unit.optimizer.option("lr_ratio") * first_step(unit.optimizer, gamma * H)
        into = sums[key]
        into["gradient"][i, j, part] = gradient
        into["median"][i, j] = median
        into["decrease"][i, j, part] = (H * S).sum((1, 2))
        if not context:
            continue
        into["gradient_down"][i, j, part] = _square(S @ layer.G)
        if AXXA is not None and AA is not None:
            update, backward = (AXXA * (S @ S.mT)).sum((1, 2)), (AA * ((S @ layer.VV) @ S.mT)).sum((1, 2))
        else:
            M = S.mT @ A
            update, backward = ((M @ layer.XX) * M).sum((1, 2)), ((layer.VV @ M) * M).sum((1, 2))
        into["update"][i, j, part], into["input_gradient"][i, j, part] = update, backward


def _square(values: Tensor) -> Tensor:
    return values.square().sum((1, 2))
