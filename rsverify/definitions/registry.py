"""Finds adapters: one file each in `definitions/adapters/`, and those of outside packages by entry point.

A file holds one or more module-level `Adapter`s or `WrappedAdapter`s. Outside packages declare them under the entry-point
group `rsverify.adapters`; one that cannot be loaded is left out with a warning, so that it cannot take the others with it.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import NotDerivable

Declared = Adapter | WrappedAdapter

ENTRY_POINTS = "rsverify.adapters"

_added: dict[str, Declared] = {}


@cache
def _built_in() -> dict[str, Declared]:
    package = importlib.import_module("rsverify.definitions.adapters")
    found: dict[str, Declared] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        values = vars(importlib.import_module(f"{package.__name__}.{module}")).values()
        found.update({value.name: value for value in values if isinstance(value, Declared)})
    return found


@cache
def _outside() -> dict[str, Declared]:
    found: dict[str, Declared] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            value = point.load()
        except Exception as error:
            warnings.warn(f"entry point {point.name!r} of group {ENTRY_POINTS} cannot be loaded ({type(error).__name__}: {error})")
            continue
        if isinstance(value, Declared):
            found[value.name] = value
        else:
            warnings.warn(f"entry point {point.name!r} of group {ENTRY_POINTS} is {type(value).__name__}; expected an rv.Adapter")
    return found


def adapters() -> dict[str, Declared]:
    """Every adapter known here, by name."""
    return {**_built_in(), **_outside(), **_added}


def register(adapter: Declared) -> Declared:
    """Make an adapter of the running program known by its name; returns it."""
    _added[adapter.name] = adapter
    return adapter


def as_declared(adapter: Any) -> Declared:
    """The declaration of any target (`definitions.targets`), multilinear or not.

    Raises: UnknownName, InputError for what is no target; NotDerivable for a module without a declaration.
    """
    if isinstance(adapter, Declared):
        return adapter
    from rsverify.definitions.targets import as_target

    return as_target(adapter).derivable


def as_adapter(adapter: Any) -> Adapter:
    """The multilinear declaration of any target.

    Raises: NotDerivable with the reason and the core, where the adapter is not multilinear.
    """
    found = as_declared(adapter)
    if isinstance(found, WrappedAdapter):
        raise NotDerivable(f"of adapter {found.name!r}, {found.reason}", found.core)
    return found
