"""PEFT's own checks beside the suite's: of other layers (`peft:METHOD@LAYER`) and of operations (`peft:METHOD@operations`)."""

from __future__ import annotations

from collections.abc import Callable

Own = Callable[[], None]
"""Raises Wrong, or anything else, where something is wrong; Skip where there is nothing to say."""

OWN_CHECKS: dict[str, dict[str, Own]] = {}
"""Checks by target and by name."""


def register(target: str, name: str, function: Own) -> None:
    """Enter a check of a target."""
    OWN_CHECKS.setdefault(target, {})[name] = function


def operation(method: str) -> Callable[[Own], Own]:
    """Make a function a check of a method's operations."""

    def add(function: Own) -> Own:
        register(f"peft:{method}@operations", getattr(function, "__name__", ""), function)
        return function

    return add
