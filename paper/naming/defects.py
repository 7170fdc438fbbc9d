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
    found = [it for it in data["defects"] if it["found"] != it["expected"]]
    counts, out = data["counts"], Names()
    out.words["defects.all-reproduced"] = "yes" if len(found) == len(data["defects"]) else "no"
    out.words["defects.seen"] = "all" if all(it["status"] == "xfailed" for it in found) else "some"
    out.words["defects.unlisted"] = "some" if data["not_as_listed"] else "zero"
    out.texts |= {
        "defects.count": whole(len(found)), "defects.reported": whole(len(data["defects"])), "defects.library": f"PEFT {data['peft']}",
        "defects.threads": whole(sum(map(known, found))), "defects.seen": whole(sum(it["status"] == "xfailed" for it in found)),
        "defects.targets": whole(data["targets"]), "defects.answers": whole(sum(counts.values())),
        "defects.passed": whole(counts.get("passed", 0)), "defects.expected": whole(counts.get("xfailed", 0)),
        "defects.unlisted": word(len(data["not_as_listed"])), "defects.not-judged": whole(data["not_judged"]),
        "defects.checks": whole(len({it["check"] for it in found})),
        "defects.scale": word(sum(it["id"].startswith(SHOWN_FIRST) for it in found)),
    }  # fmt: skip
    out.tables["defects.families"] = [
        {
            "family": label, "defects": whole(sum(it["id"].startswith(letter) for it in found)),
            "threads": whole(sum(it["id"].startswith(letter) and known(it) for it in found)),
        }
        for letter, label in FAMILIES.items()
    ]  # fmt: skip
    out.tables["defects"] = [
        {
            "id": it["id"], "what": it["sentence"].removesuffix("."), "found": _value(it["found"]), "expected": _value(it["expected"]),
            "thread": it["thread"] if known(it) else "none",
        }
        for it in sorted(found, key=_place)
        if it["id"].startswith(SHOWN_FIRST)
    ]  # fmt: skip
    return out


def known(defect: dict[str, Any]) -> bool:
    """Whether a public thread about this very defect was opened; one about a neighbour is told in brackets."""
    return defect["thread"].startswith("https://") and "(" not in defect["thread"]


def _value(text: str) -> str:
    """What a reproduction printed; long messages of errors shortened."""
    text = figures(float(text)) if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text) else text
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


def _place(defect: dict[str, Any]) -> tuple[str, int, str]:
    """A2 before A10."""
    found = re.fullmatch(r"([A-Z])(\d+)([A-Z]?)", defect["id"])
    assert found is not None, defect["id"]
    return found[1], int(found[2]), found[3]
