"""Ranks as the user writes them: "4,8,16", "4:65536" (powers of two), "2**40"."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from rsverify.errors import InputError

_SHAPE = "expected distinct whole numbers from 1 in rising order, e.g. 4,8,16 or 4:65536 (powers of two) or 2**40"


def parse_ranks(text: str | Sequence[int]) -> tuple[int, ...]:
    """The ranks that a text or sequence names, checked.

    Raises: InputError for zero, negative, repeated, fractional or unsorted ranks.
    """
    if not isinstance(text, str | Iterable):
        raise InputError(f"ranks={text!r} is one number; expected several, e.g. [4, 16, 64]; {_SHAPE}")
    found: list[int] = []
    parts = text.split(",") if isinstance(text, str) else list(text)
    for part in parts:
        if isinstance(part, str) and ":" in part:
            lo, hi = (_rank(end, text) for end in part.split(":", 1))
            if lo > hi or lo & (lo - 1) or hi & (hi - 1):
                raise InputError(f"ranks={part!r}: a range runs over powers of two, from the smaller to the larger; {_SHAPE}")
            found += [lo << k for k in range((hi // lo).bit_length())]
        else:
            found.append(_rank(part, text))
    if not found:
        raise InputError(f"ranks={_shown(text)} is empty; {_SHAPE}")
    for before, after in itertools.pairwise(found):
        if after == before:
            raise InputError(f"ranks={_shown(text)}: {after} is repeated; {_SHAPE}")
        if after < before:
            raise InputError(f"ranks={_shown(text)}: {after} comes after {before}; {_SHAPE}")
    return tuple(found)


def _rank(part: object, whole: object) -> int:
    value: int | None = None
    if isinstance(part, str):
        word = part.strip()
        if re.fullmatch(r"[+-]?\d{1,30}", word):
            value = int(word)
        elif match := re.fullmatch(r"2\s*\*\*\s*(\d{1,3})", word):
            value = 2 ** int(match[1])
    elif isinstance(part, int) and not isinstance(part, bool):
        value = int(part)
    elif hasattr(part, "__index__") and not isinstance(part, bool):
        value = int(part.__index__())  # type: ignore[attr-defined]
    if value is None:
        raise InputError(f"ranks={_shown(whole)}: {part!r} is not a whole number; {_SHAPE}")
    if value < 1:
        raise InputError(f"ranks={_shown(whole)}: {value} is not a rank; {_SHAPE}")
    return value


def _shown(whole: object) -> str:
    return repr(whole) if isinstance(whole, str) else repr(list(whole))  # type: ignore[call-overload]
