"""Puts declared adapters on the linears of any model, and takes them off again without a trace.

The model keeps its modules: an adapter is a forward hook on its linear, y = base(x) + gamma * contraction(x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.adapter import Adapter
from rsverify.errors import InputError
from rsverify.training.adapters.contraction import AdapterModule, draw_factors
from rsverify.training.model.linears import find_targets, linear_at


def build_adapters(
    model: nn.Module, adapter: Adapter, *, rank: int, gamma: float, targets: Sequence[str], seed: int = 0, draw: int = 0
) -> dict[str, AdapterModule]:
    """One adapter at init for every target, its factors in the dtype and on the device of the weight it joins."""
    found: dict[str, AdapterModule] = {}
    for name in find_targets(model, targets):
        weight = linear_at(model, name).weight
        d_out, d_in = weight.shape
        drawn = draw_factors(adapter, rank=rank, d_in=d_in, d_out=d_out, seed=seed, draw=draw, layer=name, gamma=gamma)
        factors = {key: torch.from_numpy(value).to(weight.device, weight.dtype) for key, value in drawn.items()}
        found[name] = AdapterModule(adapter, factors, gamma=gamma, rank=rank, d_in=d_in, d_out=d_out)
    return found


@dataclass
class Attached:
    """A model with adapters on it: their modules by the name of the linear, and whether they are merged into the weights."""

    model: nn.Module
    adapters: Mapping[str, AdapterModule]
    merged: bool = False
    _originals: dict[str, Tensor] = field(default_factory=dict)

    def parameters(self) -> list[nn.Parameter]:
        """All trainable factors, in the order of the layers."""
        return [factor for module in self.adapters.values() for factor in module.trainable.values()]


def merge(attached: Attached) -> None:
    """Add every delta to its weight, in place, and let the adapters rest; a second merge is refused."""
    if attached.merged:
        raise InputError("merged=True: the adapters are already in the weights; unmerge first")
    with torch.no_grad():
        for name, module in attached.adapters.items():
            weight = linear_at(attached.model, name).weight
            attached._originals[name] = weight.detach().clone()  # subtracting delta again would leave rounding behind
            weight += module.delta()
    attached.merged = True


def unmerge(attached: Attached) -> None:
    """Put the weights back bit for bit and let the adapters act again."""
    if not attached.merged:
        raise InputError("merged=False: the adapters are not in the weights; merge first")
    with torch.no_grad():
        for name, weight in attached._originals.items():
            linear_at(attached.model, name).weight.copy_(weight)
    attached._originals.clear()
    attached.merged = False


@contextmanager
def attach(model: nn.Module, adapters: Mapping[str, AdapterModule]) -> Iterator[Attached]:
    """The model with adapters on the linears named, its own parameters frozen; on exit it is exactly what it was."""
    attached = Attached(model, dict(adapters))

    def add(module: AdapterModule) -> Callable[..., Tensor]:
        def hook(linear: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return output if attached.merged else output + module(inputs[0])

        return hook

    with ExitStack() as undo:
        for parameter in model.parameters():
            undo.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        for name, module in attached.adapters.items():
            undo.callback(linear_at(model, name).register_forward_hook(add(module)).remove)
        undo.callback(lambda: unmerge(attached) if attached.merged else None)
        yield attached
