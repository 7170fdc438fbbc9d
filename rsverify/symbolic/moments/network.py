"""Sums of tensor networks: what an adapter computes, and its gradients, as products of named tensors over shared indices.

A term is a coefficient times atoms, each a tensor name with its indices; an index that stands in two atoms is summed.
The tensors are the factors at init and the data: "x" sample, "x'" probe, "v" signal.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from rsverify.definitions import invariants
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Frozen, PrincipalComponents, Zero
from rsverify.symbolic.moments import symbols as s

DATA = ("x", "x'", "v")
SPECTRUM = "spectrum:"
"""Begins the name of a vector on a component axis: k**-decay for the text of the decay that follows."""
ONES = "1"
"""A vector of ones: keeps an index that no other tensor holds."""

_fresh = itertools.count()


@dataclass(frozen=True)
class Index:
    """A summation index: an identity and the axis that it runs over."""

    identity: int
    axis: str

    @classmethod
    def new(cls, axis: str) -> Index:
        return cls(next(_fresh), axis)


@dataclass(frozen=True)
class Atom:
    """One tensor of a product with its indices."""

    tensor: str
    indices: tuple[Index, ...]


@dataclass(frozen=True)
class Term:
    """A coefficient times a product of atoms; `free` are the indices that are not summed, in order."""

    coefficient: sp.Expr
    atoms: tuple[Atom, ...]
    free: tuple[Index, ...] = ()

    def renamed(self) -> Term:
        """The same term with summed and free indices of its own."""
        fresh: dict[Index, Index] = {}

        def new(index: Index) -> Index:
            return fresh.setdefault(index, Index.new(index.axis))

        atoms = tuple(Atom(a.tensor, tuple(new(i) for i in a.indices)) for a in self.atoms)
        return Term(self.coefficient, atoms, tuple(new(i) for i in self.free))

    def joined(self, old: Sequence[Index], new: Sequence[Index]) -> Term:
        """The same term with some indices replaced."""
        swap = dict(zip(old, new, strict=True))
        atoms = tuple(Atom(a.tensor, tuple(swap.get(i, i) for i in a.indices)) for a in self.atoms)
        return Term(self.coefficient, atoms, tuple(swap.get(i, i) for i in self.free))


Tensor = tuple[Term, ...]
"""A sum of terms with the same free axes."""


def scaled(tensor: Tensor, factor: sp.Expr) -> Tensor:
    return tuple(Term(t.coefficient * factor, t.atoms, t.free) for t in tensor)


def inner(left: Tensor, right: Tensor) -> Tensor:
    """The sum over all free indices of a product: a scalar."""
    found = []
    for a, b in itertools.product(left, right):
        a, b = a.renamed(), b.renamed()
        b = b.joined(b.free, a.free)
        found.append(Term(a.coefficient * b.coefficient, a.atoms + b.atoms))
    return tuple(found)


def merged(tensor: Tensor) -> Tensor:
    """The same sum with equal networks written once."""
    total: dict[tuple[object, ...], tuple[sp.Expr, Term]] = {}
    for term in tensor:
        number = {index: k for k, index in enumerate(dict.fromkeys((*term.free, *(i for atom in term.atoms for i in atom.indices))))}
        free = {index: place for place, index in enumerate(term.free)}
        labels = [(index.axis, free.get(index, -1)) for index in number]
        form = invariants.canonical(labels, [(atom.tensor, tuple(number[i] for i in atom.indices)) for atom in term.atoms])
        coefficient, first = total.get(form, (sp.Integer(0), term))
        total[form] = coefficient + term.coefficient, first
    expanded = ((sp.expand(coefficient), term) for coefficient, term in total.values())
    return tuple(Term(coefficient, term.atoms, term.free) for coefficient, term in expanded if coefficient != 0)


def data(name: str, axes: str | Sequence[str]) -> Tensor:
    """A data vector, reshaped over its axes, with its indices free."""
    indices = tuple(Index.new(axis) for axis in ((axes,) if isinstance(axes, str) else axes))
    return (Term(sp.Integer(1), (Atom(name, indices),), indices),)


def at_init(adapter: Adapter, name: str) -> Tensor:
    """A factor at init: nothing for a zero law."""
    law = adapter.laws[name]
    if isinstance(law.law if isinstance(law, Frozen) else law, Zero):
        return ()
    indices = tuple(Index.new(axis) for axis in adapter.operands[name])
    atoms = [Atom(name, indices)]
    bare = law.law if isinstance(law, Frozen) else law
    if isinstance(bare, PrincipalComponents) and (decay := Fraction(str(bare.decay))):
        # Column k of a frame times k**(-decay/2): the root of a singular value.
        atoms.append(Atom(f"{SPECTRUM}{decay / 2}", (indices[0 if bare.components == "rows" else 1],)))
    return (Term(sp.Integer(1), tuple(atoms), indices),)


def contraction(
    adapter: Adapter, factors: Mapping[str, Tensor], *, without: str | None = None, row: str | None = None, column: str | None = None
) -> Tensor:
    """gamma times the adapter's product of factors, with data on its rows or columns.

    Args: `without` leaves a factor out, so that its axes are free (the gradient with respect to it); `row`, `column`
        name the data vectors contracted with the result's rows and columns; where None, those axes are free.
    """
    total: list[Term] = []
    names = [name for name in adapter.operands if name != without]
    for choice in itertools.product(*(factors[name] for name in names)):
        shared = {axis: Index.new(axis) for axis in adapter.axes}
        atoms: list[Atom] = []
        coefficient: sp.Expr = s.gamma
        for name, term in zip(names, choice, strict=True):
            own = term.renamed()
            own = own.joined(own.free, [shared[axis] for axis in adapter.operands[name]])
            atoms += own.atoms
            coefficient *= own.coefficient
        open_axes: list[str] = list(adapter.operands[without]) if without else []
        for vector, axes in zip((row, column), adapter.result, strict=True):
            if vector is not None:
                atoms.append(Atom(vector, tuple(shared[axis] for axis in axes)))
            else:
                open_axes += [axis for axis in axes if axis not in open_axes]
        # An axis of the left-out factor alone is free (or summed) over its whole size all the same.
        held = {index for atom in atoms for index in atom.indices}
        atoms += [Atom(ONES, (index,)) for index in shared.values() if index not in held]
        total.append(Term(coefficient, tuple(atoms), tuple(shared[axis] for axis in open_axes)))
    return tuple(total)
