"""Names of the atlas: which power is stable for each variant and optimizer, and what the shipped rule and 1/sqrt(r) do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paper.naming import Load, Names
from paper.naming.shown import listed, power, whole, word

ARROWS = {"stable": "=", "collapses": "↓", "explodes": "↑", "inconclusive": "?", "zero": "0"}


def main_regime(answers: Sequence[dict[str, Any]]) -> str:
    """Ranks beyond the widths where the variant has them, else far below."""
    regimes = {answer["regime"] for answer in answers}
    return "rank" if "rank" in regimes else sorted(regimes)[0]


def witnesses(answers: Sequence[dict[str, Any]]) -> str:
    """What witnesses make of a line: two or more agree, contradict or leave it open; one speaks, or none."""
    heard = {"confirmed": "agree", "refuted": "contradict"}
    found = [heard.get(a["agreement"]) or ("none", "one", "open")[min(2, len(a["stable_from"]))] for a in answers]
    return found[0] if len(set(found)) == 1 else " / ".join(found)


def names(read: Load) -> Names:
    data = read("atlas")
    out = Names()
    variants: dict[str, list[dict[str, Any]]] = {}
    for answer in data["answers"]:
        variants.setdefault(answer["variant"], []).append(answer)
    table = out.tables["atlas"] = []
    counted: list[dict[str, Any]] = []
    for name, answers in variants.items():
        regime = main_regime(answers)
        line: dict[str, Any] = {"variant": name, "shipped": answers[0]["shipped"], "regime": regime}
        here = [a for a in answers if a["regime"] == regime]
        for answer in here:
            line[answer["optimizer"]] = {
                "stable": "silent" if answer["stable"] is None else power(answer["stable"]),
                "shipped": ARROWS[answer["shipped_stability"]], "root": ARROWS[answer["root_stability"]],
            }  # fmt: skip
        counted += here
        table.append({**line, "witnesses": witnesses(here)})
    known = [a for a in counted if a["stable"] is not None]
    rows = [entry["row"] for entry in data["entries"]]
    spoke = [sum(row[who] is not None for who in ("predicted", "estimated", "measured")) for row in rows]
    agreed = [row["agreement"] for row, n in zip(rows, spoke, strict=True) if n > 1]
    out.words["atlas"] = data["verdict"]
    out.words["atlas.contradicted"] = "yes" if "refuted" in agreed else "no"
    right = sum(a["root_stability"] == "stable" for a in known)
    out.words["atlas.root"] = "right" if 2 * right > len(known) else "wrong"
    out.words["atlas.silent"] = "some" if len(known) < len(counted) else "zero"
    texts = out.texts
    texts |= {
        "atlas.variants": whole(len(variants)), "atlas.numbers": whole(len(rows)), "atlas.two": whole(len(agreed)),
        "atlas.confirmed": whole(agreed.count("confirmed")), "atlas.refuted": word(agreed.count("refuted")),
        "atlas.open": word(agreed.count("inconclusive")), "atlas.one": whole(spoke.count(1)), "atlas.none": word(spoke.count(0)),
        "atlas.statements": whole(data["statements"]), "atlas.answers": whole(len(counted)), "atlas.known": whole(len(known)),
        "atlas.root.stable": whole(sum(a["root_stability"] == "stable" for a in known)),
        "atlas.shipped.stable": whole(sum(a["shipped_stability"] == "stable" for a in known)),
        "atlas.shipped.collapses": whole(sum(a["shipped_stability"] == "collapses" for a in known)),
        "atlas.shipped.explodes": whole(sum(a["shipped_stability"] == "explodes" for a in known)),
        "atlas.differs": whole(sum(a["other_regime"] is not None and a["other_regime"] != a["stable"] for a in known)),
        "atlas.reference": whole(data["reference_rank"]),
    }  # fmt: skip
    for optimizer in ("sgd", "adamw"):
        those = [a for a in known if a["optimizer"] == optimizer]
        texts[f"atlas.{optimizer}.known"] = whole(len(those))
        texts[f"atlas.{optimizer}.root"] = whole(sum(a["root_stability"] == "stable" for a in those))
        texts[f"atlas.{optimizer}.shipped"] = whole(sum(a["shipped_stability"] == "stable" for a in those))
        texts[f"atlas.{optimizer}.powers"] = listed([power(p) for p in sorted({a["stable"] for a in those}, key=_value)])
    for name in ("lora-gaussian", "loha", "loha-lycoris", "vera", "pissa"):
        for answer in variants.get(name, []):
            if answer["regime"] == main_regime(variants[name]):
                stable = "no known" if answer["stable"] is None else power(answer["stable"])
                texts[f"atlas.{name}.{answer['optimizer']}"] = stable
    return out


def _value(text: str) -> float:
    top, _, bottom = str(text).partition("/")
    return float(top) / float(bottom or 1)
