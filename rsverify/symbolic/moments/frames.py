"""Joint moments of the entries of a uniformly distributed orthonormal frame, as rational functions of its longer side n.

A frame is k columns of a uniformly distributed orthogonal n x n matrix, so that E of a product of entries V[i1,j1] V[i2,j2] ...
is the sum over pairings p of the rows and q of the columns of w(p, q), whatever k is. The weights w are the inverse of the matrix
n**loops(p, q): contracting the columns of all pairs of a pairing gives back Kronecker deltas of the rows, because V'V = 1.
Source: Collins and Sniady 2006, Commun. Math. Phys. 264, 773 ("Weingarten function" of the orthogonal group); derived here anew from
that linear system, see `weights`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import sympy as sp

n = sp.Symbol("n", positive=True)
"""The longer side of the frame."""

Pairing = tuple[tuple[int, int], ...]


def pairings(count: int) -> Iterator[Pairing]:
    """All ways to pair up `count` things; none where the count is odd."""

    def pair(items: tuple[int, ...]) -> Iterator[Pairing]:
        if not items:
            yield ()
        for k in range(1, len(items)):
            for rest in pair(items[1:k] + items[k + 1 :]):
                yield ((items[0], items[k]), *rest)

    yield from pair(tuple(range(count)))


def loop_type(p: Pairing, q: Pairing) -> tuple[int, ...]:
    """Half the lengths of the loops that two pairings form together, longest first: (1, 1) where both are the same two pairs."""
    along = {a: b for pair in q for a, b in (pair, pair[::-1])}
    across = {a: b for pair in p for a, b in (pair, pair[::-1])}
    left, found = set(across), []
    while left:
        start = here = min(left)
        length = 0
        while True:
            left -= {here, across[here]}
            here, length = along[across[here]], length + 1
            if here == start:
                break
        found.append(length)
    return tuple(sorted(found, reverse=True))


@cache
def weights(count: int) -> dict[tuple[int, ...], Any]:
    """w by loop type, for a product of `count` entries.

    In words: sum over q of n**loops(p, q) w(q, p0) = 1 if p = p0 else 0; w depends on the loop type of its two pairings alone, so
    one equation per type, and one unknown, is all there is. Order 4: w(1,1) = (n+1) / (n (n-1) (n+2)), w(2) = -1 / (n (n-1) (n+2)).
    """
    every = list(pairings(count))
    if not every:
        return {}
    base = every[0]
    representative = {loop_type(p, base): p for p in every}
    types = sorted(representative)
    rows = []
    for kind in types:
        row: dict[tuple[int, ...], Any] = dict.fromkeys(types, sp.Integer(0))
        for q in every:
            row[loop_type(q, base)] += n ** len(loop_type(representative[kind], q))
        rows.append([row[other] for other in types])
    right = sp.Matrix([int(set(kind) == {1}) for kind in types])
    solution = sp.Matrix(rows).LUsolve(right)
    return {kind: sp.factor(value) for kind, value in zip(types, solution, strict=True)}
