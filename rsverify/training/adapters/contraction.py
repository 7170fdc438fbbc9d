"""A declared adapter as a map on data: its factors drawn, and contracted with x first so that no full weight is built."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.definitions.adapter import Adapter
from rsverify.errors import AdapterError
from rsverify.statistics.streams import stream, stream_key


def draw_factors(
    adapter: Adapter, *, rank: int, d_in: int, d_out: int, seed: int, draw: int, layer: str, gamma: float | None = None
) -> dict[str, np.ndarray]:
    """Every factor at init, float64, from a stream of its own for (factor, layer, rank, draw).

    Args: gamma is the scaling factor, which laws that absorb it ask for.
    """
    given: dict[str, Any] = {"rank": rank, "d_in": d_in, "d_out": d_out, "seed": seed, "draw": draw, "layer": layer, "gamma": gamma}
    return {name: draw_factor(adapter, name, **given) for name in adapter.laws}


def draw_factor(
    adapter: Adapter, name: str, *, rank: int, d_in: int, d_out: int, seed: int, draw: int, layer: str, gamma: float | None = None
) -> np.ndarray:
    """One of them."""
    shape, sizes = adapter.shapes(rank, d_in, d_out)[name], factor_sizes(adapter, rank=rank, d_in=d_in, d_out=d_out, gamma=gamma)
    return adapter.laws[name].draw(factor_stream(name, rank=rank, seed=seed, draw=draw, layer=layer), shape, sizes)


def factor_sizes(adapter: Adapter, *, rank: int, d_in: int, d_out: int, gamma: float | None) -> dict[str, float]:
    """What the spread of a law may name."""
    return {**adapter.axis_sizes(rank, d_in, d_out), "d_in": d_in, "d_out": d_out, **({} if gamma is None else {"gamma": gamma})}


def factor_stream(name: str, *, rank: int, seed: int, draw: int, layer: str) -> np.random.Generator:
    """The stream of one factor of one layer."""
    return stream(seed, *_stream_name(name, rank=rank, draw=draw, layer=layer))


def factor_key(name: str, *, rank: int, seed: int, draw: int, layer: str) -> bytes:
    """The key of that stream, for a generator outside numpy."""
    return stream_key(seed, *_stream_name(name, rank=rank, draw=draw, layer=layer))


def _stream_name(name: str, *, rank: int, draw: int, layer: str) -> tuple[str | int, ...]:
    return "training", name, layer, rank, draw


class AdapterModule(nn.Module):
    """gamma times the contraction of an adapter's factors with x.

    Trainable factors are parameters, frozen ones buffers, all under their declared names in `factor(name)`.

    Shapes: x (..., d_in); result (..., d_out).
    """

    def __init__(self, adapter: Adapter, factors: Mapping[str, Tensor], *, gamma: float, rank: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.adapter, self.gamma, self.rank, self.d_in, self.d_out = adapter, gamma, rank, d_in, d_out
        self.trainable = nn.ParameterDict({name: nn.Parameter(factors[name]) for name in adapter.trainable})
        self.fixed = nn.ParameterDict(
            {name: nn.Parameter(factors[name], requires_grad=False) for name in adapter.laws if name not in adapter.trainable}
        )
        sizes = adapter.axis_sizes(rank, d_in, d_out)
        rows, columns = adapter.result
        if len(adapter.axes) >= len(string.ascii_lowercase):
            raise AdapterError(
                f"adapter {adapter.name!r}: {len(adapter.axes)} axes; at most {len(string.ascii_lowercase) - 1} are contracted"
            )
        letter = dict(zip(adapter.axes, string.ascii_lowercase, strict=False))
        self._columns = tuple(sizes[axis] for axis in columns)
        # Operands from the data's side to the result's: einsum contracts from left to right, so x meets the small factors first.
        self._order = tuple(adapter.laws)[::-1]
        words = {name: "".join(letter[axis] for axis in axes) for name, axes in adapter.operands.items()}
        left = ["Z" + "".join(letter[axis] for axis in columns), *(words[name] for name in self._order)]
        self._equation = ",".join(left) + "->Z" + "".join(letter[axis] for axis in rows)
        inner = [words[name] for name in adapter.laws]
        self._weight_equation = ",".join(inner) + "->" + "".join(letter[axis] for axis in (*rows, *columns))
        self._pair = two_factors(adapter)

    def factor(self, name: str) -> Tensor:
        """The factor of that name, trainable or not."""
        return self.trainable[name] if name in self.trainable else self.fixed[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * self.contract(x)

    def contract(self, x: Tensor) -> Tensor:
        """The contraction with x, without gamma."""
        if self._pair is not None:
            up, down = self._pair
            return F.linear(F.linear(x, self.factor(down)), self.factor(up))
        flat = x.reshape(-1, *self._columns)
        out = torch.einsum(self._equation, flat, *(self.factor(name) for name in self._order))
        return out.reshape(*x.shape[:-1], self.d_out)

    def delta(self) -> Tensor:
        """The weight that the adapter adds (d_out, d_in), gamma included."""
        factors = [self.factor(name) for name in self.adapter.laws]
        return self.gamma * torch.einsum(self._weight_equation, *factors).reshape(self.d_out, self.d_in)


def two_factors(adapter: Adapter) -> tuple[str, str] | None:
    """The names of (up, down) where the adapter is up (rows, rank) times down (rank, columns); None for any other."""
    rows, columns = adapter.result
    if len(adapter.laws) != 2 or len(rows) != 1 or len(columns) != 1 or len(adapter.rank_axes) != 1:
        return None
    rank = adapter.rank_axes[0]
    found = {axes: name for name, axes in adapter.operands.items()}
    up, down = found.get((rows[0], rank)), found.get((rank, columns[0]))
    return None if up is None or down is None else (up, down)
