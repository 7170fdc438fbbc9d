"""The pieces of an implementation in one record, every one replaceable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from rsverify.conformance import Part, Subject
from rsverify.testing.mutants.reference.files import loaded, saved
from rsverify.testing.mutants.reference.merge import merged, unmerged
from rsverify.testing.mutants.reference.pieces import activated, added, built, computed, rescaled, ruled
from rsverify.testing.mutants.reference.products import combined, redistributed
from rsverify.testing.mutants.reference.slots import Adapted

Started = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Trained and frozen factors at init."""

Start = Callable[[Tensor, int, float, "Kit"], Started]


@dataclass(frozen=True)
class Kit:
    """The pieces of an implementation.

    Args: `start(W, rank, alpha, kit)` gives trained and frozen factors; `delta(m, slot, W)` what the slot adds to W, scale
        included; `told(m)` is the delta that users are told; `offset(m, slot)` what the slot adds to the bias, or None;
        `lacks` names the capabilities that it does not have. All others are what `Subject` describes.
    """

    # Lambdas throughout: `cures.run_inside` knows a piece by its code, and functions under no_grad share that of their wrapper.
    start: Start
    delta: Callable[[Adapted, Any, Tensor], Tensor]
    rule: str = "alpha/sqrt(r)"
    init: str = "identity"
    dropout: float = 0.0
    lacks: tuple[str, ...] = ("convert",)
    offset: Callable[[Adapted, Any], Tensor | None] = lambda m, slot: None
    gamma: Callable[[Adapted, Any], float] = lambda m, slot: ruled(m, slot)
    build: Callable[[Kit, int, nn.Linear, float], nn.Module] = lambda kit, rank, base, alpha: built(kit, rank, base, alpha)
    forward: Callable[[Adapted, Tensor], Tensor] = lambda m, x: computed(m, x)
    merge: Callable[[Adapted], Any] = lambda m: merged(m)
    unmerge: Callable[[Adapted], Any] = lambda m: unmerged(m)
    save: Callable[[Adapted], Any] = lambda m: saved(m)
    load: Callable[[Kit, Any, nn.Linear], nn.Module] = lambda kit, data, base: loaded(kit, data, base)
    set_scale: Callable[[Adapted, float], Any] = lambda m, s: rescaled(m, s)
    scale: Callable[[Adapted], float] = lambda m: m.kit.gamma(m, m.slot)
    told: Callable[[Adapted], Tensor] = lambda m: m.kit.delta(m, m.slot, m.pristine)
    add_adapter: Callable[[Adapted, str, int, float], Any] = lambda m, name, rank, alpha: added(m, name, rank, alpha)
    set_adapter: Callable[[Adapted, str], Any] = lambda m, name: activated(m, name)
    combine: Callable[[Adapted, list[str], list[float]], str] = lambda m, names, weights: combined(m, names, weights)
    convert: Callable[[Adapted], Any] = lambda m: m.kit.save(m)
    redistribute: Callable[[Adapted, int], Any] = lambda m, rank: redistributed(m, rank)
    parts: Callable[[Adapted], Mapping[str, Part]] | None = None
    exponents: Mapping[str, float] = field(default_factory=dict, hash=False)

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
        kept = {name: piece for name, piece in whole.items() if name not in self.lacks}
        return Subject(partial(self.build, self), rule=self.rule, init=self.init, exponents=self.exponents, **kept)
