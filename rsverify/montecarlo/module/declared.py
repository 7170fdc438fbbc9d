"""A declaration that is not multilinear as a module for one draw: its core's factors drawn by their laws, its own functions on them.

Written without the modules of the other witnesses and of the conformance suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from rsverify.definitions.rules import ScalingRule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.statistics.streams import stream


def builder(adapter: WrappedAdapter, rule: ScalingRule) -> Callable[[int, Any, float], Any]:
    """build(rank, base, alpha) of the adapter under a rule; its draws follow from torch's generator."""
    return partial(_build, adapter, rule)


class _Drawn(Mapping[str, Any]):
    """The core's factors, each drawn when it is asked for: what `start` takes from the base weight or leaves alone is never drawn."""

    def __init__(self, adapter: WrappedAdapter, *, rank: int, gamma: float, d_in: int, d_out: int, seed: int) -> None:
        self.core, self.rank, self.seed = adapter.core, rank, seed
        self.shapes = adapter.core.shapes(rank, d_in, d_out)
        self.sizes = {**adapter.core.axis_sizes(rank, d_in, d_out), "d_in": d_in, "d_out": d_out, "gamma": gamma}

    def __getitem__(self, name: str) -> Any:
        import torch

        law = self.core.laws[name]
        rng = stream(self.seed, "montecarlo", "module", self.rank, name)
        return torch.from_numpy(law.standard_draw(rng, (1, *self.shapes[name]))[0] * law.scale(self.sizes))

    def __iter__(self) -> Iterator[str]:
        return iter(self.core.laws)

    def __len__(self) -> int:
        return len(self.core.laws)


def _build(adapter: WrappedAdapter, rule: ScalingRule, rank: int, base: Any, alpha: float) -> Any:
    import torch

    d_out, d_in = base.weight.shape
    gamma = rule.gamma(rank, alpha)
    seed = int(torch.randint(2**62, (), device="cpu"))
    drawn = _Drawn(adapter, rank=rank, gamma=gamma, d_in=d_in, d_out=d_out, seed=seed)
    factors, residual = adapter.start(base.weight.detach().double(), drawn, gamma=gamma, rank=rank)
    return _module(adapter, factors, residual, gamma=gamma, rank=rank)


def _module(adapter: WrappedAdapter, factors: Mapping[str, Any], residual: Any, *, gamma: float, rank: int) -> Any:
    import torch

    class Adapted(torch.nn.Module):
        """The layer without its bias, which no claim here sees."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("base", residual)
            for name, value in factors.items():
                if name in adapter.trainable:
                    self.register_parameter(name, torch.nn.Parameter(value.clone()))
                else:
                    self.register_buffer(name, value)

        def forward(self, x: Any) -> Any:
            held = {name: getattr(self, name) for name in factors}
            return torch.nn.functional.linear(x, adapter.weight(self.base, held, gamma=gamma, rank=rank))

    return Adapted()
