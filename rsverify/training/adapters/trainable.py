"""What training takes for an adapter: a declaration, or whatever builds a module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.registry import Declared, as_declared
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError, RsverifyError
from rsverify.training.adapters.called import Called, ModuleAdapter
from rsverify.training.adapters.contraction import two_factors
from rsverify.training.adapters.forms import Contracted, Form, Reweighted


def as_trainable(adapter: Any) -> Declared | ModuleAdapter:
    """The declaration of that name, or what a factory, or an object with a `build`, builds.

    An object that has both a build and a declaration (a target, a subject) is trained as it is built.
    """
    if isinstance(adapter, Declared | ModuleAdapter):
        return adapter
    if isinstance(adapter, str):
        return as_declared(adapter)
    build = getattr(adapter, "build", None)
    if build is None and isinstance(getattr(adapter, "declared", None), Declared):
        return adapter.declared
    build = adapter if build is None else build
    if not callable(build):
        raise InputError(
            f"adapter={adapter!r} is {type(adapter).__name__}; expected the name of an adapter, a declaration, or a function"
            " build(rank, base, alpha) that returns the adapted layer"
        )
    held = getattr(build, "func", build)  # of a partial, what it calls
    return ModuleAdapter(str(getattr(adapter, "name", None) or getattr(held, "__name__", type(held).__name__)), build)


def form_of(adapter: Any, linear: nn.Linear, *, layer: str, rank: int, alpha: float) -> Form:
    """The form of an adapter, declared or built, on a linear.

    Raises: InputError or AdapterError where it has none there, e.g. a rank that an axis cannot have.
    """
    if isinstance(adapter, Adapter):
        adapter.check_draws(rank, *reversed(linear.weight.shape))
        return Contracted(adapter, linear, layer=layer, rank=rank)
    if isinstance(adapter, WrappedAdapter):
        return Reweighted(adapter, linear, layer=layer, rank=rank)
    return Called(adapter.name, adapter.build, linear, layer=layer, rank=rank, alpha=alpha)


def usable_ranks(
    adapter: Declared | ModuleAdapter, linears: dict[str, nn.Linear], ranks: Sequence[int], *, alpha: float
) -> tuple[tuple[int, ...], dict[int, str]]:
    """The ranks that the adapter has on these linears, and why it has none at the others.

    Asked of one linear of each shape. Raises: InputError where it has none of them, or where a module of all of them is of one size:
    its factory then ignores the rank.
    """
    one_of = {tuple(linear.weight.shape): (layer, linear) for layer, linear in reversed(linears.items())}
    reasons: dict[int, str] = {}
    sizes: dict[int, int] = {}
    for rank in ranks:
        try:
            forms = [form_of(adapter, linear, layer=layer, rank=rank, alpha=alpha) for layer, linear in one_of.values()]
        except RsverifyError as error:
            reasons[rank] = str(error)
        else:
            sizes[rank] = sum(math.prod(form.shapes[name]) for form in forms for name in form.trained)
    if not sizes:
        raise InputError(f"{adapter.name}: none of the ranks {list(ranks)} can be had: {next(iter(reasons.values()))}")
    if isinstance(adapter, ModuleAdapter) and len(sizes) > 1 and len(set(sizes.values())) == 1:
        raise InputError(
            f"{adapter.name}: the module trains {next(iter(sizes.values()))} entries at every one of the ranks {list(sizes)}: its factory"
            " ignores the rank; expected build(rank, base, alpha) to make the size follow"
        )
    return tuple(sizes), reasons


def entries(adapter: Declared | ModuleAdapter, linear: nn.Linear, *, layer: str, rank: int, alpha: float) -> tuple[int, int]:
    """Numbers that a configuration keeps for a linear: of its factors, and beside them (at most)."""
    if isinstance(adapter, Adapter) and two_factors(adapter) is not None:
        return rank * sum(linear.weight.shape), 0
    form = form_of(adapter, linear, layer=layer, rank=rank, alpha=alpha)
    beside = linear.weight.numel() if form.ndim and not isinstance(form, Contracted) else 0
    return sum(math.prod(shape) for shape in form.shapes.values()), beside
