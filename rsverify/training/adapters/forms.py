"""An adapter of any kind as it acts on one linear, for many configurations at once.

Three kinds: a multilinear declaration by its own contraction, a declared weight that no contraction gives by its own function of
the base weight, and a module, whoever wrote it, by calling it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Zero
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.training.adapters.contraction import draw_factor, draw_factors
from rsverify.training.adapters.paths import Path, contract, path_of

Tensors = Mapping[str, Tensor]
BASE = "base weight"
"""Name of the weight beside the factors of a declared weight."""


@dataclass(frozen=True)
class Start:
    """One adapter at init: the factors that lie in the buffer, and the tensors beside them (the linear's own weight by identity)."""

    factors: dict[str, Tensor]
    fixed: dict[str, Tensor]


class Form(Protocol):
    """An adapter of one rank on one linear.

    `shapes` are those of its factors by name, `trained` the names of those that move, `ndim` the axes of the tensors beside them.
    `ups` are the names whose learning rate an optimizer's `lr_ratio` multiplies. `note` says what is to be known of how it runs.
    """

    ups: tuple[str, ...]

    ndim: dict[str, int]
    linear: nn.Linear
    shapes: dict[str, tuple[int, ...]]
    trained: tuple[str, ...]
    note: str | None

    def start(self, *, gamma: float, alpha: float, seed: int, draw: int) -> Start:
        """One configuration at init, from the streams of its seed and draw."""
        ...

    def output(self, factors: Tensors, fixed: Tensors, gamma: Tensor, x: Tensor) -> Tensor:
        """What the adapted linear gives, bias included.

        Shapes: factors (c, *shape), fixed (c, *shape) or one shared by all, gamma (c,), x (c, ..., d_in); result (c, ..., d_out).
        """
        ...


class Contracted:
    """A multilinear declaration: y = W x + gamma contraction(x), or (W + gamma contraction) x, whichever is cheaper."""

    note: str | None = None

    def __init__(self, adapter: Adapter, linear: nn.Linear, *, layer: str, rank: int) -> None:
        self.adapter, self.linear, self.layer, self.rank = adapter, linear, layer, rank
        self.d_out, self.d_in = linear.weight.shape
        self.sizes = adapter.axis_sizes(rank, self.d_in, self.d_out)
        shapes = adapter.shapes(rank, self.d_in, self.d_out)
        self.base_factor = "W" if "base-weight" in adapter.tags else None
        self.shapes = {name: tuple(shapes[name]) for name in adapter.laws if name != self.base_factor}
        self.trained = tuple(name for name in adapter.trainable if name != self.base_factor)
        self.ups = tuple(adapter.ups)
        self.ndim = {} if self.base_factor is None else {self.base_factor: 2}
        self._shared = frozenset() if self.base_factor is None else frozenset({self.base_factor})
        self._within = path_of(dict(adapter.operands), (*adapter.result[0], *adapter.result[1]), self.sizes, shared=self._shared)
        self._paths: dict[int, tuple[bool, Path]] = {}

    def start(self, *, gamma: float, alpha: float, seed: int, draw: int) -> Start:
        given = {"rank": self.rank, "d_in": self.d_in, "d_out": self.d_out, "seed": seed, "draw": draw, "layer": self.layer}
        weight = self.linear.weight
        drawn = draw_factors(self.adapter, gamma=gamma, **given)
        factors = {name: torch.from_numpy(drawn[name]).to(weight.device, weight.dtype) for name in self.shapes}
        return Start(factors, {} if self.base_factor is None else {self.base_factor: weight.detach()})

    def output(self, factors: Tensors, fixed: Tensors, gamma: Tensor, x: Tensor) -> Tensor:
        weight, bias = self.linear.weight, self.linear.bias
        X = x.reshape(x.shape[0], -1, self.d_in)
        merged, path = self._path(X.shape[1])
        if merged:
            Y = torch.bmm(X, self.weight(factors, fixed, gamma).mT)
            Y = Y if bias is None else Y + bias
        else:
            _, columns = self.adapter.result
            data = X.reshape(*X.shape[:2], *(self.sizes[axis] for axis in columns))
            added = contract(path, {**factors, **fixed, "": data}).reshape(*X.shape[:2], self.d_out)
            Y = torch.addcmul(F.linear(X, weight, bias), added, gamma[:, None, None].to(added.dtype))
        return Y.view(*x.shape[:-1], self.d_out)

    def weight(self, factors: Tensors, fixed: Tensors, gamma: Tensor) -> Tensor:
        """The weight that the linear then has. Shapes: (c, d_out, d_in)."""
        delta = contract(self._within, {**factors, **fixed}).reshape(-1, self.d_out, self.d_in)
        return torch.addcmul(self.linear.weight, delta, gamma[:, None, None].to(delta.dtype))

    def added(self, factors: Tensors, fixed: Tensors, gamma: Tensor) -> Tensor:
        """What the adapter adds to the weight. Shapes: (c, d_out, d_in)."""
        delta = contract(self._within, {**factors, **fixed}).reshape(-1, self.d_out, self.d_in)
        return gamma[:, None, None].to(delta.dtype) * delta

    def _path(self, n: int) -> tuple[bool, Path]:
        """The cheaper way of n rows, in multiplications of a forward and backward: whether the weight is merged, and the contraction."""
        if n not in self._paths:
            rows, columns = self.adapter.result
            axes = {**self.adapter.operands, "": ("*", *columns)}
            beside = path_of(axes, ("*", *rows), {**self.sizes, "*": n}, shared=self._shared)
            base = n * self.d_in * self.d_out
            merged = 3 * base + 3 * self._within.cost < 2 * base + 3 * beside.cost
            self._paths[n] = (merged, self._within if merged else beside)
        return self._paths[n]


class Reweighted:
    """A declared weight that is no contraction: its own function of the base weight and the factors, one weight a configuration."""

    note: str | None = None

    def __init__(self, adapter: WrappedAdapter, linear: nn.Linear, *, layer: str, rank: int) -> None:
        self.adapter, self.linear, self.layer, self.rank = adapter, linear, layer, rank
        self.d_out, self.d_in = linear.weight.shape
        self.trained = adapter.trainable
        self.ups = tuple(name for name in adapter.core.ups if name in self.trained)
        one = self.start(gamma=1.0, alpha=1.0, seed=0, draw=0)
        self.shapes = {name: tuple(value.shape) for name, value in one.factors.items()}
        self.ndim = {name: value.ndim for name, value in one.fixed.items()}

    def start(self, *, gamma: float, alpha: float, seed: int, draw: int) -> Start:
        weight = self.linear.weight.detach()
        given = {"rank": self.rank, "d_in": self.d_in, "d_out": self.d_out, "seed": seed, "draw": draw, "layer": self.layer}
        start, base = self.adapter.start(weight, _Drawn(self.adapter.core, weight, gamma, given), gamma=gamma, rank=self.rank)
        factors = {name: start[name].detach().clone() for name in self.trained}
        return Start(factors, {BASE: base.detach(), **{name: value for name, value in start.items() if name not in self.trained}})

    def output(self, factors: Tensors, fixed: Tensors, gamma: Tensor, x: Tensor) -> Tensor:
        X = x.reshape(x.shape[0], -1, self.d_in)
        Y = torch.bmm(X, self.weight(factors, fixed, gamma).mT)
        return (Y if self.linear.bias is None else Y + self.linear.bias).view(*x.shape[:-1], self.d_out)

    def weight(self, factors: Tensors, fixed: Tensors, gamma: Tensor) -> Tensor:
        """The weight that the linear then has. Shapes: (c, d_out, d_in)."""
        of_each = {name: 0 if is_stacked(value, self.ndim[name]) else None for name, value in fixed.items()}

        def one(own: Tensors, beside: Tensors, factor: Tensor) -> Tensor:
            rest = {name: value for name, value in beside.items() if name != BASE}
            return self.adapter.weight(beside[BASE], {**own, **rest}, gamma=factor, rank=self.rank)

        in_dims = (dict.fromkeys(factors, 0), of_each, 0)
        return torch.vmap(one, in_dims=in_dims)(dict(factors), dict(fixed), gamma.to(self.linear.weight.dtype))

    def added(self, factors: Tensors, fixed: Tensors, gamma: Tensor) -> Tensor:
        """What the adapter adds to the weight. Shapes: (c, d_out, d_in)."""
        return self.weight(factors, fixed, gamma) - self.linear.weight


class _Drawn(Mapping[str, Tensor]):
    """The core's factors, each drawn when it is first asked for: a declaration may need none of them.

    What stands for parts of the base weight is not drawn: the declaration takes the weight's own.
    """

    def __init__(self, core: Adapter, weight: Tensor, gamma: float, given: Mapping[str, Any]) -> None:
        absorbed = {name: Zero() for name, law in core.laws.items() if law.absorbs_gamma}
        self.core, self.weight, self.gamma, self.given = core.with_init(**absorbed), weight, gamma, given

    def __getitem__(self, name: str) -> Tensor:
        drawn = draw_factor(self.core, name, gamma=self.gamma, **self.given)
        return torch.from_numpy(drawn).to(self.weight.device, self.weight.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.core.laws)

    def __len__(self) -> int:
        return len(self.core.laws)


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Tensors along a new axis of configurations; one that all of them are is shared."""
    first = values[0]
    if all(value is first or (value.shape == first.shape and value.data_ptr() == first.data_ptr()) for value in values):
        return first
    return first if all(torch.equal(value, first) for value in values) else torch.stack(list(values))


def is_stacked(value: Tensor, ndim: int) -> bool:
    """Whether a fixed tensor has an axis of configurations in front, or is one that all share."""
    return value.ndim > ndim


def added_weight(factors: Any, layer: str, row: int, linear: nn.Linear) -> Tensor:
    """What one row of some factors adds to a linear's weight, read off its output on the unit vectors. Shapes: (d_out, d_in)."""
    form, here = factors.forms[layer], slice(row, row + 1)
    own = {name: factors.places[layer, name].of(factors.acting)[here] for name in factors.names}
    fixed = {name: value[here] if value.ndim > form.ndim[name] else value for name, value in factors.fixed[layer].items()}
    unit = torch.eye(linear.in_features, dtype=linear.weight.dtype, device=linear.weight.device)
    with torch.no_grad():
        data = torch.stack([unit, torch.zeros_like(unit)]).flatten(0, 1)[None]
        on_unit, on_zero = form.output(own, fixed, factors.gamma[here, 0, 0], data)[0].chunk(2)
        return (on_unit - on_zero).mT - linear.weight
