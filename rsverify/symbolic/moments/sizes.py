"""The sizes of an adapter's axes, the spreads of its laws and the number of its entries, in the package's symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import sympy as sp

from rsverify.definitions.adapter import Adapter, GrowingSizes, RoundedSizes, two_sizes
from rsverify.errors import AdapterError, NotDerivable, RsverifyError
from rsverify.expressions import Expression
from rsverify.symbolic.moments import symbols as s

_TRIED = ((64, 64), (128, 192), (96, 96), (256, 128), (768, 768), (4096, 4096))
"""Widths at which a function of sizes is tried for what it does with the rank."""


@lru_cache(maxsize=256)
def axis_sizes(adapter: Adapter) -> Mapping[str, sp.Expr]:
    """Size of every axis: r, a width, a formula of these, or a symbol n_<axis> where `sizes` is a function.

    Of a function that rounds what formulas say, the formulas are taken: exact wherever they come out whole.

    Raises: NotDerivable where a function makes a size depend on the rank (no formula says how); AdapterError where no size follows.
    """
    rows, columns = adapter.result
    found: dict[str, sp.Expr] = {}
    if len(rows) == 1:
        found[rows[0]] = s.d_out
    if len(columns) == 1:
        found[columns[0]] = s.d_in
    # The rank comes first, as in Adapter.axis_sizes: a result's axis may itself be the rank.
    found.update(dict.fromkeys(adapter.rank_axes, s.r))
    known = {"r": s.r, "d_in": s.d_in, "d_out": s.d_out}
    formulas = adapter.sizes.formulas if isinstance(adapter.sizes, RoundedSizes) else adapter.sizes
    if callable(formulas):
        found.update({axis: s.axis_size(axis) for axis in _free_of_rank(adapter)})
    elif formulas is not None:
        found.update({axis: Expression(text).to_sympy(known) for axis, text in formulas.items()})
    for axes, width, what in ((rows, s.d_out, "d_out"), (columns, s.d_in, "d_in")):
        product = sp.Mul(*(found[axis] for axis in axes if axis in found))
        if all(axis in found for axis in axes) and not callable(formulas) and sp.expand(product - width) != 0:
            raise AdapterError(two_sizes(adapter, axes, f"{what} and {product}"))
    for axis in adapter.axes:
        if axis not in found:
            raise AdapterError(f"adapter {adapter.name!r}: no size follows for axis {axis!r} of {adapter.expression!r}; give it in sizes=")
    return found


def growth(adapter: Adapter) -> Mapping[str, sp.Expr]:
    """How sizes that are symbols grow with the widths, where the adapter says so."""
    if not isinstance(adapter.sizes, GrowingSizes):
        return {}
    known = {"r": s.r, "d_in": s.d_in, "d_out": s.d_out}
    return {axis: Expression(text).to_sympy(known) for axis, text in adapter.sizes.growth.items()}


def growth_note(adapter: Adapter) -> str | None:
    """What is assumed of sizes that are symbols as the widths grow."""
    said = ", ".join(f"n_{axis} as {size}" for axis, size in growth(adapter).items())
    return f"with the widths, {said} grows up to a constant: widths that split evenly" if said else None


def _free_of_rank(adapter: Adapter) -> tuple[str, ...]:
    """The axes that a function of sizes names, tried to be the same at every rank."""
    assert callable(adapter.sizes)
    named: tuple[str, ...] = ()
    for d_in, d_out in _TRIED:
        seen: dict[str, set[int]] = {}
        for r in (1, 2, 4, 8, 16, 32):
            try:
                given = adapter.sizes(d_in, d_out, r)
            except (
                RsverifyError,
                ValueError,
                ArithmeticError,
                LookupError,
                StopIteration,
            ):  # a function may refuse a rank or widths; what it refuses cannot be asked for either
                continue
            for axis, size in given.items():
                seen.setdefault(axis, set()).add(size)
        for axis, values in seen.items():
            if len(values) > 1:
                raise NotDerivable(
                    f"axis {axis!r} of {adapter.expression!r} has a size that a function makes depend on the rank;"
                    ' give it as a formula in d_in, d_out and r (sizes={"' + axis + '": "d_in/r"}) and it can be derived'
                )
        named = named or tuple(seen)
    return named


def spread(adapter: Adapter, name: str) -> sp.Expr:
    """The spread of a factor's law in the package's symbols."""
    sizes = {"r": s.r, "d_in": s.d_in, "d_out": s.d_out, "gamma": s.gamma, **axis_sizes(adapter)}
    return adapter.laws[name].spread.to_sympy(sizes)


def factor_size(adapter: Adapter, names: Iterable[str]) -> sp.Expr:
    """The number of entries of the factors together."""
    sizes = axis_sizes(adapter)
    return sp.Add(*(sp.Mul(*(sizes[axis] for axis in adapter.operands[name])) for name in names))
