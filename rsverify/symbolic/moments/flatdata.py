"""What the data's invariants are for flat data: all |x_i| equal, all |v_j| equal, signs at random.

x' agrees with x in sign at a share (1 + cosine) / 2 of the entries. An invariant that depends on which signs stand where takes
its mean over them: the same moment-cumulant sum as for a factor, with the joint cumulants of a sign and its probe.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import sympy as sp

from rsverify.definitions import invariants
from rsverify.definitions.adapter import Adapter
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import axis_sizes


def flat_values(names: Iterable[str], adapter: Adapter | None = None) -> dict[str, sp.Expr]:
    """The flat value of every invariant among the names, in d_in, d_out, x_norm2, v_norm2, cosine and sizes of axes.

    Args: adapter says which axes the data's groups are made of; without it contractions over groups are left out.
    """
    found: dict[str, sp.Expr] = {}
    for name in names:
        if name == "v_norm1":
            found[name] = sp.sqrt(s.d_out) * sp.sqrt(s.v_norm2)
            continue
        if name in ("x_norm1", "x_sign"):
            found[name] = sp.sqrt(s.d_in) * sp.sqrt(s.x_norm2) * (s.cosine if name == "x_sign" else 1)
            continue
        atoms = invariants.atoms_of(name)
        if atoms is None or (name[0] == "G" and adapter is None):
            continue
        found[name] = _of(atoms, name[0] == "G", adapter)
    return found


def changing(names: Iterable[str], adapter: Adapter | None) -> list[str]:
    """The contractions among the names whose data is reshaped over an axis that changes with the rank: another number at every rank."""
    found = []
    for name in names:
        atoms = invariants.atoms_of(name) if name[:2] == "G_" and adapter is not None else None
        if atoms and adapter is not None:
            sizes = axis_sizes(adapter)
            if any(sizes[axis].has(s.r) for axis in adapter.result[0 if atoms[0][0] == "v" else 1]):
                found.append(name)
    return sorted(found)


def flat_product(names: Sequence[str], adapter: Adapter) -> sp.Expr:
    """The mean of a product of contractions over groups, their signs drawn together."""
    value: sp.Expr = sp.Integer(1)
    for signal in (False, True):
        together: list[tuple[str, tuple[int, ...]]] = []
        for name in names:
            atoms = invariants.atoms_of(name)
            assert atoms is not None
            if (atoms[0][0] == "v") == signal:
                shift = 1 + max((i for _, indices in together for i in indices), default=-1)
                together += [(vector, tuple(i + shift for i in indices)) for vector, indices in atoms]
        if together:
            value *= _of(together, True, adapter)
    return value


def _of(atoms: Sequence[tuple[str, tuple[int, ...]]], grouped: bool, adapter: Adapter | None) -> sp.Expr:
    signal = any(vector == "v" for vector, _ in atoms)
    width, norm2 = (s.d_out, s.v_norm2) if signal else (s.d_in, s.x_norm2)
    if not grouped or adapter is None:
        sizes: tuple[sp.Expr, ...] = (width,)
    else:
        known = axis_sizes(adapter)
        sizes = tuple(known[axis] for axis in adapter.result[0 if signal else 1])
    return (norm2 / width) ** sp.Rational(len(atoms), 2) * _mean(tuple(atoms), sizes)


@cache
def _mean(atoms: tuple[tuple[str, tuple[int, ...]], ...], sizes: tuple[sp.Expr, ...]) -> sp.Expr:
    """E of the contraction for signs: over partitions of the tensors into blocks that stand at one place."""
    total: list[sp.Expr] = []
    for blocks in _even_partitions(tuple(range(len(atoms)))):
        weight: sp.Expr = sp.Integer(1)
        same: dict[tuple[int, int], tuple[int, int]] = {}

        def root(i: tuple[int, int], same: Mapping[tuple[int, int], tuple[int, int]] = same) -> tuple[int, int]:
            while i in same:
                i = same[i]
            return i

        for block in blocks:
            probes = sum(atoms[k][0] == "x'" for k in block)
            weight *= _cumulant(len(block) - probes, probes)
            for k in block[1:]:
                for axis, (i, j) in enumerate(zip(atoms[block[0]][1], atoms[k][1], strict=True)):
                    a, b = root((axis, i)), root((axis, j))
                    if a != b:
                        same[a] = b
        if weight != 0:
            classes = {root((axis, i)) for _, indices in atoms for axis, i in enumerate(indices)}
            total.append(weight * sp.Mul(*(sizes[axis] for axis, _ in classes)))
    return sp.expand(sp.Add(*total))


def _even_partitions(items: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    if not items:
        yield ()
        return
    for size in range(2, len(items) + 1, 2):
        for others in itertools.combinations(items[1:], size - 1):
            left = tuple(item for item in items[1:] if item not in others)
            for more in _even_partitions(left):
                yield ((items[0], *others), *more)


@cache
def _moment(a: int, b: int) -> sp.Expr:
    """E e**a e'**b of a sign and its probe: their product has mean `cosine`."""
    if (a + b) % 2:
        return sp.Integer(0)
    return s.cosine if b % 2 else sp.Integer(1)


@cache
def _cumulant(a: int, b: int) -> sp.Expr:
    """The joint cumulant of a signs and b probe signs, by the block of one of them."""
    value = _moment(a, b)
    for i, j in itertools.product(range(a + 1), range(b + 1)):
        if (i, j) == (a, b):
            continue
        ways = math.comb(a - 1, i - 1) * math.comb(b, j) if a and i else math.comb(b - 1, j - 1) if not a and j else 0
        if ways:
            value -= ways * _cumulant(i, j) * _moment(a - i, b - j)
    return sp.expand(value)
