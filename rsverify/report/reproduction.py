"""The page of a reproduction: verdict of each claim first, then prediction, picture, numbers, how it was made, how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from rsverify.records import Provenance

_FRAMES = {"holds": "holds", "holds only for": "partly", "does not hold here": "fails", "inconclusive": "inconclusive"}
_TONES = {"holds": "yes", "holds only for": "open", "does not hold here": "no", "inconclusive": "open"}


def reproduction_page(
    sections: Sequence[Mapping[str, Any]], *, pictures: Mapping[str, str], notes: Sequence[str], provenance: Provenance, repeats: int,
    command: str,
) -> str:  # fmt: skip
    """The HTML text: no script, no network, readable on a phone and in print.

    Args: sections as in reproduce.json; pictures are SVG by the figure's name.
    """
    import jinja2

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        files("rsverify.report").joinpath("reproduction.html.jinja").read_text(encoding="utf-8")
    )
    shown = [
        {
            **section, "parts": [_part(part, repeats) for part in section["parts"]], "picture": pictures[section["name"]],
            "frame": _FRAMES[section["answer"]], "tone": _TONES[section["answer"]],
        }
        for section in sections
    ]  # fmt: skip
    p = provenance
    how = [("rsverify", p.version), ("commit", p.commit or "none"), ("made", p.created), ("python", p.python), ("platform", p.platform)]
    how += [*p.packages.items(), *((f"hash of {name}", text) for name, text in p.hashes.items())]
    how += [(name, str(value)) for name, value in p.settings.items()]
    return template.render(sections=shown, notes=notes, how=how, repeats=repeats, command=command)


def _part(part: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    means = [f"{mean:+.3g} [{lo:+.3g}, {hi:+.3g}]" for mean, lo, hi, _ in part["repeats"]]
    mean, interval = part["mean"], part["interval"]
    whole = "" if mean is None else f"{mean:.3g}" if interval is None else f"{mean:+.3g} [{interval[0]:+.3g}, {interval[1]:+.3g}]"
    unit = f" {part['unit']}" if whole else part["note"]
    return {**part, "repeats": (means + [""] * repeats)[:repeats], "all": f"{whole}{unit}"}
