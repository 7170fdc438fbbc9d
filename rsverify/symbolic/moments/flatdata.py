"""What the data's invariants are for flat data: all |x_i| equal, all |v_j| equal, signs at random.

x' agrees with x in sign at a share (1 + cosine) / 2 of the entries. Sums of odd powers, and contractions of reshaped data, depend on
which signs stand where: these are random, and a product of them is averaged as one, since the mean of a square is not the square of
a mean. The mean is the same moment-cumulant sum as for a factor, with the joint cumulants of a sign and its probe.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import sympy as sp

from rsverify.definitions import invariants
from rsverify.definitions.adapter import Adapter
from rsverify.errors import BudgetError, NotDerivable
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import axis_sizes

MAX_SIGNS = 12
"""Entries of reshaped data in one product of contractions: their partitions are 10 395 here and grow factorially."""


def flat_values(names: Iterable[str]) -> dict[str, sp.Expr]:
    """The flat value of every invariant among the names that is the same whatever the signs, in d_in, d_out, x_norm2, v_norm2, cosine."""
    values: dict[str, sp.Expr] = {}
    for name in names:
        if name == "v_norm1":
            values[name] = sp.sqrt(s.d_out) * sp.sqrt(s.v_norm2)
        elif name in ("x_norm1", "x_sign"):
            values[name] = sp.sqrt(s.d_in) * sp.sqrt(s.x_norm2) * (s.cosine if name == "x_sign" else 1)
        elif (atoms := _power_sum(name)) is not None and len(atoms) % 2 == 0:
            width, norm2 = (s.d_out, s.v_norm2) if name[0] == "V" else (s.d_in, s.x_norm2)
            probes = sum(vector == "x'" for vector, _ in atoms)
            values[name] = (norm2 / width) ** sp.Rational(len(atoms), 2) * width * (s.cosine if probes % 2 else 1)
    return values


def random_names(names: Iterable[str]) -> tuple[str, ...]:
    """The invariants among the names whose flat value depends on which signs stand where."""
    return tuple(sorted(name for name in names if name[:2] == "G_" or len(_power_sum(name) or ()) % 2))


def _power_sum(name: str) -> list[tuple[str, tuple[int, ...]]] | None:
    """The data vectors of a sum of powers over one index; None for any other name."""
    return None if name[:2] == "G_" else invariants.atoms_of(name)


def averaged(expression: sp.Expr, names: Sequence[str], adapter: Adapter | None) -> sp.Expr:
    """The mean of an expression over flat data, of the random invariants among the names; all others stay.

    Raises: NotDerivable where the expression is no polynomial in them; BudgetError where a product has too many entries.
    """
    symbols = {name: symbol for symbol in expression.free_symbols if (name := str(symbol)) in names}
    if not symbols:
        return expression
    terms = []
    for term in sp.Add.make_args(sp.expand(expression)):
        rest, product = term, []
        for name, symbol in symbols.items():
            rest, power = rest.as_coeff_exponent(symbol)
            if not power.is_Integer or power < 0 or rest.has(symbol):
                raise NotDerivable(f"{name} depends on the data's signs, and {term} is no polynomial in it: it has no mean over flat data")
            product += [name] * int(power)
        terms.append(rest * flat_product(product, adapter))
    return sp.Add(*terms)


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


def flat_product(names: Sequence[str], adapter: Adapter | None) -> sp.Expr:
    """The mean of a product of random invariants over flat data, their signs drawn together.

    Raises: BudgetError where contractions of reshaped data have too many entries together.
    """
    value: sp.Expr = sp.Integer(1)
    for signal in (False, True):
        width, norm2 = (s.d_out, s.v_norm2) if signal else (s.d_in, s.x_norm2)
        contracted: list[tuple[str, tuple[int, ...]]] = []
        sums: list[str] = []
        order = 0
        for name in names:
            atoms = invariants.atoms_of(name)
            assert atoms is not None
            if (atoms[0][0] == "v") != signal:
                continue
            order += len(atoms)
            if name[0] == "G":
                contracted += _shifted(atoms, contracted)
            else:  # an even power of a sign is one: what is left is the sign, or that of the probe
                probes = sum(vector == "x'" for vector, _ in atoms)
                sums.append("x'" if probes % 2 else atoms[0][0] if signal else "x")
        if not order:
            continue
        size = (norm2 / width) ** sp.Rational(order, 2)
        if contracted:
            assert adapter is not None, "contractions over groups need their adapter"
            axes = adapter.result[0 if signal else 1]
            for vector in sums:
                contracted += _shifted([(vector, (0,) * len(axes))], contracted)
            if len(contracted) > MAX_SIGNS:
                raise BudgetError(
                    f"a product of contractions of reshaped data holds {len(contracted)} entries, at most {MAX_SIGNS} are averaged over"
                    " signs; give the data's invariants, or sample it", needed=len(contracted), allowed=MAX_SIGNS, unit="entries",
                )  # fmt: skip
            known = axis_sizes(adapter)
            value *= size * _mean(tuple(contracted), tuple(known[axis] for axis in axes))
        else:
            probes = sums.count("x'")
            value *= size * _sum_product(len(sums) - probes, probes, width)
    return value


def _shifted(
    atoms: Sequence[tuple[str, tuple[int, ...]]], after: Sequence[tuple[str, tuple[int, ...]]]
) -> list[tuple[str, tuple[int, ...]]]:
    """The atoms with indices of their own, beyond those of other atoms."""
    shift = 1 + max((i for _, indices in after for i in indices), default=-1)
    return [(vector, tuple(i + shift for i in indices)) for vector, indices in atoms]


@cache
def _sum_product(samples: int, probes: int, width: sp.Expr) -> sp.Expr:
    """E of (sum of signs)**samples * (sum of probe signs)**probes, the share of agreeing signs held fixed: by the block of one factor."""
    if samples == 0 and probes == 0:
        return sp.Integer(1)
    total: sp.Expr = sp.Integer(0)
    for i, j in itertools.product(range(samples + 1), range(probes + 1)):
        if (i + j) % 2 or not (i if samples else j):
            continue
        ways = math.comb(samples - 1, i - 1) * math.comb(probes, j) if samples else math.comb(probes - 1, j - 1)
        total += ways * _cumulant(i + j, 0) * width * (s.cosine if j % 2 else 1) * _sum_product(samples - i, probes - j, width)
    return sp.expand(total)


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
