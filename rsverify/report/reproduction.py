"""The page of a reproduction: verdict of each claim first, then prediction, picture, numbers, how it was made, how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsverify.records import Provenance
from rsverify.report.writing import how_it_was_made, rendered

_FRAMES = {"holds": "holds", "holds only for": "partly", "does not hold here": "fails", "inconclusive": "inconclusive"}
_TONES = {"holds": "yes", "holds only for": "open", "does not hold here": "no", "inconclusive": "open"}


_COUNTED = {
    "holds": ("holds", "hold"),
    "holds only for": ("holds in part", "hold in part"),
    "does not hold here": ("does not hold here", "do not hold here"),
    "inconclusive": ("is left open by these seeds", "are left open by these seeds"),
}
"""What is said of one claim, and of several."""
_TOTALS = {"holds": "HOLDS", "holds only for": "HOLDS IN PART", "does not hold here": "DOES NOT HOLD", "inconclusive": "INCONCLUSIVE"}


def reproduction_page(
    sections: Sequence[Mapping[str, Any]], *, pictures: Mapping[str, str], notes: Sequence[str], provenance: Provenance, repeats: int,
    command: str, against: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """The HTML text: no script, no network, readable on a phone and in print.

    Args: sections, and against (an earlier run on other seeds), as in reproduce.json; pictures are SVG by the figure's name.
    """
    shown = [
        {
            **section, "parts": [_part(part, repeats) for part in section["parts"]], "picture": pictures[section["name"]],
            "frame": _FRAMES[section["answer"]], "tone": _TONES[section["answer"]],
        }
        for section in sections
    ]  # fmt: skip
    answers = [section["answer"] for section in sections]
    worst = next((answer for answer in ("does not hold here", "holds only for", "inconclusive") if answer in answers), "holds")
    counts = ", ".join(f"{n} {said[n > 1]}" for answer, said in _COUNTED.items() if (n := answers.count(answer)))
    return rendered(
        "reproduction.html.jinja",
        sections=shown,
        notes=notes,
        how=how_it_was_made(provenance),
        repeats=repeats,
        command=command,
        frame=_FRAMES[worst],
        total=_TOTALS[worst],
        counts=counts,
        against=against,
    )


def _part(part: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    # In pieces that a narrow page may break between.
    means = [(f"{mean:+.3g}", f"[{lo:+.3g}, {hi:+.3g}]") for mean, lo, hi, _ in part["repeats"]]
    mean, interval = part["mean"], part["interval"]
    if mean is None:
        whole = (part["note"],)
    elif interval is None:
        whole = (f"{mean:.3g} {part['unit']}",)
    else:
        whole = (f"{mean:+.3g}", f"[{interval[0]:+.3g}, {interval[1]:+.3g}]", part["unit"])
    if part.get("seeds"):
        whole = (*whole, f"({part['seeds']} seeds a repeat)")
    return {**part, "repeats": (means + [()] * repeats)[:repeats], "all": whole, "hint": _hint(part)}


def _hint(part: Mapping[str, Any]) -> str:
    """How surely a fresh run would answer so."""
    if part["again"] is None:
        return ""
    said = f"again: {part['again']:.3f}" if part["again"] < 0.9995 else "again: > 0.999"
    return said if part["answer"] == part["leaning"] else f"all repeats say {part['leaning']}, {said}"
