"""Names the factor that a wrong scale is off by, and the bug that usually makes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Suspect:
    """A factor found/expected as a function of (rank, alpha), how it is written, and what usually makes it."""

    text: str
    factor: Callable[[int, float], float]
    cause: str


def _floor(r: int, alpha: float) -> float:
    return (alpha // r) / (alpha / r)


RULES: tuple[Suspect, ...] = (
    Suspect("alpha/r", lambda r, alpha: alpha / r, "it is the rule alpha/r"),
    Suspect("alpha/sqrt(r)", lambda r, alpha: alpha / math.sqrt(r), "it is the rule alpha/sqrt(r)"),
    Suspect("alpha", lambda r, alpha: alpha, "alpha itself is used: the division by the rank is missing"),
    Suspect("1", lambda r, alpha: 1.0, "no scale is applied"),
    Suspect("r/alpha", lambda r, alpha: r / alpha, "the fraction is upside down"),
    Suspect("alpha//r", lambda r, alpha: float(alpha // r), "the division is one of whole numbers"),
    Suspect("1/r", lambda r, alpha: 1 / r, "alpha is ignored"),
    Suspect("1/sqrt(r)", lambda r, alpha: 1 / math.sqrt(r), "alpha is ignored"),
    Suspect("alpha/r**2", lambda r, alpha: alpha / r**2, "the rank divides twice"),
    Suspect("alpha**2/r**2", lambda r, alpha: (alpha / r) ** 2, "alpha/r is applied twice"),
    Suspect("alpha**2/r", lambda r, alpha: alpha**2 / r, "alpha/sqrt(r) is applied twice"),
    Suspect("sqrt(alpha/r)", lambda r, alpha: math.sqrt(alpha / r), "half of alpha/r: the scale went into one factor of two only"),
)
"""What a scale may be although another was configured."""

FACTORS: tuple[Suspect, ...] = (
    Suspect("0", lambda r, alpha: 0.0, "nothing of the adapter is left"),
    Suspect("-1", lambda r, alpha: -1.0, "the sign is lost or turned"),
    Suspect("1/sqrt(r)", lambda r, alpha: 1 / math.sqrt(r), "alpha/r is used where alpha/sqrt(r) was configured: the sqrt rule is ignored"),
    Suspect("sqrt(r)", lambda r, alpha: math.sqrt(r), "alpha/sqrt(r) is used where alpha/r was configured"),
    Suspect("r", lambda r, alpha: float(r), "the division by the rank is missing"),
    Suspect("1/r", lambda r, alpha: 1 / r, "the rank divides once too often"),
    Suspect("alpha", lambda r, alpha: alpha, "alpha multiplies once too often"),
    Suspect("1/alpha", lambda r, alpha: 1 / alpha, "alpha is ignored"),
    Suspect("r/alpha", lambda r, alpha: r / alpha, "the scale alpha/r is dropped (or alpha is taken to be the rank)"),
    Suspect("sqrt(r)/alpha", lambda r, alpha: math.sqrt(r) / alpha, "the scale alpha/sqrt(r) is dropped"),
    Suspect("alpha/r", lambda r, alpha: alpha / r, "the scale alpha/r is applied twice"),
    Suspect("alpha/sqrt(r)", lambda r, alpha: alpha / math.sqrt(r), "the scale alpha/sqrt(r) is applied twice"),
    Suspect("(r/alpha)**2", lambda r, alpha: (r / alpha) ** 2, "the fraction alpha/r is upside down"),
    Suspect("2", lambda r, alpha: 2.0, "the adapter counts twice"),
    Suspect("1/2", lambda r, alpha: 0.5, "half of the adapter is lost"),
    Suspect("4", lambda r, alpha: 4.0, "a factor of two is applied twice over"),
    Suspect("3", lambda r, alpha: 3.0, "the adapter counts three times"),
    Suspect("(alpha//r)/(alpha/r)", _floor, "the division is one of whole numbers"),
    Suspect("1/sqrt(2)", lambda r, alpha: math.sqrt(0.5), "the rank was doubled under a sqrt rule and the scale did not follow"),
    Suspect("sqrt(2)", lambda r, alpha: math.sqrt(2.0), "the rank and alpha were doubled: that keeps alpha/r, not a sqrt rule"),
)
"""What found/expected may be."""

Points = Mapping[tuple[int, float], float]
"""A number for each (rank, alpha)."""


def name_factor(ratios: Points, *, tolerance: float = 1e-6, suspects: Sequence[Suspect] = FACTORS) -> Suspect | None:
    """The first suspect that accounts for the ratio at every (rank, alpha); None where none does."""
    for suspect in suspects:
        if all(math.isclose(suspect.factor(r, a), ratio, rel_tol=tolerance, abs_tol=tolerance) for (r, a), ratio in ratios.items()):
            return suspect
    return None


def explain(ratios: Points, *, tolerance: float = 1e-6) -> str:
    """In words, e.g. "0.5 = 1/sqrt(4): alpha/r is used where ..."; the bare ratio where no suspect fits."""
    (rank, _), ratio = next(iter(ratios.items()))
    found = name_factor(ratios, tolerance=tolerance)
    if found is None:
        several = ", ".join(f"{value:.4g} at r={r}, alpha={alpha:g}" for (r, alpha), value in ratios.items())
        return several if len(ratios) > 1 else f"{ratio:.4g}"
    text = found.text.replace("sqrt(r)", f"sqrt({rank})") if len(ratios) == 1 else found.text
    shown = f"{ratio:.4g}" if len(ratios) == 1 else " and ".join(f"{value:.4g}" for value in ratios.values())
    return f"{shown} = {text}: {found.cause}" if text != shown else f"{shown}: {found.cause}"
