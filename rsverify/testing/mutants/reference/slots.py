"""A frozen linear layer with named slots, each the factors of one adapter, and the kit of pieces that it works by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from rsverify.conformance import Part, Subject

Factors = Mapping[str, Tensor]


class Slot(nn.Module):
    """One adapter of a layer: trained and frozen factors, rank, alpha, the user's scale s."""

    def __init__(self, trained: Factors, frozen: Factors, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank, self.alpha, self.s = rank, float(alpha), 1.0
        self.trained = tuple(trained)
        for name, value in trained.items():
            self.register_parameter(name, nn.Parameter(value.detach().clone()))
        for name, value in frozen.items():
            self.register_buffer(name, value.detach().clone())

    def factors(self) -> dict[str, Tensor]:
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}


class Adapted(nn.Module):
    """A frozen linear layer with named slots, one of them active; `kept` is the base's weight and bias while merged."""

    def __init__(self, base: nn.Linear, kit: Kit) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.kit = kit
        self.slots = nn.ModuleDict()
        self.active = "default"
        self.kept: tuple[Tensor, Tensor | None] | None = None
        self.memory: dict[str, Any] = {}
        """Where mutants keep what they should not."""

    @property
    def slot(self) -> Any:
        return self.slots[self.active]

    @property
    def pristine(self) -> Tensor:
        """The base weight without any merge."""
        return self.base.weight if self.kept is None else self.kept[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.kit.forward(self, x)


Started = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Trained and frozen factors at init."""


@dataclass(frozen=True)
class Kit:
    """The pieces of an implementation in one record, every one replaceable; `kit.textbook` fills in the usual ones.

    Args: `start(W, rank, alpha, kit)` gives trained and frozen factors; `delta(m, slot, W)` what the slot adds to W, scale
        included; `told(m)` is the delta that users are told; `offset(m, slot)` what the slot adds to the bias, or None;
        `lacks` names the capabilities that it does not have. All others are what `Subject` describes.
    """

    start: Callable[[Tensor, int, float, Kit], Started]
    delta: Callable[[Adapted, Any, Tensor], Tensor]
    offset: Callable[[Adapted, Any], Tensor | None]
    gamma: Callable[[Adapted, Any], float]
    build: Callable[[Kit, int, nn.Linear, float], nn.Module]
    forward: Callable[[Adapted, Tensor], Tensor]
    merge: Callable[[Adapted], Any]
    unmerge: Callable[[Adapted], Any]
    save: Callable[[Adapted], Any]
    load: Callable[[Kit, Any, nn.Linear], nn.Module]
    set_scale: Callable[[Adapted, float], Any]
    scale: Callable[[Adapted], float]
    told: Callable[[Adapted], Tensor]
    add_adapter: Callable[[Adapted, str, int, float], Any]
    set_adapter: Callable[[Adapted, str], Any]
    combine: Callable[[Adapted, list[str], list[float]], str]
    convert: Callable[[Adapted], Any]
    redistribute: Callable[[Adapted, int], Any]
    parts: Callable[[Adapted], Mapping[str, Part]] | None = None
    exponents: Mapping[str, float] = field(default_factory=dict, hash=False)
    rule: str = "alpha/sqrt(r)"
    init: str = "identity"
    dropout: float = 0.0
    lacks: tuple[str, ...] = ("convert",)

    def but(self, **pieces: Any) -> Kit:
        """The same implementation with some pieces replaced."""
        return replace(self, **pieces)

    def subject(self) -> Subject:
        """What `check_adapter` judges."""
        whole: dict[str, Any] = {
            "delta": self.told, "merge": self.merge, "unmerge": self.unmerge, "save": self.save,
            "load": partial(self.load, self), "set_scale": self.set_scale, "scale": self.scale, "add_adapter": self.add_adapter,
            "set_adapter": self.set_adapter, "combine": self.combine, "convert": self.convert, "redistribute": self.redistribute,
            "parts": self.parts,
        }  # fmt: skip
        able = {name: piece for name, piece in whole.items() if name not in self.lacks}
        return Subject(partial(self.build, self), rule=self.rule, init=self.init, exponents=self.exponents, **able)
