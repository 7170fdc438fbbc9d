"""Finds checks: functions `check_<noun>_<property>` in `conformance/checks/`, in files named `<family>.py` or `<family>_<part>.py`.

A check takes a `Bench`. It returns nothing or a remark when all is well, and raises `Wrong`, `Skip` or `Unsettled` otherwise.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsverify.conformance.bench import Bench

CheckFunction = Callable[["Bench"], str | None]


class Wrong(AssertionError):
    """The implementation does what it must not; the message is for its author."""


class Skip(Exception):
    """The check has nothing to say of this subject; the message is the reason."""


class Unsettled(Exception):
    """The draws do not decide; the message names the price."""


@dataclass(frozen=True)
class Check:
    """A named check, its family, the capabilities it needs, and what it is about in one line."""

    name: str
    family: str
    needs: frozenset[str]
    function: CheckFunction
    doc: str


_found: dict[str, Check] = {}


def check(*needs: str) -> Callable[[CheckFunction], CheckFunction]:
    """Make a function a check that runs where the subject has the capabilities named."""

    def add(function: CheckFunction) -> CheckFunction:
        name = getattr(function, "__name__", "")
        family = function.__module__.rpartition(".")[2].partition("_")[0]
        _found[name] = Check(name, family, frozenset(needs), function, (function.__doc__ or "").partition("\n")[0])
        return function

    return add


@cache
def _load() -> None:
    package = importlib.import_module("rsverify.conformance.checks")
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


FAMILIES = ("structure", "merging", "scaling", "persistence", "stability")


def checks() -> dict[str, Check]:
    """Every check by name, family by family."""
    _load()
    families = [*FAMILIES, *sorted({c.family for c in _found.values()} - set(FAMILIES))]
    return {name: c for family in families for name, c in sorted(_found.items()) if c.family == family}
