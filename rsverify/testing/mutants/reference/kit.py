"""The pieces that sound implementations share, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from rsverify.testing.mutants.reference.files import loaded, saved
from rsverify.testing.mutants.reference.merge import merged, unmerged
from rsverify.testing.mutants.reference.pieces import activated, added, built, computed, rescaled, ruled
from rsverify.testing.mutants.reference.products import combined, redistributed
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Started

USUAL: dict[str, Any] = {
    "offset": lambda m, slot: None,
    "gamma": ruled,
    "build": built,
    "forward": computed,
    "merge": merged,
    "unmerge": unmerged,
    "save": saved,
    "load": loaded,
    "set_scale": rescaled,
    "scale": lambda m: m.kit.gamma(m, m.slot),
    "told": lambda m: m.kit.delta(m, m.slot, m.pristine),
    "add_adapter": added,
    "set_adapter": activated,
    "combine": combined,
    "convert": lambda m: m.kit.save(m),
    "redistribute": redistributed,
}
"""Pieces by name, as the textbook has them."""


def textbook(start: Callable[[Tensor, int, float, Kit], Started], delta: Callable[[Adapted, Any, Tensor], Tensor], **others: Any) -> Kit:
    """A kit of the usual pieces around factors at init and what they add, some replaced by others."""
    return Kit(start, delta, **{**USUAL, **others})
