"""The dense reference: what the factors inside an implementation must add up to, by a route of its own.

The factors are found by their shapes and names; the algebra is that of the declared adapter that the subject claims to be. An
implementation that claims none, but holds exactly two factors of LoRA's shapes, is read as LoRA. Products are taken in numpy, from
the text of the expression, in float64.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsverify.conformance.bench import TALL, Bench, Built
from rsverify.conformance.outcomes import Skip
from rsverify.definitions.adapter import Adapter, FullMatrix
from rsverify.definitions.registry import Declared, as_declared


@dataclass(frozen=True)
class Match:
    """Where a declared factor is in the module: its tensor's name, and whether that is stored transposed."""

    name: str
    transposed: bool


@dataclass(frozen=True)
class Algebra:
    """The declared adapter that an implementation is held to, where its factors are, and whether it claimed to be that adapter."""

    adapter: Declared
    places: Mapping[str, Match]
    claimed: bool

    def factors(self, built: Built) -> dict[str, Tensor]:
        """The factors as the module now holds them, as they are declared (not transposed), sharing the module's storage."""
        held = {**built.own(), **dict(built.module.named_parameters()), **dict(built.module.named_buffers())}
        shapes = _shapes(self.adapter, built)
        found = {}
        for factor, place in self.places.items():
            value = held[place.name].mT if place.transposed else held[place.name]
            found[factor] = value.reshape(shapes[factor])
        return found

    def unit_weight(self, built: Built) -> Tensor:
        """The contraction of the factors without any scale (d_out, d_in), in float64."""
        assert isinstance(self.adapter, Adapter)
        arrays = {name: value.detach().double().cpu().numpy() for name, value in self.factors(built).items()}
        return torch.from_numpy(contraction(self.adapter, arrays, built.layer.d_out, built.layer.d_in)).to(built.W.device)

    def added(self, built: Built, gamma: float) -> Tensor:
        """What the adapter must add to the pretrained weight, in float64."""
        if isinstance(self.adapter, Adapter):
            return gamma * self.unit_weight(built)
        return self.weight(built, gamma).detach() - built.W.double()

    def weight(self, built: Built, gamma: float) -> Tensor:
        """The weight of an adapter that is not multilinear, differentiable in copies of its factors."""
        assert not isinstance(self.adapter, Adapter)
        W = built.W.double()
        drawn = {name: torch.zeros(shape, dtype=W.dtype) for name, shape in _core_shapes(self.adapter, built).items()}
        start, _ = self.adapter.start(W, drawn, gamma=gamma, rank=built.rank)
        frozen = {name: value for name, value in start.items() if name not in self.adapter.trainable}
        base = built.base.weight.detach().double() if "residual-base" in self.adapter.tags else W
        held = {name: value.double() for name, value in self.factors(built).items()}
        return self.adapter.weight(base, {**frozen, **held}, gamma=gamma, rank=built.rank)


def contraction(adapter: Adapter, factors: Mapping[str, np.ndarray], d_out: int, d_in: int) -> np.ndarray:
    """The expression, read from its text, as one numpy einsum."""
    left, right = adapter.expression.split("->")
    axes = sorted({word for part in left.split(",") for word in part.split()})
    letter = dict(zip(axes, string.ascii_letters, strict=False))
    words = ["".join(letter[axis] for axis in part.split()) for part in left.split(",")]
    result = "".join(letter[axis] for axis in right.replace("(", " ").replace(")", " ").split())
    return np.einsum(",".join(words) + "->" + result, *(factors[name] for name in adapter.laws), optimize=True).reshape(d_out, d_in)


def algebra(bench: Bench) -> Algebra:
    """The algebra that the subject is held to.

    Raises: Skip where its factors cannot be told from their shapes and names.
    """
    found = bench.remember("algebra", lambda: _find(bench))
    if isinstance(found, str):
        raise Skip(found)
    return found


def full_algebra(bench: Bench, full: FullMatrix, rank: int) -> Algebra:
    """Where the factors of the full matrices are that stand in at that rank.

    Raises: Skip where they cannot be told from their shapes and names.
    """
    found = _match(full.adapter, bench.build(TALL, rank), claimed=True)
    if isinstance(found, str):
        raise Skip(found)
    return found


def _find(bench: Bench) -> Algebra | str:
    claimed = bench.subject.declared
    adapter = claimed or as_declared("lora")
    if bench.full_at(bench.rank) is not None:
        return f"at rank {bench.rank} full matrices stand in for {adapter.name}'s product: see the checks of full matrices"
    return _match(adapter, bench.build(TALL), claimed=claimed is not None)


def _match(adapter: Declared, built: Built, *, claimed: bool) -> Algebra | str:
    own = {name: value for name, value in built.own().items() if value.numel() > 1 or claimed}
    if claimed and isinstance(adapter, Adapter) and "base-weight" in adapter.tags:
        own = {**own, **{name: value for name, value in dict(built.module.named_parameters()).items() if value.shape == built.W.shape}}
    wanted = _shapes(adapter, built)
    number = next((name for name, value in built.factors().items() if value.numel() == 1), None)
    if not claimed and number is not None:
        return f"which algebra its factors follow is not declared (init=), and a trained number ({number}) stands beside them"
    if not claimed and len(own) != 2:
        return "which algebra its factors follow is not declared (init=) and they are not LoRA's two"
    places: dict[str, Match] = {}
    for factor, shape in wanted.items():
        place = _place(factor, shape, own, {match.name for match in places.values()})
        if place is None:
            if not claimed:
                return "which algebra its factors follow is not declared (init=) and their shapes are not LoRA's"
            held = ", ".join(f"{name} {tuple(value.shape)}" for name, value in own.items())
            return f"no tensor of the module could be told to be factor {factor} {shape} of {adapter.name}; it holds {held or 'none'}"
        places[factor] = place
    return Algebra(adapter, places, claimed)


def _place(factor: str, shape: tuple[int, ...], own: Mapping[str, Tensor], taken: set[str]) -> Match | None:
    def fits(value: Tensor, wanted: tuple[int, ...]) -> bool:
        return tuple(n for n in value.shape if n != 1) == tuple(n for n in wanted if n != 1)

    free = {name: value for name, value in own.items() if name not in taken}
    for transposed, wanted in ((False, shape), (True, shape[::-1])):
        if transposed and len(shape) != 2:
            continue
        candidates = [name for name, value in free.items() if fits(value, wanted)]
        if len(candidates) > 1:
            named = [name for name in candidates if factor.lower() in name.lower().split(".")]
            named = named or [name for name in candidates if name.lower().split(".")[-1].endswith(factor.lower())]
            candidates = named or candidates
        # Two factors of one shape and no names to tell them by: the order in which they were made is that of the declaration.
        if candidates:
            return Match(candidates[0], transposed)
    return None


def _shapes(adapter: Declared, built: Built) -> dict[str, tuple[int, ...]]:
    """Shapes of the factors to be found in the module: all of a multilinear adapter, the trained ones of any other."""
    layer = built.layer
    if isinstance(adapter, Adapter):
        return adapter.shapes(built.rank, layer.d_in, layer.d_out)
    W = torch.zeros(layer.d_out, layer.d_in, dtype=torch.float64)
    W.fill_diagonal_(1.0)
    drawn = {name: torch.zeros(shape, dtype=W.dtype) for name, shape in _core_shapes(adapter, built).items()}
    start, _ = adapter.start(W, drawn, gamma=1.0, rank=built.rank)
    return {name: tuple(start[name].shape) for name in adapter.trainable}


def _core_shapes(adapter: Declared, built: Built) -> dict[str, tuple[int, ...]]:
    assert not isinstance(adapter, Adapter)
    return adapter.core.shapes(built.rank, built.layer.d_in, built.layer.d_out)
