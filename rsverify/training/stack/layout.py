"""Where the factors of many configurations live: grouped by rank, each configuration one row of a flat buffer.

Row-major by configuration, so that gradient norms, learning rates and optimizer steps are operations on whole rows, while the
factors of one linear are strided views (configurations, ..., ...) that batched matrix products take as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Law, Zero
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.rates import rate_ratio
from rsverify.errors import InputError
from rsverify.training.adapters.attach import linear_at
from rsverify.training.adapters.contraction import factor_key, factor_sizes, factor_stream, two_factors
from rsverify.training.native.build import Kernels
from rsverify.training.native.philox import Draw, draw_uniform
from rsverify.training.stack.configuration import Configuration

Allocate = Callable[..., Tensor]
"""torch.zeros, or one that gives memory shared with forked workers."""


@dataclass(frozen=True)
class Place:
    """Where a factor of one linear lies in a row: columns [start, stop), as a matrix of `shape`."""

    layer: str
    factor: str
    start: int
    shape: tuple[int, int]

    @property
    def stop(self) -> int:
        return self.start + self.shape[0] * self.shape[1]

    def of(self, buffer: Tensor) -> Tensor:
        """The factor of every row. Shapes: buffer (configurations, columns); result (configurations, *shape)."""
        return buffer[:, self.start : self.stop].unflatten(1, self.shape)


@dataclass(frozen=True)
class Views:
    """Shapes: A, grad_A (configurations, r, d_in); B, grad_B (configurations, d_out, r); gamma (configurations, 1, 1)."""

    A: Tensor
    B: Tensor
    grad_A: Tensor
    grad_B: Tensor
    gamma: Tensor


@dataclass(frozen=True)
class ScaledViews(Views):
    """Shapes: scaled_B as B, times gamma."""

    scaled_B: Tensor


@dataclass
class Group:
    """Configurations of one rank, one set of targets and one kind of adapter: `lo` is the place of the first in the stack.

    `lr` (and `lrs`, as numbers) holds the learning rate of each factor by its name: LoRA+ raises that of a factor that starts at zero.

    Shapes: w, the factors, and g, their gradients (configurations, columns), all downs before all ups; gamma (configurations, 1, 1);
    lr (configurations, 1).
    """

    lo: int
    configurations: tuple[Configuration, ...]
    up: str
    down: str
    places: dict[tuple[str, str], Place]
    columns: int
    w: Tensor
    gamma: Tensor
    lr: dict[str, Tensor]
    lrs: dict[str, list[float]]
    trains: dict[str, bool]
    acting: Tensor
    runs: list[tuple[slice, Optimizer]] = field(default_factory=list)
    _g: Tensor | None = None
    _views: dict[tuple[str, int, int], Views] = field(default_factory=dict)
    _scaled: Tensor | None = None
    _scaled_views: dict[tuple[str, int, int], ScaledViews] = field(default_factory=dict)

    @property
    def g(self) -> Tensor:
        """The gradients: memory that is taken when they are first asked for, as the native kernels may step along them unseen."""
        if self._g is None:
            self._g = torch.zeros_like(self.w)
        return self._g

    def views(self, layer: str, rows: slice) -> Views:
        """The two factors of a linear and their gradients for some rows: made once, as the buffers never move."""
        key = (layer, rows.start, rows.stop)
        if key not in self._views:
            down, up = self.places[layer, self.down], self.places[layer, self.up]
            A, B, grad_A, grad_B = (place.of(buffer)[rows] for buffer in (self.acting, self.g) for place in (down, up))
            self._views[key] = Views(A, B, grad_A, grad_B, self.gamma[rows].to(self.acting.dtype))
        return self._views[key]

    def scale(self, rows: slice) -> None:
        """Bring gamma times the up-factors of some rows up to date: once a step, where it stands before two products of every linear."""
        ups = self.acting[:, self.factor_columns(self.up)]
        if self._scaled is None:
            self._scaled = torch.empty_like(ups, memory_format=torch.contiguous_format)
        torch.mul(ups[rows], self.gamma[rows, 0], out=self._scaled[rows])

    def scaled_views(self, layer: str, rows: slice) -> ScaledViews:
        """As `views`, with gamma times the up-factor, as `scale` last left it."""
        key = (layer, rows.start, rows.stop)
        if key not in self._scaled_views:
            assert self._scaled is not None
            at, up, first = self.views(layer, rows), self.places[layer, self.up], self.factor_columns(self.up).start
            scaled = self._scaled[rows, up.start - first : up.stop - first].unflatten(1, up.shape)
            self._scaled_views[key] = ScaledViews(at.A, at.B, at.grad_A, at.grad_B, at.gamma, scaled)
        return self._scaled_views[key]

    @property
    def rank(self) -> int:
        return self.configurations[0].rank

    @property
    def size(self) -> int:
        return len(self.configurations)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(layer for layer, factor in self.places if factor == self.down)

    def factor_columns(self, factor: str) -> slice:
        """The columns of all factors of that name."""
        mine = [place for (_, name), place in self.places.items() if name == factor]
        return slice(mine[0].start, mine[-1].stop)

    @property
    def trained(self) -> tuple[str, ...]:
        return tuple(name for name in (self.down, self.up) if self.trains[name])

    def draw(self, kernels: Kernels | None = None) -> None:
        """Put every factor at init, each configuration from its own streams; rules and learning rates share a draw.

        Args: kernels draw uniform factors in numpy's place, the same numbers.
        """
        sharing: dict[tuple[str, Law, int, int, float | None], list[int]] = {}
        for row, c in enumerate(self.configurations):
            for name, law in c.adapter.laws.items():
                gamma = c.gamma if law.absorbs_gamma else None
                sharing.setdefault((name, law, c.seed, c.draw, gamma), []).append(row)
        adapter, rank, itemsize = self.configurations[0].adapter, self.rank, self.w.element_size()
        scales: dict[object, float] = {}
        # numpy holds the interpreter for the whole of a small copy, which other threads then do not fight for
        on_host = self.w.device.type == "cpu" and self.w.dtype in (torch.float32, torch.float64)
        w: Any = self.w.numpy() if on_host else self.w
        by_kernels: list[Draw] = []
        copied: list[tuple[int, int, slice]] = []
        for (name, law, seed, draw, gamma), (row, *others) in sharing.items():
            columns = self.factor_columns(name)
            if isinstance(law, Zero):
                for each in (row, *others):
                    w[each, columns] = 0.0
                continue
            for layer in self.layers:
                place, d_in, d_out = self.places[layer, name], self.places[layer, self.down].shape[1], self.places[layer, self.up].shape[0]
                one = (law, d_in, d_out, gamma)
                if one not in scales:
                    scales[one] = law.scale(factor_sizes(adapter, rank=rank, d_in=d_in, d_out=d_out, gamma=gamma))
                path: dict[str, Any] = {"rank": rank, "seed": seed, "draw": draw, "layer": layer}
                if kernels is not None and law.standard_uniform:
                    to = self.w.data_ptr() + (row * self.columns + place.start) * itemsize
                    by_kernels.append(Draw.of(factor_key(name, **path), count=place.stop - place.start, scale=scales[one], to=to))
                else:
                    drawn = (law.standard_draw(factor_stream(name, **path), place.shape) * scales[one]).reshape(-1)
                    w[row, place.start : place.stop] = drawn if on_host else torch.from_numpy(drawn).to(self.w.dtype)
            copied += [(row, other, columns) for other in others]
        if kernels is not None:
            draw_uniform(kernels, by_kernels)
        for row, other, columns in copied:
            w[other, columns] = w[row, columns]
        self.refresh()

    def refresh(self) -> None:
        """Bring the copy that acts in the base's dtype up to date; the factors themselves where the dtypes agree."""
        if self.acting is not self.w:
            self.acting.copy_(self.w)

    @property
    def starts_at_zero(self) -> bool:
        """Whether the added weight is zero at init because the up-factor is."""
        return all(isinstance(c.adapter.laws[self.up], Zero) for c in self.configurations)


def silent_on(configuration: Configuration) -> str | None:
    """Why configurations of this adapter cannot be stacked; None where they can."""
    if not isinstance(configuration.adapter, Adapter):
        name = getattr(configuration.adapter, "name", type(configuration.adapter).__name__)
        return f"only an up-factor times a down-factor is stacked; {name} is not a product of factors with declared laws"
    if two_factors(configuration.adapter) is None:
        return f"only an up-factor times a down-factor is stacked; {configuration.adapter.name} is {configuration.adapter.expression!r}"
    return None


def order(configurations: Sequence[Configuration]) -> list[int]:
    """Places of the configurations in the stack: equal ranks, targets and kinds together, and equal optimizers within these."""
    return sorted(range(len(configurations)), key=lambda i: (*_kind(configurations[i]), configurations[i].optimizer.text, i))


def build_groups(
    model: nn.Module,
    configurations: Sequence[Configuration],
    targets: Sequence[str],
    *,
    dtype: torch.dtype,
    allocate: Allocate = torch.zeros,
) -> list[Group]:
    """The groups of configurations that come in the order of `order`, their buffers allocated and not yet drawn.

    Args: targets are the linears of a configuration that names none; dtype that of factors, gradients and optimizer states.
    """
    groups: list[Group] = []
    start = 0
    for stop in range(1, len(configurations) + 1):
        if stop == len(configurations) or _kind(configurations[stop]) != _kind(configurations[start]):
            groups.append(_group(model, configurations[start:stop], targets, lo=start, dtype=dtype, allocate=allocate))
            start = stop
    return groups


def _kind(c: Configuration) -> tuple[object, ...]:
    return (c.rank, c.targets or (), c.adapter.expression, tuple(c.adapter.laws), tuple(law.trainable for law in c.adapter.laws.values()))


def _lr(c: Configuration, factor: str) -> float:
    return c.lr * rate_ratio(c.optimizer, c.adapter, factor)


def _group(
    model: nn.Module, members: Sequence[Configuration], targets: Sequence[str], *, lo: int, dtype: torch.dtype, allocate: Allocate
) -> Group:
    first = members[0]
    pair = two_factors(first.adapter)
    if pair is None:
        raise InputError(str(silent_on(first)))
    up, down = pair
    layers = first.targets if first.targets is not None else tuple(targets)
    places: dict[tuple[str, str], Place] = {}
    column = 0
    shapes = [linear_at(model, layer).weight.shape for layer in layers]
    for factor in (down, up):
        for layer, (d_out, d_in) in zip(layers, shapes, strict=True):
            place = Place(layer, factor, column, (first.rank, d_in) if factor == down else (d_out, first.rank))
            places[layer, factor] = place
            column = place.stop
    weight = linear_at(model, layers[0]).weight
    where = {"device": weight.device, "dtype": dtype}
    w = allocate((len(members), column), **where)
    group = Group(
        lo, tuple(members), up, down, places, column, w,
        torch.tensor([c.gamma for c in members], **where).view(-1, 1, 1),
        {name: torch.tensor([_lr(c, name) for c in members], **where).view(-1, 1) for name in pair},
        {name: [_lr(c, name) for c in members] for name in pair},
        {name: first.adapter.laws[name].trainable for name in pair},
        w if weight.dtype == dtype else torch.zeros(w.shape, device=weight.device, dtype=weight.dtype),
    )  # fmt: skip
    start = 0
    for stop in range(1, len(members) + 1):
        if stop == len(members) or members[stop].optimizer.text != members[start].optimizer.text:
            group.runs.append((slice(start, stop), members[start].optimizer))
            start = stop
    return group
