"""What the text of the paper may not hold: a number that was typed, and a name that nothing stands behind.

Digits are allowed in these kinds only: small whole numbers in formulas (exponents such as r^(-1/2), not values), identifiers of
publications (arXiv:2312.03732) and places in them (Theorem 3.2), names of floating-point types, arguments of the text's own functions
(names of numbers, labels, citations), and, in the files of the layout, which hold no prose, lengths and the like. Number words from "four"
on count as numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from paper.naming import Names

FUNCTIONS = {"n": "texts", "says": "words", "choose": "words", "rows": "tables"}
"""The text's own functions whose first argument is a name, and what it must be the name of."""
OTHERS = ("picture", "cite-me", "r")
"""Those whose argument is a name of something else: a picture, a reference."""

_ALLOWED = (
    r"arXiv:\d{4}\.\d{4,5}",
    r"\b(?:Theorem|Definition|Corollary|Lemma|Section|Appendix|Figure|Figures|Table|Equation)~?\s?[A-Z]?\.?\d+(?:\.\d+)*",
    r"\b(?:bfloat|float)(?:16|32|64)\b",
    r"<[a-z][\w:-]*>",
    r"@[a-z][\w:-]*",
)
_LAYOUT = (
    r"(?<![\w.])\d+(?:\.\d+)?(?:pt|cm|mm|em|fr)\b", r"width: 100%", r"rgb\(\"#[0-9a-fA-F]+\"\)", r"level: \d\b", r"place \+ 1\b",
    r"numbering: \"1(?:\.1)?\"", r"paper: \"a4\"", r"== \"[01]\"", r"\"(?:1/sqrt\(r\)|1/r|1)\": ",
)  # fmt: skip
_WORDS = (
    "four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty"
    "|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|millions?|billions?|dozens?|half(?!-)|third|quarter|percent|twice|threefold|fourfold"
)


@dataclass(frozen=True)
class Typed:
    """A number that was typed."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text!r}"


def without_comments(source: str) -> str:
    """The source with comments blanked; line numbers stay."""
    source = re.sub(r"/\*.*?\*/", lambda found: re.sub(r"[^\n]", " ", found[0]), source, flags=re.DOTALL)
    return re.sub(r"(?<!:)//[^\n]*", "", source)


def typed_numbers(source: str, *, layout: bool = False) -> list[Typed]:
    """Every digit and number word of a typst source that is of no allowed kind.

    Args: layout, whether lengths are allowed: in the file of the layout, which holds no prose.
    """
    text = without_comments(source)
    for name in (*FUNCTIONS, *OTHERS):
        text = re.sub(rf"(?<![\w-]){name}\(\s*\"[^\"\n]*\"", lambda found: " " * len(found[0]), text)
    for pattern in (*_ALLOWED, *(_LAYOUT if layout else ())):
        text = re.sub(pattern, lambda found: " " * len(found[0]), text)
    text = re.sub(r"\$[^$]*\$", lambda found: _formula(found[0]), text)
    found = [(match.start(), match[0]) for match in re.finditer(r"\S*\d\S*", text)]
    if not layout:
        found += [(match.start(), match[0]) for match in re.finditer(rf"\b(?:{_WORDS})\b", text, flags=re.IGNORECASE)]
    return [Typed(text.count("\n", 0, start) + 1, what) for start, what in sorted(found)]


def _formula(text: str) -> str:
    """A formula without the small whole numbers that its shape needs; decimals and larger numbers stay, and are found."""
    return re.sub(r"(?<![\d.])[0-4](?![\d.])", " ", text)


def used_names(source: str) -> Iterator[tuple[str, str]]:
    """Each function and the name it is called with."""
    text = without_comments(source)
    for function in FUNCTIONS:
        for match in re.finditer(rf"(?<![\w-]){function}\(\s*\"([^\"\n]*)\"", text):
            yield function, match[1]


def unknown_names(source: str, names: Names) -> list[str]:
    """Names in the text that no evidence gives."""
    known = names.to_dict()
    return sorted({f"{function}({name!r})" for function, name in used_names(source) if name not in known[FUNCTIONS[function]]})


def computed_names(source: str) -> list[str]:
    """Calls whose name is not written out, so that no scan can tell what they say."""
    return [match[0] for match in re.finditer(r"(?<![\w-])#?(?:n|says|choose|rows)\((?!\s*\")[^)]*", without_comments(source))]
