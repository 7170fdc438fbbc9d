"""How far two float evaluations of one formula may differ: computed from the dtype, the number of operations, the magnitudes."""

from __future__ import annotations

import math

import numpy as np


def gamma_n(operations: int, dtype: str | type = "float64") -> float:
    """n u / (1 - n u), the relative error of n roundings of unit u = eps / 2. Source: Higham 2002, lemma 3.1."""
    unit = float(np.finfo(dtype).eps) / 2
    if operations * unit >= 1:
        return math.inf
    return operations * unit / (1 - operations * unit)


def sum_of_products_bound(*, terms: int, factors: int, magnitude: float, dtype: str | type = "float64") -> float:
    """Bound on the difference of two evaluations of a sum of `terms` products of `factors` numbers, in any order.

    In words: each evaluation is within gamma_n(terms + factors) * sum |product| of the truth; `magnitude` is that sum of
    absolute products, so that cancellation is accounted for.
    """
    return 2 * gamma_n(terms + factors, dtype) * magnitude
