"""Adapters of two factors whose up-factor is zero at init: LoRA's shape, for which nonlinear first steps close in formulas.

The first step moves the up-factor B alone. Its gradient is gamma v u', with u = A x one response for each of the r rank
channels; the channels are independent draws, so that sums over them follow from the moments of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Frozen, Gaussian, Zero
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import spread

GAUSSIAN_LIMIT = "responses u = A x are taken as normal: exact for Gaussian A, else to O(1/d_in) by the central limit over inputs"


@dataclass(frozen=True)
class TwoFactors:
    """Up times down: names of the factors, variance of the down-factor's entries, and of one channel's response u."""

    up: str
    down: str
    variance: Any
    sigma2: Any
    trains_down: bool
    gaussian: bool
    up_rows_first: bool

    @property
    def mean_abs(self) -> Any:
        """E|u| of a normal response."""
        return sp.sqrt(2 / sp.pi) * sp.sqrt(self.sigma2)


def two_factors(adapter: Adapter) -> TwoFactors | None:
    """The adapter read as up times down with the up-factor zero and trained and the down-factor of centred independent entries."""
    rows, columns = adapter.result
    if len(rows) != 1 or len(columns) != 1 or len(adapter.operands) != 2 or len(adapter.rank_axes) != 1:
        return None
    rank = adapter.rank_axes[0]
    by_axes = {frozenset(axes): name for name, axes in adapter.operands.items()}
    up, down = by_axes.get(frozenset((rows[0], rank))), by_axes.get(frozenset((rank, columns[0])))
    if up is None or down is None or not isinstance(adapter.laws[up], Zero):
        return None
    law = adapter.laws[down]
    if not law.independent or law.standard_moment(1) != 0 or law.standard_moment(2) == 0:
        return None
    variance = sp.Rational(law.standard_moment(2)) * spread(adapter, down) ** 2
    bare = law.law if isinstance(law, Frozen) else law
    first = adapter.operands[up][0] == rows[0]
    return TwoFactors(up, down, variance, variance * s.x_norm2, law.trainable, isinstance(bare, Gaussian), first)
