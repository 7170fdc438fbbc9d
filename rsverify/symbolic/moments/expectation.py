"""Expectations of tensor networks: moment-cumulant partitions over the draws of each factor, then sums over index classes.

Every way to partition the occurrences of a factor into blocks contributes the product of its blocks' cumulants and makes the
indices within a block equal; what is left are sums of the data over each class, and sizes of axes. The blocks are taken off one at
a time, and diagrams that have become equal are merged: of the million pairings of a fourth moment a few hundred remain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache

import sympy as sp

from rsverify.definitions import invariants
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Frozen, Law, PrincipalComponents
from rsverify.errors import BudgetError, NotDerivable
from rsverify.symbolic.moments import frames
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.diagrams import (
    ONE,
    Edge,
    Label,
    Monomial,
    Piece,
    Polynomial,
    State,
    add,
    joined,
    pieces,
    product,
    times,
    united,
)
from rsverify.symbolic.moments.network import DATA, ONES, SPECTRUM, Tensor, Term
from rsverify.symbolic.moments.sizes import axis_sizes, spread

MAX_WAYS = 5_000
"""Blocks that one occurrence may be put into: above this a single step of a moment takes minutes."""
MAX_DIAGRAMS = 15_000
"""Diagrams brought to canonical form for one moment, 0.4 ms each: above this it takes more than 6 s, and the price is named instead."""


def expectation(tensor: Tensor, adapter: Adapter) -> sp.Expr:
    """E of a scalar network, exact: in the sizes of the axes, the laws' cumulants and the data's invariants.

    Raises: BudgetError naming the number of partitions where it is too large; NotDerivable for laws of dependent entries of high order.
    """
    merged: dict[State, sp.Expr] = {}
    for term in tensor:
        state = _state(term)
        merged[state] = merged.get(state, sp.Integer(0)) + term.coefficient
    engine = _engine(adapter)
    engine.diagrams = 0
    for state, coefficient in merged.items():
        if coefficient != 0:
            engine.check(state)
    return sp.Add(*(coefficient * engine.written(engine.expect(state)) for state, coefficient in merged.items() if coefficient != 0))


def count_partitions(tensor: Tensor, adapter: Adapter) -> int:
    """The number of partitions that a moment sums over if no two diagrams are merged: its naive price."""
    engine = _engine(adapter)
    return sum(engine.price(_state(term)) for term in tensor)


@lru_cache(maxsize=64)
def _engine(adapter: Adapter) -> Engine:
    return Engine(adapter)


def _state(term: Term) -> State:
    """A term as pieces in canonical form, data vectors of one index written on their index."""
    number = {index: k for k, index in enumerate(dict.fromkeys(i for atom in term.atoms for i in atom.indices))}
    carried: list[list[str]] = [[] for _ in number]
    edges: list[Edge] = []
    for atom in term.atoms:
        if atom.tensor == ONES:
            continue
        if len(atom.indices) == 1 and (atom.tensor in DATA or atom.tensor.startswith(SPECTRUM)):
            carried[number[atom.indices[0]]].append(atom.tensor)
        else:
            edges.append((atom.tensor, tuple(number[i] for i in atom.indices)))
    labels: list[Label] = [(index.axis, tuple(sorted(data))) for index, data in zip(number, carried, strict=True)]
    return tuple(sorted(pieces(labels, edges)))


class Engine:
    """Expectations for one adapter; what was found for a diagram is kept."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.sizes = axis_sizes(adapter)
        self.found: dict[State, Polynomial] = {}
        self.symbols: dict[str, sp.Expr] = {}
        self.diagrams = 0

    def price(self, state: State) -> int:
        """Partitions that a state stands for."""
        return math.prod(self._ways(name, count) for name, count in _occurrences(state).items())

    def _ways(self, name: str, count: int) -> int:
        law = self.adapter.laws[name]
        if not law.independent:
            return _count(count, (2,)) ** 2
        return _count(count, _block_sizes(law, count))

    def check(self, state: State) -> None:
        """Refuse what would take minutes before anything is computed."""
        for name, count in _occurrences(state).items():
            if self._first(name, count) > MAX_WAYS:
                raise self._too_large(state)

    def _first(self, name: str, count: int) -> int:
        """The ways of the first block to be taken off."""
        law = self.adapter.laws[name]
        if not law.independent:
            return self._ways(name, count)
        return sum(math.comb(count - 1, size - 1) for size in _block_sizes(law, count))

    def _too_large(self, state: State) -> BudgetError:
        counts = _occurrences(state)
        price = self.price(state)
        return BudgetError(
            f"a moment with {max(counts.values(), default=0)} occurrences of a factor of {self.adapter.expression!r} sums over"
            f" {price} partitions, and even merged it takes more than {MAX_DIAGRAMS} diagrams (minutes); ask for less, or sample it",
            needed=price, allowed=MAX_DIAGRAMS, unit="partitions",
        )  # fmt: skip

    def expect(self, state: State) -> Polynomial:
        """E of a product of pieces."""
        known = self.found.get(state)
        if known is not None:
            return known
        groups = _independent(state)
        if len(groups) > 1:
            value: Polynomial = ONE
            for group in groups:
                value = product(value, self.expect(group))
        elif not (names := _occurrences(state)):
            monomial: Monomial = ()
            for piece in state:
                monomial = times(monomial, self._closed(piece))
            value = {monomial: Fraction(1)}
        else:
            # The factor that occurs least is taken off first: fewer ways, and what it leaves merges sooner.
            name = min(names, key=lambda factor: (names[factor], factor))
            value = self._peeled(state, name) if self.adapter.laws[name].independent else self._framed(state, name)
        self.found[state] = value
        return value

    def _peeled(self, state: State, name: str) -> Polynomial:
        """Sum over the blocks that the first occurrence of a factor may be in."""
        law = self.adapter.laws[name]
        labels, edges = joined(state)
        places = [k for k, (tensor, _) in enumerate(edges) if tensor == name]
        total: dict[Monomial, Fraction] = {}
        for size in _block_sizes(law, len(places)):
            cumulant = law.standard_cumulant(size)
            grouped: dict[State, int] = {}
            for others in itertools.combinations(places[1:], size - 1):
                block = (places[0], *others)
                same = [(edges[block[0]][1][p], edges[k][1][p]) for k in others for p in range(len(edges[k][1]))]
                left = self._reduced(labels, edges, block, same)
                grouped[left] = grouped.get(left, 0) + 1
            for left, count in grouped.items():
                add(total, self.expect(left), factor=cumulant * count, monomial=((f"spread {name}", size),))
        return total

    def _framed(self, state: State, name: str) -> Polynomial:
        """Sum over pairings of rows and of columns of an orthonormal factor, all its occurrences at once."""
        labels, edges = joined(state)
        places = tuple(k for k, (tensor, _) in enumerate(edges) if tensor == name)
        ends = [edges[k][1] for k in places]
        every = list(frames.pairings(len(places)))
        grouped: dict[tuple[tuple[int, ...], State], int] = {}
        for p, q in itertools.product(every, every):
            same = [(ends[a][0], ends[b][0]) for a, b in p] + [(ends[a][1], ends[b][1]) for a, b in q]
            key = (frames.loop_type(p, q), self._reduced(labels, edges, places, same))
            grouped[key] = grouped.get(key, 0) + 1
        total: dict[Monomial, Fraction] = {}
        for (kind, left), count in grouped.items():
            weight = f"frame {name} {len(places)} {','.join(map(str, kind))}"
            add(total, self.expect(left), factor=Fraction(count), monomial=times(((f"spread {name}", len(places)),), ((weight, 1),)))
        return total

    def _reduced(self, labels: Sequence[Label], edges: Sequence[Edge], gone: Sequence[int], same: Sequence[tuple[int, int]]) -> State:
        self.diagrams += 1
        if self.diagrams > MAX_DIAGRAMS:
            raise self._too_large(tuple(pieces(labels, edges)))
        kept = [edge for k, edge in enumerate(edges) if k not in gone]
        return tuple(sorted(pieces(*united(labels, kept, same))))

    def _closed(self, piece: Piece) -> Monomial:
        """A piece without random factors: a size, or an invariant of the data."""
        labels, atoms = piece
        axis, carried = labels[0]
        if not atoms and not carried:
            return ((f"size {axis}", 1),)
        if not atoms:
            if any(vector.startswith(SPECTRUM) for vector in carried):
                return ((self._named(f"spectrum {axis} {' '.join(carried)}", self._spectrum(axis, carried)), 1),)
            a, b, v = (carried.count(vector) for vector in DATA)
            value = s.signal_sum(v) if v else s.power_sum(a, b)
            return ((self._named(str(value), value), 1),)
        if len(atoms) == 2 and atoms[0][1] == atoms[1][1] and not any(carried for _, carried in labels):
            vectors = [tensor for tensor, _ in atoms]
            value = s.signal_sum(2) if "v" in vectors else s.power_sum(vectors.count("x"), vectors.count("x'"))
        elif any(carried for _, carried in labels):
            raise NotDerivable(f"components of a base weight meet data on axis {axis!r} of {self.adapter.expression!r}")
        else:
            value = s.contraction(invariants.name_of(atoms))
        return ((self._named(str(value), value), 1),)

    def _spectrum(self, axis: str, carried: Sequence[str]) -> sp.Expr:
        if not all(vector.startswith(SPECTRUM) for vector in carried):
            raise NotDerivable(f"components of a base weight meet data on axis {axis!r} of {self.adapter.expression!r}")
        decay = sum((sp.Rational(vector[len(SPECTRUM) :]) for vector in carried), sp.Integer(0))
        return sp.harmonic(self.sizes[axis], decay) if decay else self.sizes[axis]

    def _named(self, name: str, value: sp.Expr) -> str:
        self.symbols[name] = value
        return name

    def written(self, polynomial: Polynomial) -> sp.Expr:
        """A polynomial in the package's symbols."""
        terms = []
        for monomial, value in polynomial.items():
            if value:
                terms.append(
                    sp.Mul(sp.Rational(value.numerator, value.denominator), *(self._symbol(name) ** power for name, power in monomial))
                )
        return sp.Add(*terms)

    def _symbol(self, name: str) -> sp.Expr:
        if name not in self.symbols:
            kind, _, rest = name.partition(" ")
            if kind == "size":
                self.symbols[name] = self.sizes[rest]
            elif kind == "spread":
                self.symbols[name] = spread(self.adapter, rest)
            else:
                factor, order, loops = rest.split(" ")
                longer = frame_side(self.adapter, factor)
                weight = frames.weights(int(order))[tuple(int(k) for k in loops.split(","))]
                self.symbols[name] = weight.subs(frames.n, longer)
        return self.symbols[name]


def frame_side(adapter: Adapter, name: str) -> sp.Expr:
    """The longer side of an orthonormal factor; of principal components the side that they are vectors of, however many they are."""
    first, second = (axis_sizes(adapter)[axis] for axis in adapter.operands[name])
    law = adapter.laws[name]
    bare = law.law if isinstance(law, Frozen) else law
    if isinstance(bare, PrincipalComponents):
        return second if bare.components == "rows" else first
    return sp.Max(first, second)


@cache
def _block_sizes(law: Law, count: int) -> tuple[int, ...]:
    """The sizes of blocks whose cumulant is not zero."""
    return tuple(size for size in range(1, count + 1) if law.standard_cumulant(size) != 0)


@cache
def _count(count: int, sizes: tuple[int, ...]) -> int:
    if count == 0:
        return 1
    return sum(math.comb(count - 1, size - 1) * _count(count - size, sizes) for size in sizes if size <= count)


def _occurrences(state: State) -> dict[str, int]:
    """How often each random factor stands in a state."""
    found: dict[str, int] = {}
    for _, atoms in state:
        for name, _ in atoms:
            if name not in DATA:
                found[name] = found.get(name, 0) + 1
    return found


def _independent(state: State) -> list[State]:
    """The pieces by groups that share no random factor."""
    groups: list[tuple[set[str], list[Piece]]] = []
    for piece in state:
        names = {name for name, _ in piece[1] if name not in DATA}
        held = [piece]
        apart = []
        for other, members in groups:
            if names & other:
                names, held = names | other, members + held
            else:
                apart.append((other, members))
        groups = [*apart, (names, held)]
    return [tuple(sorted(members)) for _, members in groups]
