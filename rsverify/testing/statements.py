"""What tests state about adapters, and at what rate such a statement may fail falsely: light, so that a pytest plugin can hold it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Answer = Literal["confirmed", "refuted", "inconclusive"]

ERROR_BUDGET: ContextVar[float] = ContextVar("rsverify_error_budget", default=1e-6)
"""Rate of false failures of one statement where the caller names none."""


@dataclass(frozen=True)
class Statement:
    """One answered question about an adapter; `rate` is how often it may be answered wrongly by chance, 0 where chance has no part."""

    text: str
    answer: Answer
    rate: float = 0.0


listeners: list[Callable[[Statement], None]] = []
"""Told of every statement; the pytest plugin counts them here."""


def announce(statement: Statement) -> None:
    """Tell every listener."""
    for listener in listeners:
        listener(statement)


class Inconclusive(AssertionError):
    """The evidence that was allowed cannot tell; `price` says what would."""

    def __init__(self, message: str, price: str) -> None:
        self.price = price
        super().__init__(message)
