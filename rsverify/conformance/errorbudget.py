"""Why no sound adapter should fail: how many statements rest on draws, at which rate each, and what the others rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsverify.conformance.bench import SPREAD, TALL
from rsverify.conformance.firststep import STATEMENTS
from rsverify.conformance.registry import checks
from rsverify.records import CheckResult

COARSE = ("check_dtype_bfloat16",)
"""Checks whose tolerance is one on sums of roundings taken as independent, for the layer's five outputs."""


@dataclass(frozen=True)
class ErrorBudget:
    """The rate at which a sound adapter may fail by chance, and what it is made of.

    `rate` bounds it by the sum of the statements' rates, whatever depends on what. Statements on draws have Student intervals widened
    for skewness, at `each`; entries in bfloat16 have 2 exp(-SPREAD**2 / 2), if roundings are independent and of mean zero. All other
    checks compare two evaluations of one function in float32 or float64 within a bound on rounding that holds for every order of the
    sums: no chance is in them.
    """

    statements: int
    each: float
    entries: int
    compared: int

    @property
    def rate(self) -> float:
        return self.statements * self.each + self.entries * 2 * math.exp(-(SPREAD**2) / 2)

    def text(self) -> str:
        """One line for a reader."""
        drawn = f"{self.statements} statements on draws at {self.each:.1g} each" if self.statements else "no statement rests on draws"
        return (
            f"rate of false alarms by chance: at most {self.rate:.1g} ({drawn}); {self.compared} checks compare within bounds on rounding,"
            " with no chance in them"
        )


def error_budget(results: Sequence[CheckResult], rate: float) -> ErrorBudget:
    """What the answers rest on, at the rate that `check_adapter` was given for one adapter."""
    known = checks()
    ran = [result.name for result in results if result.status != "skipped"]
    drawn = [name for name in ran if known[name].family == "stability"]
    entries = sum(5 * TALL.d_out for name in ran if name in COARSE)
    # Each stability check makes two statements, on an exponent and on a level, and they share the adapter's rate.
    return ErrorBudget(2 * len(drawn), rate / STATEMENTS, entries, len(ran) - len(drawn))
