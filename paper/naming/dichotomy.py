"""Names of the optimizer table: derived terms and stable powers, simulated exponents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paper.naming import Load, Names
from paper.naming.shown import decimal, figures, listed, plus_minus, power, whole, word


def update(rows: Sequence[dict[str, Any]], optimizer: str, rule: str) -> dict[str, Any]:
    """The row that says how far one step moves a layer's output."""
    (found,) = [
        row for row in rows
        if (row["optimizer"], row["rule"], row["quantity"], row["statistic"]) == (optimizer, rule, "update", "rms")
    ]  # fmt: skip
    return found


def names(read: Load) -> Names:
    data = read("dichotomy")
    lora, rslora = data["rules"]
    out = Names()
    groups: dict[tuple[Any, ...], list[str]] = {}
    table = out.tables["dichotomy"] = []
    for optimizer, regimes in data["optimizers"].items():
        solved, wide = regimes["rank"], regimes["width"]
        if "silent" in solved:
            continue
        groups.setdefault((str(solved["terms"]), solved["rule_exponent"]), []).append(optimizer)
        rows = [update(data["rows"], optimizer, rule) for rule in (lora, rslora)]
        table.append(
            {
                "optimizer": optimizer, "terms": solved["terms"], "stable": power(solved["rule_exponent"]),
                "derived": [power(solved["exponents"][rule]) for rule in (lora, rslora)],
                "simulated": [_shown(row) for row in rows], "agreement": [row["agreement"] for row in rows],
                "lr": [power(solved["lr_exponents"][rule]) for rule in (lora, rslora)],
                "width": power(wide["rule_exponent"]) if "silent" not in wide else "silent",
            }
        )  # fmt: skip
    by_stable: dict[str, list[str]] = {}
    for row in table:
        by_stable.setdefault(row["stable"], []).append(row["optimizer"])
    other = [row["optimizer"] for row in table if row["width"] not in (row["stable"], "silent")]
    counts = [row["agreement"] for row in data["rows"]]
    settings = data["provenance"]["settings"]
    half = [
        (row["estimated"]["interval"][1] - row["estimated"]["interval"][0]) / 2 for row in data["rows"] if row["estimated"] is not None
    ]  # fmt: skip
    out.words["dichotomy"] = data["verdict"]
    out.words["dichotomy.kinds"] = "two" if set(by_stable) == {"1/2", "1"} else "other"
    out.words["dichotomy.width-differs"] = "yes" if other else "no"
    out.texts |= {
        "dichotomy.optimizers": word(len(table)), "dichotomy.rows": whole(len(counts)),
        "dichotomy.confirmed": whole(counts.count("confirmed")), "dichotomy.refuted": word(counts.count("refuted")),
        "dichotomy.open": word(counts.count("inconclusive")), "dichotomy.half": listed(by_stable.get("1/2", [])),
        "dichotomy.one": listed(by_stable.get("1", [])), "dichotomy.count.half": word(len(by_stable.get("1/2", []))),
        "dichotomy.count.one": word(len(by_stable.get("1", []))), "dichotomy.width-names": listed(other),
        "dichotomy.first-rank": whole(settings["estimate_ranks"][0]), "dichotomy.last-rank": whole(settings["estimate_ranks"][-1]),
        "dichotomy.worst-half-width": decimal(max(half, default=0.0), 3), "dichotomy.budget": figures(settings["error_budget"], 1),
    }  # fmt: skip
    for optimizer in ("sgd", "adamw", "muon"):
        for rule, short in ((lora, "lora"), (rslora, "rslora")):
            out.texts[f"dichotomy.{optimizer}.{short}"] = power(data["optimizers"][optimizer]["rank"]["exponents"][rule])
            out.texts[f"dichotomy.{optimizer}.{short}.simulated"] = _shown(update(data["rows"], optimizer, rule))
    del groups
    return out


def _shown(row: dict[str, Any]) -> str:
    seen = row["estimated"]
    return "silent" if seen is None else plus_minus(seen["exponent"], seen["interval"])
