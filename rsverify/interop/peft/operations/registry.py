"""Checks of PEFT's operations by target and name."""

from __future__ import annotations

from collections.abc import Callable

Operation = Callable[[], None]
OPERATIONS: dict[tuple[str, str], Operation] = {}
"""Checks by target and name."""


def operation(method: str) -> Callable[[Operation], Operation]:
    """Make a function a check of a method's operations."""

    def add(function: Operation) -> Operation:
        OPERATIONS[f"peft:{method}@operations", function.__name__] = function
        return function

    return add
