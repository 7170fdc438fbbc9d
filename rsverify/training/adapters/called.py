"""A module that somebody else built, as an adapter on one linear: many of one kind called at once where it lets itself be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rsverify.errors import InputError, RsverifyError
from rsverify.statistics.streams import stream
from rsverify.training.adapters.forms import Start, Tensors

Build = Callable[[int, Any, float], Any]
"""build(rank, base, alpha) -> the adapted layer, on an nn.Linear whose parameters it must freeze."""

_UP = re.compile(r"(^|[._])(lora_)?B($|[._])")
"""Names of a module's up-factors, for an optimizer's `lr_ratio`: those called B."""
PROBED = 3
"""Rows of the data on which a module is looked at before it is trusted."""


@dataclass(frozen=True)
class ModuleAdapter:
    """What a factory builds, under a name, where a declared adapter might stand."""

    name: str
    build: Build
    note: str = "a module, as built"


class Called:
    """A module as it is built, under the rule that it applies itself.

    Configurations of one rank and alpha are called together by torch.func, their tensors along a new axis; where what that gives is not
    what each gives alone (a module that counts, branches on numbers, or keeps tensors outside its parameters and buffers), each is
    called by itself and `note` says so.

    Raises: InputError for a factory that raises, returns no module or one of another shape, trains nothing or its base, or draws in
        forward.
    """

    def __init__(self, name: str, build: Build, linear: nn.Linear, *, layer: str, rank: int, alpha: float) -> None:
        self.name, self.build, self.linear, self.layer, self.rank, self.alpha = name, build, linear, layer, rank, alpha
        self.d_out, self.d_in = linear.weight.shape
        self.note: str | None = None
        self._together: bool | None = None
        self._template = self._built(seed=0, draw=0)
        start = self._start_of(self._template)
        self.trained = tuple(start.factors)
        self.ups = tuple(key for key in self.trained if _UP.search(key))
        self.shapes = {key: tuple(value.shape) for key, value in start.factors.items()}
        self.ndim = {key: value.ndim for key, value in start.fixed.items()}

    def start(self, *, gamma: float, alpha: float, seed: int, draw: int) -> Start:
        module = self._built(seed=seed, draw=draw)
        start = self._start_of(module)
        shapes = {key: tuple(value.shape) for key, value in start.factors.items()}
        if shapes != self.shapes:
            raise InputError(f"{self.name}: trained tensors of one draw are {shapes}, of another {self.shapes}, at rank {self.rank}")
        if self._together is not False:
            self._look(module, start)
        return start

    def output(self, factors: Tensors, fixed: Tensors, gamma: Tensor, x: Tensor) -> Tensor:
        if self._together is not False:
            return self._called_together(factors, fixed, x)
        rows = []
        for i in range(x.shape[0]):
            own = {key: value[i] for key, value in factors.items()}
            beside = {key: value[i] if value.ndim > self.ndim[key] else value for key, value in fixed.items()}
            rows.append(functional_call(self._template, {**own, **beside}, (x[i],)))
        return torch.stack(rows)

    def _called_together(self, factors: Tensors, fixed: Tensors, x: Tensor) -> Tensor:
        def call(own: Tensors, beside: Tensors, data: Tensor) -> Tensor:
            return functional_call(self._template, {**own, **beside}, (data,))

        stacked = {key: 0 if value.ndim > self.ndim[key] else None for key, value in fixed.items()}
        return torch.vmap(call, in_dims=(dict.fromkeys(factors, 0), stacked, 0))(dict(factors), dict(fixed), x)

    def _look(self, module: nn.Module, start: Start) -> None:
        """Whether the module's own output is what the stacked call gives from its tensors; the factors are moved first, as training will.

        Raises: InputError where a module keeps what it draws outside its parameters and buffers, so that no other module can stand for it.
        """
        x = self._data()
        moved = {key: value + 0.1 * torch.ones_like(value) for key, value in start.factors.items()}
        with torch.no_grad():
            own = functional_call(module, {**moved, **start.fixed}, (x,))
            bound = 1e3 * torch.finfo(own.dtype).eps * float(own.abs().max())
            try:
                pair = {key: torch.stack([value, value]) for key, value in moved.items()}
                twice = self._called_together(pair, start.fixed, torch.stack([x, x]))
                self._together = bool((twice - own).abs().max() <= bound)
                reason = "together it gives another output than alone"
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                self._together, reason = False, f"torch.vmap does not take it ({str(error).splitlines()[0][:120]})"
            if self._together:
                return
            self.note = f"{self.name}: configurations are called one after another, {reason}"
            other = functional_call(self._template, {**moved, **start.fixed}, (x,))
        if not (other - own).abs().max() <= bound:
            raise InputError(
                f"{self.name}: two modules of rank {self.rank} with equal parameters and buffers give different outputs; expected all that"
                " differs between draws in parameters or buffers (register_buffer), not in plain attributes"
            )

    def _built(self, *, seed: int, draw: int) -> nn.Module:
        base = nn.Linear(self.d_in, self.d_out, bias=self.linear.bias is not None, device="meta", dtype=self.linear.weight.dtype)
        base = base.to_empty(device=self.linear.weight.device)
        with torch.no_grad():
            base.weight.copy_(self.linear.weight)
            if self.linear.bias is not None:
                base.bias.copy_(self.linear.bias)
        number = int(stream(seed, "training", "module", self.layer, self.rank, draw).integers(2**62))
        with _torch_seed(number):
            try:
                module = self.build(self.rank, base, self.alpha)
            except RsverifyError:
                raise
            except Exception as error:
                where = f"{self.layer} ({self.d_out} x {self.d_in})"
                raise InputError(f"{self.name}: build raised {type(error).__name__} at rank {self.rank} on {where}: {error}") from error
        return self._checked(module, base)

    def _checked(self, module: Any, base: nn.Linear) -> nn.Module:
        if not isinstance(module, nn.Module):
            raise InputError(
                f"{self.name}: build returned {type(module).__name__} at rank {self.rank}; expected the adapted layer, a Module"
            )
        module = module.to(self.linear.weight.dtype).eval()
        trained = {key: p for key, p in module.named_parameters() if p.requires_grad}
        own = {p.data_ptr() for p in base.parameters()}
        if held := [key for key, p in trained.items() if p.data_ptr() in own]:
            raise InputError(f"{self.name}: the base layer's {held[0]} is trained too; expected a frozen base: base.requires_grad_(False)")
        if not trained:
            raise InputError(f"{self.name}: no parameter requires a gradient at rank {self.rank}; expected the adapter's own to")
        x = self._data()
        with torch.no_grad():
            try:
                first, second = module(x), module(x)
            except Exception as error:
                raise InputError(
                    f"{self.name}: its forward raised {type(error).__name__} on x of shape {tuple(x.shape)} at rank {self.rank}: {error}"
                ) from error
        expected = (*x.shape[:-1], self.d_out)
        if not isinstance(first, Tensor) or first.shape != expected:
            shown = f"shape {tuple(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
            raise InputError(f"{self.name}: output of {shown} for x of shape {tuple(x.shape)} at rank {self.rank}; expected {expected}")
        if not torch.equal(first, second):
            raise InputError(
                f"{self.name}: two calls on the same x give different outputs: it draws in forward; expected a map of x alone, in eval mode"
            )
        return module

    def _start_of(self, module: nn.Module) -> Start:
        named = dict(module.named_parameters())
        factors = {key: p.detach().clone() for key, p in named.items() if p.requires_grad}
        beside = {**{key: p for key, p in named.items() if not p.requires_grad}, **dict(module.named_buffers())}
        pretrained = self.linear.weight.detach()
        fixed = {
            key: pretrained if value.shape == pretrained.shape and torch.equal(value, pretrained) else value.detach()
            for key, value in beside.items()
        }
        return Start(factors, fixed)

    def _data(self) -> Tensor:
        drawn = stream(0, "training", "module probe", self.d_in).standard_normal((1, PROBED, self.d_in))
        return torch.from_numpy(drawn).to(self.linear.weight.device, self.linear.weight.dtype)


@contextmanager
def _torch_seed(number: int) -> Iterator[None]:
    """torch's generators at a seed, and as they were afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        yield
