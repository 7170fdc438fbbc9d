"""Names of the defects found in a shipped library, each by a reproduction that was run."""

from __future__ import annotations

import re
from typing import Any

from paper.naming import Load, Names
from paper.naming.shown import figures, whole, word

FAMILIES = {"A": "wrong scale", "B": "merging", "C": "inits from the base, conversion", "D": "several adapters, saving", "E": "other"}
SHOWN_FIRST = "A"
"""The family that the table shows whole: the one that this paper's subject is."""
LONGEST = 34
"""Letters of a value in the table."""


def names(read: Load) -> Names:
    data = read("defects")
    found = [it for it in data["defects"] if it["reproduced"]]
    out = Names()
    out.words["defects.all-reproduced"] = "yes" if len(found) == len(data["defects"]) else "no"
    out.texts |= {
        "defects.count": whole(len(found)), "defects.reported": whole(len(data["defects"])), "defects.library": data["library"],
        "defects.threads": whole(sum(it["thread"] is not None and not it["note"] for it in found)),
        "defects.checks": whole(len({it["check"] for it in found})),
        "defects.scale": word(sum(it["id"].startswith(SHOWN_FIRST) for it in found)),
    }  # fmt: skip
    out.tables["defects.families"] = [
        {
            "family": label, "defects": whole(sum(it["id"].startswith(letter) for it in found)),
            "threads": whole(sum(it["id"].startswith(letter) and it["thread"] is not None and not it["note"] for it in found)),
        }
        for letter, label in FAMILIES.items()
    ]  # fmt: skip
    out.tables["defects"] = [
        {
            "id": it["id"], "what": it["what"], "found": _value(it["found"]), "expected": _value(it["expected"]),
            "thread": it["thread"] if it["thread"] and not it["note"] else "none",
        }
        for it in sorted(found, key=_place)
        if it["id"].startswith(SHOWN_FIRST)
    ]  # fmt: skip
    return out


def _value(value: object) -> str:
    """What a reproduction printed; long messages of errors shortened."""
    text = figures(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


def _place(defect: dict[str, Any]) -> tuple[str, int, str]:
    """A2 before A10."""
    found = re.fullmatch(r"([A-Z])(\d+)([A-Z]?)", defect["id"])
    assert found is not None, defect["id"]
    return found[1], int(found[2]), found[3]
