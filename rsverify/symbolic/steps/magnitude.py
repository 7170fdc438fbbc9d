"""What a derivation answers: a magnitude in symbols, with how far it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.errors import NotDerivable
from rsverify.symbolic.moments import symbols as s


@dataclass(frozen=True)
class Magnitude:
    """E of a square (`squared`), or a signed mean, in the package's symbols; the scaling rule is left open as gamma.

    Args:
        value: the expression; where `upper` is given, it is a lower bound up to a constant free of r.
        exact: whether it holds at every finite rank; else `error_order` says to which relative order.
        adapter: whose axes the data is reshaped over, where the value names contractions over groups.
        upper: an upper bound beside the lower one, where theory gives only powers and not the constant.
        large, entries: where an epsilon stands beside the gradient, the magnitude for gradients far above it, and the mean squares of
            gradient entries over epsilon squared, factor by factor; `value` is then that for gradients far below.
    """

    value: sp.Expr
    squared: bool
    exact: bool = True
    error_order: str = ""
    upper: sp.Expr | None = None
    notes: tuple[str, ...] = ()
    adapter: Adapter | None = None
    large: Magnitude | None = None
    entries: tuple[sp.Expr, ...] = ()

    @property
    def root(self) -> int:
        """What powers of the value are divided by to speak of the magnitude."""
        return 2 if self.squared else 1


def exact_number(value: float) -> Any:
    """A number that a user gave, as the fraction that its shortest decimal says."""
    return sp.nsimplify(value, rational=True)


def decay_left(name: str, weight_decay: float) -> Any:
    """What one step of decoupled weight decay leaves of a factor whose gradient is zero.

    Raises: NotDerivable where decay is coupled to a step that is not linear.
    """
    if not weight_decay:
        return sp.Integer(1)
    if name in ("adamw", "lion", "adafactor", "muon", "muon-torch"):
        return 1 - s.lr * exact_number(weight_decay)
    raise NotDerivable(f"coupled weight decay turns the zero gradient of a factor into its sign under {name}")
