"""Which configurations share a buffer: grouped by rank, kind of adapter and targets, each configuration one row of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Law, Zero
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError
from rsverify.training.adapters.contraction import factor_key, factor_sizes, factor_stream, two_factors
from rsverify.training.adapters.factors import Factors, Place
from rsverify.training.adapters.forms import Form, Start, stacked
from rsverify.training.adapters.trainable import form_of
from rsverify.training.model.linears import linear_at
from rsverify.training.native.build import Kernels
from rsverify.training.native.philox import Draw, draw_uniform
from rsverify.training.stack.configuration import Configuration

Allocate = Callable[..., Tensor]
"""torch.zeros, or one that gives memory shared with forked workers."""


@dataclass
class Group:
    """Configurations of one rank, one set of targets and one kind of adapter: `lo` is the place of the first in the stack.

    `lrs` holds the learning rate of each factor by its name: LoRA+ raises that of an up-factor. `runs` are neighbours
    under one optimizer.
    """

    lo: int
    configurations: tuple[Configuration, ...]
    factors: Factors
    lrs: dict[str, list[float]]
    runs: list[tuple[slice, Optimizer]] = field(default_factory=list)

    @property
    def rank(self) -> int:
        return self.configurations[0].rank

    @property
    def size(self) -> int:
        return len(self.configurations)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(form.note for form in self.factors.forms.values() if form.note))

    def draw(self, kernels: Kernels | None = None) -> None:
        """Put every factor at init, each configuration from its own streams; rules and learning rates share a draw where they can.

        Args: kernels draw uniform factors of a pair in numpy's place, the same numbers.
        """
        if self.factors.pair is not None:
            self._draw_pair(kernels)
        else:
            self._draw_forms()
        self.factors.refresh()

    def _draw_forms(self) -> None:
        factors, starts = self.factors, {}
        for layer, form in factors.forms.items():
            fixed: list[dict[str, Tensor]] = []
            for row, c in enumerate(self.configurations):
                key = (layer, c.adapter, c.seed, c.draw, c.gamma, c.alpha)
                if key not in starts:
                    starts[key] = form.start(gamma=c.gamma, alpha=c.alpha, seed=c.seed, draw=c.draw)
                start: Start = starts[key]
                for name, value in start.factors.items():
                    place = factors.places[layer, name]
                    factors.w[row, place.start : place.stop] = value.reshape(-1).to(factors.w.dtype)
                fixed.append(start.fixed)
            factors.fixed[layer] = {name: stacked([one[name] for one in fixed]) for name in fixed[0]}
            starts.clear()

    def _draw_pair(self, kernels: Kernels | None) -> None:
        factors = self.factors
        sharing: dict[tuple[str, Law, int, int, float | None], list[int]] = {}
        for row, c in enumerate(self.configurations):
            for name, law in _declared(c).laws.items():
                gamma = c.gamma if law.absorbs_gamma else None
                sharing.setdefault((name, law, c.seed, c.draw, gamma), []).append(row)
        adapter, rank, itemsize = _declared(self.configurations[0]), self.rank, factors.w.element_size()
        scales: dict[object, float] = {}
        # numpy holds the interpreter for the whole of a small copy, which other threads then do not fight for
        on_host = factors.w.device.type == "cpu" and factors.w.dtype in (torch.float32, torch.float64)
        w: Any = factors.w.numpy() if on_host else factors.w
        by_kernels: list[Draw] = []
        copied: list[tuple[int, int, slice]] = []
        for (name, law, seed, draw, gamma), (row, *others) in sharing.items():
            columns = factors.columns_of(name)
            if isinstance(law, Zero):
                for each in (row, *others):
                    w[each, columns] = 0.0
                continue
            for layer in factors.layers:
                place = factors.places[layer, name]
                d_in, d_out = factors.places[layer, factors.down].shape[1], factors.places[layer, factors.up].shape[0]
                one = (law, d_in, d_out, gamma)
                if one not in scales:
                    scales[one] = law.scale(factor_sizes(adapter, rank=rank, d_in=d_in, d_out=d_out, gamma=gamma))
                path: dict[str, Any] = {"rank": rank, "seed": seed, "draw": draw, "layer": layer}
                if kernels is not None and law.standard_uniform:
                    to = factors.w.data_ptr() + (row * factors.columns + place.start) * itemsize
                    by_kernels.append(Draw.of(factor_key(name, **path), count=place.stop - place.start, scale=scales[one], to=to))
                else:
                    drawn = (law.standard_draw(factor_stream(name, **path), place.shape) * scales[one]).reshape(-1)
                    w[row, place.start : place.stop] = drawn if on_host else torch.from_numpy(drawn).to(factors.w.dtype)
            copied += [(row, other, columns) for other in others]
        if kernels is not None:
            draw_uniform(kernels, by_kernels)
        for row, other, columns in copied:
            w[other, columns] = w[row, columns]

    @property
    def starts_at_zero(self) -> bool:
        """Whether the added weight is zero at init because the up-factor is."""
        pair = self.factors.pair
        return pair is not None and all(isinstance(_declared(c).laws[pair[0]], Zero) for c in self.configurations)


def _declared(c: Configuration) -> Adapter:
    """The declaration of a pair."""
    assert isinstance(c.adapter, Adapter)
    return c.adapter


def is_pair(c: Configuration) -> bool:
    """Whether a configuration's adapter is an up-factor times a down-factor, which batched products serve and the kernels know."""
    return isinstance(c.adapter, Adapter) and two_factors(c.adapter) is not None


def order(configurations: Sequence[Configuration]) -> list[int]:
    """Places of the configurations in the stack: equal ranks, targets and kinds together, and equal optimizers within these."""
    return sorted(range(len(configurations)), key=lambda i: (*_sortable(configurations[i]), configurations[i].optimizer.text, i))


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
    """What the configurations of a group have in common. A module knows its alpha, and applies a rule of its own."""
    if isinstance(c.adapter, Adapter):
        laws = c.adapter.laws
        return (c.rank, c.targets or (), c.adapter.expression, tuple(laws), tuple(law.trainable for law in laws.values()))
    if isinstance(c.adapter, WrappedAdapter):
        return (c.rank, c.targets or (), c.adapter.name, id(c.adapter.weight))
    return (c.rank, c.targets or (), c.adapter.name, c.alpha, id(c.adapter.build))


def _sortable(c: Configuration) -> tuple[object, ...]:
    return (c.rank, c.targets or (), *(text if isinstance(text, tuple) else str(text) for text in map(str, _kind(c)[2:])))


def _group(
    model: nn.Module, members: Sequence[Configuration], targets: Sequence[str], *, lo: int, dtype: torch.dtype, allocate: Allocate
) -> Group:
    first = members[0]
    layers = first.targets if first.targets is not None else tuple(targets)
    weight = linear_at(model, layers[0]).weight
    where = {"device": weight.device, "dtype": dtype}
    pair: tuple[str, str] | None = None
    forms: dict[str, Form] = {}
    if is_pair(first):
        adapter = _declared(first)
        pair = two_factors(adapter)
        assert pair is not None
        up, down = pair
        names, trained = (down, up), adapter.trainable
        widths = {layer: linear_at(model, layer).weight.shape for layer in layers}
        shapes: dict[tuple[str, str], tuple[int, ...]] = {(layer, down): (first.rank, d_in) for layer, (_, d_in) in widths.items()}
        shapes |= {(layer, up): (d_out, first.rank) for layer, (d_out, _) in widths.items()}
    else:
        given = {"rank": first.rank, "alpha": first.alpha}
        forms = {layer: form_of(first.adapter, linear_at(model, layer), layer=layer, **given) for layer in layers}
        some = forms[layers[0]]
        names, trained = tuple(some.shapes), some.trained
        odd = next((layer for layer, form in forms.items() if tuple(form.shapes) != names), None)
        if odd is not None:
            raise InputError(f"{first.adapter.name} has tensors {names} on {layers[0]}, but {tuple(forms[odd].shapes)} on {odd}")
        shapes = {(layer, name): form.shapes[name] for layer, form in forms.items() for name in names}
    places: dict[tuple[str, str], Place] = {}
    column = 0
    for name in names:
        for layer in layers:
            places[layer, name] = Place(layer, name, column, shapes[layer, name])
            column = places[layer, name].stop
    w = allocate((len(members), column), **where)
    ups = forms[layers[0]].ups if forms else _declared(first).ups
    lrs = {name: [c.lr * (c.optimizer.option("lr_ratio") if name in ups else 1.0) for c in members] for name in names}
    factors = Factors(
        first.rank, names, pair, places, column, w,
        torch.tensor([c.gamma for c in members], **where).view(-1, 1, 1),
        {name: torch.tensor(rates, **where).view(-1, 1) for name, rates in lrs.items()},
        {name: name in trained for name in names},
        w if weight.dtype == dtype else torch.zeros(w.shape, device=weight.device, dtype=weight.dtype),
        forms,
    )  # fmt: skip
    group = Group(lo, tuple(members), factors, lrs)
    start = 0
    for stop in range(1, len(members) + 1):
        if stop == len(members) or members[stop].optimizer.text != members[start].optimizer.text:
            group.runs.append((slice(start, stop), members[start].optimizer))
            start = stop
    return group
