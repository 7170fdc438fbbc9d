"""Diagrams: products of tensors over shared indices, as connected pieces in canonical form, and small exact polynomials.

A piece is (labels, atoms): for every index its axis and the data vectors that sit on it, and the atoms with the numbers of
their indices. Equal pieces are equal tuples, so that diagrams which arise in many ways are evaluated once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from rsverify.definitions import invariants

Label = tuple[str, tuple[str, ...]]
"""An index: its axis and the one-index data vectors on it, sorted."""
Edge = tuple[str, tuple[int, ...]]
Piece = tuple[tuple[Label, ...], tuple[Edge, ...]]
State = tuple[Piece, ...]
"""A product of pieces, sorted."""

Monomial = tuple[tuple[str, int], ...]
Polynomial = Mapping[Monomial, Fraction]
"""Named quantities with whole powers, each monomial with its coefficient."""

ONE: Polynomial = {(): Fraction(1)}


@lru_cache(maxsize=200_000)
def _canonical(piece: Piece) -> Piece:
    return invariants.canonical(*piece)


def pieces(labels: Sequence[Label], edges: Sequence[Edge]) -> list[Piece]:
    """The connected pieces of a product, each in canonical form."""
    root = list(range(len(labels)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for _, indices in edges:
        for j in indices[1:]:
            root[find(j)] = find(indices[0])
    members: dict[int, list[int]] = {}
    for i in range(len(labels)):
        members.setdefault(find(i), []).append(i)
    within: dict[int, list[Edge]] = {piece: [] for piece in members}
    for edge in edges:
        within[find(edge[1][0])].append(edge)
    found = []
    for piece, indices in members.items():
        number = {i: k for k, i in enumerate(indices)}
        own = tuple((name, tuple(number[i] for i in ends)) for name, ends in within[piece])
        found.append(_canonical((tuple(labels[i] for i in indices), own)))
    return found


def joined(state: Iterable[Piece]) -> tuple[list[Label], list[Edge]]:
    """Several pieces as one product, their indices numbered on."""
    labels: list[Label] = []
    edges: list[Edge] = []
    for own, atoms in state:
        shift = len(labels)
        labels += own
        edges += [(name, tuple(i + shift for i in indices)) for name, indices in atoms]
    return labels, edges


def united(labels: Sequence[Label], edges: Sequence[Edge], same: Iterable[tuple[int, int]]) -> tuple[list[Label], list[Edge]]:
    """The product in which some indices have been made equal: the data on them meets."""
    root = list(range(len(labels)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for i, j in same:
        i, j = find(i), find(j)
        root[max(i, j)] = min(i, j)
    number: dict[int, int] = {}
    carried: list[list[str]] = []
    axes: list[str] = []
    for i, (axis, data) in enumerate(labels):
        k = number.setdefault(find(i), len(axes))
        if k == len(axes):
            axes.append(axis)
            carried.append([])
        carried[k] += data
    merged = [(axis, tuple(sorted(data))) for axis, data in zip(axes, carried, strict=True)]
    return merged, [(name, tuple(number[find(i)] for i in indices)) for name, indices in edges]


def times(left: Monomial, right: Monomial) -> Monomial:
    """The product of two monomials."""
    if not left or not right:
        return left or right
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted(powers.items()))


def add(total: dict[Monomial, Fraction], terms: Polynomial, *, factor: Fraction = Fraction(1), monomial: Monomial = ()) -> None:
    """Add factor * monomial * terms to a polynomial in place."""
    for key, value in terms.items():
        key = times(key, monomial)
        total[key] = total.get(key, Fraction(0)) + factor * value


def product(left: Polynomial, right: Polynomial) -> Polynomial:
    """The product of two polynomials."""
    found: dict[Monomial, Fraction] = {}
    for monomial, value in left.items():
        add(found, right, factor=value, monomial=monomial)
    return found
