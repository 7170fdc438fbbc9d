"""Names of calibration and speed: coverage, both error rates, ratios to exact curves, what a slope costs."""

from __future__ import annotations

import re
from typing import Any

from paper.naming import Load, Names
from paper.naming.shown import decimal, figures, interval, percent, whole, word
from paper.sources import SOURCES


def line(lines: list[dict[str, Any]], *holds: str) -> dict[str, Any]:
    """The one line of a benchmark that holds these words."""
    found = [it for it in lines if all(text in it["what"] for text in holds)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} lines hold {holds}; the text needs one")
    return found[0]


def names(read: Load) -> Names:
    out = Names()
    out.texts |= _calibration(read("calibration"), out)
    out.texts |= _montecarlo(read("montecarlo"), out)
    out.texts |= _training({name: read(name) for name in SOURCES if name.startswith("training-")}, out)
    return out


def _calibration(data: dict[str, Any], out: Names) -> dict[str, str]:
    lines = data["lines"]
    ratios = [it["value"] for it in lines if "ratio to the exact curve" in it["what"]]
    slopes = [it["value"] for it in lines if "weighted slope minus" in it["what"]]
    biases = [it["value"] for it in lines if "ordinary least squares" in it["what"]]
    repeats = data["provenance"]["settings"]["repeats"]
    out.words["calibration"] = "kept" if all(it["kept"] for it in lines) else "broken"
    found = {
        "calibration.nominal": percent(0.95), "calibration.nominal.half": percent(0.5),
        "calibration.repeats": whole(repeats), "calibration.steps": word(len(ratios)),
        "calibration.ratio": figures(max(abs(value - 1) for value in ratios), 1),
        "calibration.slope": figures(max(map(abs, slopes)), 1), "calibration.bias": decimal(max(biases, key=abs), 3),
    }  # fmt: skip
    table = out.tables["calibration"] = []
    for setting, short in (("one step, one sample", "one"), ("four steps, eight samples", "four"), ("at 50 %", "half")):
        coverage = line(lines, setting, "coverage")
        bounds = re.search(r"in \[([\d.]+), ([\d.]+)\]", coverage["what"])
        assert bounds is not None, coverage["what"]
        planted = line(lines, setting, "planted exponent")
        nominal = 0.5 if short == "half" else 0.95
        found[f"calibration.{short}.coverage"] = percent(coverage["value"], 2)
        found[f"calibration.{short}.planted"] = percent(planted["value"], 1)
        label = f"{setting}, {nominal:.0%}" if short != "half" else f"one step, {nominal:.0%}"
        table.append([label, nominal, coverage["value"], [float(b) for b in bounds.groups()]])
        found[f"calibration.{short}.interval"] = interval([float(b) for b in bounds.groups()], 3, sign=False)
    declared = re.search(r"rate ([\d.]+) at most", line(lines, "at 50 %", "planted")["asked"])
    assert declared is not None, "the declared rate has another wording"
    found["calibration.half.declared"] = percent(float(declared[1]), 1)
    return found


def _training(cases: dict[str, dict[str, Any]], out: Names) -> dict[str, str]:
    """Training in one pass against the library's loop: how many times as fast at each size, beside what was promised."""
    speeds = {name: line(data["lines"], "PEFT's seconds over the stack's") for name, data in cases.items()}
    ratios = [it["value"] for it in speeds.values()]
    missed = sum(not it["kept"] for it in speeds.values())
    out.words["training"] = "missed" if missed else "kept"
    commits = sorted({(data["provenance"]["commit"] or "none")[:7] for data in cases.values()})
    return {
        "training.least": figures(min(ratios)), "training.most": figures(max(ratios)), "training.cases": word(len(cases)),
        "training.missed": word(missed), "training.commit": ", ".join(commits),
        "training.difference": figures(max(line(data["lines"], "difference of a loss")["value"] for data in cases.values()), 1),
    }  # fmt: skip


def _montecarlo(data: dict[str, Any], out: Names) -> dict[str, str]:
    seen = data["figures"]
    out.words["montecarlo"] = "kept" if all(promise["kept"] for promise in data["promises"]) else "broken"
    slope, versus = seen["slope to +-0.005, in process"], seen["against materialised numpy"]
    free = seen["rank 2**40 against 2**4, 1,000 draws"]
    return {
        "montecarlo.commit": (data["provenance"]["commit"] or "none")[:7],
        "montecarlo.half-width": figures(slope["half-width"], 2), "montecarlo.milliseconds": figures(1000 * slope["seconds"], 2),
        "montecarlo.draws": whole(slope["draws"]), "montecarlo.ratio.least": whole(min(it["ratio"] for it in versus)),
        "montecarlo.rank.small": "2⁴", "montecarlo.rank.large": "2⁴⁰", "montecarlo.free": decimal(free["ratio"], 2),
        "montecarlo.path-error": figures(seen["largest relative path error of 200 cases"], 2),
    }  # fmt: skip
