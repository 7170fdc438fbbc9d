"""Finds checks: functions `check_<noun>_<property>` in `conformance/checks/`, each with its family in its decorator.

A check takes a `Bench`. It returns nothing or a remark when all is well, and raises `Wrong`, `Skip` or `Unsettled` (`outcomes`) otherwise.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rsverify.records.answers import CHECK_FAMILIES as FAMILIES

if TYPE_CHECKING:
    from rsverify.conformance.bench import Bench

CheckFunction = Callable[["Bench"], str | None]


@dataclass(frozen=True)
class Check:
    """A named check, its family, the capabilities it needs, and what it is about in one line."""

    name: str
    family: str
    needs: frozenset[str]
    function: CheckFunction
    doc: str


_registered: dict[str, Check] = {}


def check(family: str, *needs: str) -> Callable[[CheckFunction], CheckFunction]:
    """Make a function a check of a family (of records.CHECK_FAMILIES) that runs where the subject has the capabilities named."""
    if family not in FAMILIES:
        raise ValueError(f"family={family!r}; expected one of {', '.join(FAMILIES)}")

    def add(function: CheckFunction) -> CheckFunction:
        name = getattr(function, "__name__", "")
        _registered[name] = Check(name, family, frozenset(needs), function, (function.__doc__ or "").partition("\n")[0])
        return function

    return add


@cache
def _load() -> None:
    package = importlib.import_module("rsverify.conformance.checks")
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


def checks() -> dict[str, Check]:
    """Every check by name, family by family."""
    _load()
    return {name: c for family in FAMILIES for name, c in sorted(_registered.items()) if c.family == family}


@cache
def check_names() -> tuple[str, ...]:
    """Names of all checks, read from their source: no check is imported, and no torch."""
    folder = Path(__file__).parent / "checks"
    return tuple(
        node.name
        for file in sorted(folder.glob("*.py"))
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_") and node.decorator_list
    )
