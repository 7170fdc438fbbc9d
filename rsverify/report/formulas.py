"""Powers in one way, and formulas that Markdown leaves alone: r**2, r**(-1/2), gamma**2 * r."""

from __future__ import annotations

import re

ATOM = r"(?:[A-Za-z]\w*(?:\(\w+\))?|\d+(?:\.\d+)?)"
POWER = rf"{ATOM}(?:\*\*(?:-?\d+(?:\.\d+)?|\(-?\d+(?:/\d+)?\)))?"
FORMULA = re.compile(rf"(`[^`]*`)|{POWER}(?:(?: \* |[*/]){POWER})*")
"""Products and quotients of names, numbers and calls with their powers, or what stands in backticks already."""


def power(name: str, exponent: str) -> str:
    """A name with its power as Python has it: nothing around a whole number or a decimal, a fraction in parentheses, no power 1.

    Args: exponent as text, e.g. "2", "-1", "1/2", "0.49".
    """
    return name if exponent == "1" else f"{name}**({exponent})" if "/" in exponent else f"{name}**{exponent}"


def one_way(text: str) -> str:
    """The powers of a text as `power` writes them: r**(2) becomes r**2, r**1 becomes r."""
    return re.sub(r"(\w+)\*\*(?:\((-?\d+(?:/\d+)?)\)|(-?\d+(?:\.\d+)?))", lambda m: power(m[1], m[2] or m[3]), text)


def coded(text: str) -> str:
    """Markdown of a text: formulas with a star in backticks, other stars escaped; two powers in a paragraph would be read as bold."""
    found, place = [], 0
    for match in FORMULA.finditer(text):
        if "*" in match[0]:
            found += [text[place : match.start()].replace("*", "\\*"), match[1] or f"`{match[0]}`"]
            place = match.end()
    return "".join([*found, text[place:].replace("*", "\\*")])
