"""Expectations of polynomials in independent draws, from a table of moments.

Written for proofs: it shares nothing with the symbolic engine whose moments they vouch for.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from rsverify.proving.checks import ProofError

Moments = Mapping[tuple[int, ...], sp.Expr]
"""E of the monomial with these powers of a block's symbols."""


def mean(polynomial: sp.Expr, *blocks: tuple[tuple[sp.Symbol, ...], Moments]) -> sp.Expr:
    """E of a polynomial in blocks of draws that are independent of each other: linear, and a product over blocks.

    Args: each block is (symbols, moments); draws within a block may depend on each other. The zeroth moment is one.
    Raises: ProofError where a moment is needed that nobody told.
    """
    symbols = [symbol for names, _ in blocks for symbol in names]
    total: sp.Expr = sp.Integer(0)
    for powers, coefficient in sp.Poly(polynomial, *symbols).terms():
        left, product = list(powers), coefficient
        for names, moments in blocks:
            own, left = tuple(left[: len(names)]), left[len(names) :]
            if not any(own):
                continue
            if own not in moments:
                raise ProofError(
                    f"E of {sp.Mul(*(name**power for name, power in zip(names, own, strict=True)))} is needed and was not given"
                )
            product *= moments[own]
        total += product
    return total
