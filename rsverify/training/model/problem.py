"""A model with a loss on fixed data, and the linears that adapters are put on: what the training witness works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Problem:
    """A frozen model, its loss on one fixed batch, and the names of the linears to adapt.

    `loss()` runs the model as it now stands (adapters attached or not) and returns a scalar in the model's dtype.
    `hashes` names the checkpoint and text behind it, for provenance; `notes` are sentences on the model for the verdict to repeat.
    """

    name: str
    model: nn.Module
    loss: Callable[[], Tensor]
    targets: tuple[str, ...]
    hashes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
