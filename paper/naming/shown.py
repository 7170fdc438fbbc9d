"""How a number is written in the paper: once for each kind, so that the same thing always looks the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "−"
WORDS = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def minus(text: str) -> str:
    """A true minus sign."""
    return text.replace("-", MINUS)


def whole(value: float) -> str:
    """A count or a size: 1,024."""
    return minus(f"{round(value):,}")


def word(value: int) -> str:
    """A small count in words, as running text has it."""
    return WORDS[value] if 0 <= value < len(WORDS) else whole(value)


def decimal(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """With so many digits behind the point; a plain zero never gets a minus."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return minus(text if float(text) else text.replace("-", "+" if sign else ""))


def figures(value: float, digits: int = 3) -> str:
    """With so many significant figures: 0.00283, 2.8, 1.9 × 10⁻⁷."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if 1e-4 <= abs(value) < 1e6:
        return minus(f"{float(f'{value:.{digits}g}'):,.10g}")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power_of_ten = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power_of_ten if mantissa == "1" else f"{minus(mantissa)} × {power_of_ten}"


def percent(share: float, digits: int = 0) -> str:
    return f"{decimal(100 * share, digits)} %"


def interval(bounds: Sequence[float], digits: int = 3, *, sign: bool = True) -> str:
    """[−0.512, −0.492]."""
    return "[" + ", ".join(decimal(value, digits, sign=sign) for value in bounds) + "]"


def plus_minus(value: float, bounds: Sequence[float], digits: int = 3) -> str:
    """A symmetric interval: −0.499 ± 0.023."""
    return f"{decimal(value, digits, sign=True)} ± {decimal((bounds[1] - bounds[0]) / 2, digits)}"


def power(exponent: str | None) -> str:
    """An exact exponent, -1/2, as text."""
    return "none" if exponent is None else minus(str(exponent))


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    items = list(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"
