"""What goes through the seam between a stack and its backends: which rows of a batch are whose, and what is read on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rsverify.training.adapters.factors import Factors


@dataclass
class Part:
    """Copies [lo, hi) of the folded batch, which belong to the rows `rows` of some factors.

    `stepping` is their update where a backend takes it along with the gradients, in that backend's own form.
    """

    factors: Factors
    lo: int
    hi: int
    rows: slice
    stepping: Any = None


@dataclass
class Pass:
    """One forward and backward of some neighbouring configurations.

    `entries` counts the numbers that adapters add for each copy. `gradient_squares` are the squared norms of the gradients by the place
    of the factor's name, where the backend has read them; without them the stack reads them off the gradients.

    Shapes: output_square (copies,), the squared norm of what the adapters add, summed over layers; gradient_squares (copies,) each.
    """

    copies: int
    parts: list[Part]
    probe: bool
    output_square: Tensor
    entries: list[int]
    gradient_squares: tuple[Tensor, ...] | None = None
