"""Corrupted twins of a formula: a coefficient, a sign or an exponent changed, everything else kept."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from rsverify.proving.checks import Corruption

PER_KIND = 2
"""At most so many twins of each kind, the first and the last place where the formula can be changed."""


def corrupted(formula: sp.Expr) -> list[tuple[Corruption, sp.Expr]]:
    """The formula with one coefficient, one sign, one exponent changed, at its first and last place each."""
    by_kind: dict[Corruption, list[sp.Expr]] = {"coefficient": [], "sign": [], "exponent": []}
    for kind, twin in [*_everywhere(formula), ("coefficient", 2 * formula), ("sign", -formula)]:
        if twin not in by_kind[kind] and twin != formula:
            by_kind[kind].append(twin)
    return [(kind, twin) for kind, found in by_kind.items() for twin in (found if len(found) <= PER_KIND else [found[0], found[-1]])]


def _everywhere(node: sp.Basic, *, exponent: bool = False) -> Iterator[tuple[Corruption, sp.Expr]]:
    if isinstance(node, sp.Rational):
        yield ("exponent" if exponent else "coefficient"), node + 1
    elif isinstance(node, sp.Symbol):
        yield "exponent", node**2
    elif isinstance(node, sp.Add):
        for k, argument in enumerate(node.args):
            rest = sp.Add(*node.args[:k], *node.args[k + 1 :])
            yield "sign", rest - argument
            for kind, twin in _everywhere(argument):
                yield kind, rest + twin
    elif isinstance(node, sp.Mul):
        for k, argument in enumerate(node.args):
            rest = sp.Mul(*node.args[:k], *node.args[k + 1 :])
            for kind, twin in _everywhere(argument):
                yield kind, rest * twin
    elif isinstance(node, sp.Pow) and isinstance(node.exp, sp.Integer):
        yield "exponent", node.base ** (node.exp + 1)
        for kind, twin in _everywhere(node.base):
            yield kind, twin**node.exp
