"""Expectations of tensor networks: moment-cumulant partitions over the draws of each factor, then sums over index classes.

Every way to partition the occurrences of a factor into blocks contributes the product of its blocks' cumulants and makes the
indices within a block equal; what is left are sums of powers of the data over each class, and factors of r and the widths.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Law
from rsverify.errors import BudgetError, NotDerivable
from rsverify.symbolic import symbols as s
from rsverify.symbolic.network import DATA, Atom, Index, Tensor, Term, single_axes

MAX_PARTITIONS = 200_000
"""Above this a moment takes minutes; the price is named instead."""


def expectation(tensor: Tensor, adapter: Adapter) -> sp.Expr:
    """E of a scalar network, exact: a polynomial in the size of every axis, the laws' cumulants and the data's power sums.

    Raises: BudgetError naming the number of partitions where it is too large; NotDerivable for laws of dependent entries.
    """
    return sp.Add(*(_term(term, adapter) for term in tensor))


def partitions(count: int, law: Law) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Partitions of `count` occurrences into blocks whose cumulant is not zero."""
    yield from _partitions(tuple(range(count)), tuple(k for k in range(1, count + 1) if law.standard_cumulant(k) != 0))


def _partitions(items: tuple[int, ...], sizes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    if not items:
        yield ()
        return
    first, rest = items[0], items[1:]
    for size in sizes:
        for others in itertools.combinations(rest, size - 1):
            left = tuple(item for item in rest if item not in others)
            for more in _partitions(left, sizes):
                yield ((first, *others), *more)


@cache
def _count(count: int, sizes: tuple[int, ...]) -> int:
    if count == 0:
        return 1
    return sum(int(sp.binomial(count - 1, size - 1)) * _count(count - size, sizes) for size in sizes if size <= count)


def _term(term: Term, adapter: Adapter) -> sp.Expr:
    random: dict[str, list[Atom]] = {}
    for atom in term.atoms:
        if atom.tensor not in DATA:
            random.setdefault(atom.tensor, []).append(atom)
    known = tuple(atom for atom in term.atoms if atom.tensor in DATA)
    price = 1
    for name, atoms in random.items():
        law = adapter.laws[name]
        if not law.independent:
            raise NotDerivable(f"the entries of factor {name} ({law.text()}) are dependent, and their joint moments are not written yet")
        price *= _count(len(atoms), tuple(k for k in range(1, len(atoms) + 1) if law.standard_cumulant(k) != 0))
    if price > MAX_PARTITIONS:
        order = max(len(atoms) for atoms in random.values())
        raise BudgetError(
            f"a moment of order {order} of {adapter.expression!r} takes {price} partitions, at most {MAX_PARTITIONS} are summed",
            needed=price, allowed=MAX_PARTITIONS, unit="partitions",
        )  # fmt: skip
    total: list[sp.Expr] = []
    for choice in itertools.product(*(list(partitions(len(atoms), adapter.laws[name])) for name, atoms in random.items())):
        same: dict[Index, Index] = {}
        weight: sp.Expr = term.coefficient
        for (name, atoms), blocks in zip(random.items(), choice, strict=True):
            law = adapter.laws[name]
            for block in blocks:
                weight *= sp.Rational(law.standard_cumulant(len(block))) * spread(adapter, name) ** len(block)
                for other in block[1:]:
                    for i, j in zip(atoms[block[0]].indices, atoms[other].indices, strict=True):
                        _unite(same, i, j)
        total.append(weight * _classes(term, known, same, adapter))
    return sp.Add(*total)


def spread(adapter: Adapter, name: str) -> sp.Expr:
    """The spread of a factor's law in the package's symbols."""
    rows, columns = single_axes(adapter)
    sizes = {"r": s.r, "d_in": s.d_in, "d_out": s.d_out, rows: s.d_out, columns: s.d_in, **dict.fromkeys(adapter.rank_axes, s.r)}
    formula = adapter.laws[name].spread
    missing = formula.names - sizes.keys()
    if missing:
        raise NotDerivable(f"the spread of factor {name} depends on axis {min(missing)}, whose size is no rank and no width")
    return formula.to_sympy(sizes)


def _classes(term: Term, known: tuple[Atom, ...], same: dict[Index, Index], adapter: Adapter) -> sp.Expr:
    """The sum over every class of equal indices: of a power of the data, or of one."""
    rows, columns = single_axes(adapter)
    indices = {_root(same, i): i.axis for atom in term.atoms for i in atom.indices}
    carried: dict[Index, list[str]] = {index: [] for index in indices}
    for atom in known:
        carried[_root(same, atom.indices[0])].append(atom.tensor)
    product: sp.Expr = sp.Integer(1)
    for index, axis in indices.items():
        vectors = carried[index]
        if axis == columns:
            product *= s.power_sum(vectors.count("x"), vectors.count("x'"))
        elif axis == rows:
            product *= _signal(len(vectors))
        elif axis in adapter.rank_axes:
            product *= s.r
        else:
            raise NotDerivable(f"axis {axis!r} of {adapter.expression!r} is no rank and no width, and its size is not a symbol yet")
    return product


def _signal(power: int) -> sp.Expr:
    if power == 0:
        return s.d_out
    if power == 2:
        return s.v_norm2
    return sp.Symbol(f"V{power}", real=True)


def _root(same: dict[Index, Index], index: Index) -> Index:
    while index in same:
        index = same[index]
    return index


def _unite(same: dict[Index, Index], i: Index, j: Index) -> None:
    i, j = _root(same, i), _root(same, j)
    if i != j:
        same[j] = i
