"""Finds adapters: one file each in `definitions/adapters/`, and those of outside packages by entry point.

A file holds one or more module-level `Adapter`s. Outside packages declare them under the entry-point group
`rsverify.adapters`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from rsverify.definitions.adapter import Adapter
from rsverify.errors import UnknownName

ENTRY_POINTS = "rsverify.adapters"

_added: dict[str, Adapter] = {}


@cache
def _built_in() -> dict[str, Adapter]:
    package = importlib.import_module("rsverify.definitions.adapters")
    found: dict[str, Adapter] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        values = vars(importlib.import_module(f"{package.__name__}.{module}")).values()
        found.update({value.name: value for value in values if isinstance(value, Adapter)})
    return found


@cache
def _outside() -> dict[str, Adapter]:
    found: dict[str, Adapter] = {}
    for point in entry_points(group=ENTRY_POINTS):
        value = point.load()
        if isinstance(value, Adapter):
            found[value.name] = value
    return found


def adapters() -> dict[str, Adapter]:
    """Every adapter known here, by name."""
    return {**_built_in(), **_outside(), **_added}


def register(adapter: Adapter) -> Adapter:
    """Make an adapter of the running program known by its name; returns it."""
    _added[adapter.name] = adapter
    return adapter


def as_adapter(adapter: Adapter | str) -> Adapter:
    """The adapter itself, or the one of that name."""
    if isinstance(adapter, Adapter):
        return adapter
    known = adapters()
    if adapter not in known:
        raise UnknownName("adapter", adapter, known)
    return known[adapter]
