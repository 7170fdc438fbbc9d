"""Names of the headline: three witnesses on LoRA, row by row."""

from __future__ import annotations

from typing import Any

from paper.naming import Load, Names
from paper.naming.shown import decimal, plus_minus, power, whole, word

QUANTITIES = {
    ("update", "rms", "aligned"): "update, rms", ("update", "projection", "aligned"): "update along the signal",
    ("gradient_norm", "frobenius", "aligned"): "gradient norm at init", ("loss_decrease", "rms", "aligned"): "loss decrease",
    ("update", "rms", "orthogonal"): "update, orthogonal probe", ("input_gradient", "rms", "aligned"): "gradient to the input",
}  # fmt: skip


def names(read: Load) -> Names:
    data = read("verify")
    out, settings = Names(), data["provenance"]["settings"]
    rows = [row for row in data["rows"] if row["headline"]]
    agreed = [row["agreement"] for row in rows]
    out.words["verify"] = data["verdict"]
    out.texts |= {
        "verify.headline": whole(len(rows)), "verify.confirmed": whole(agreed.count("confirmed")),
        "verify.refuted": word(sum(row["agreement"] == "refuted" for row in data["rows"])), "verify.rows": whole(len(data["rows"])),
        "verify.draws": whole(settings["train_draws"]), "verify.trained-first": whole(settings["train_ranks"][0]),
        "verify.trained-last": whole(settings["train_ranks"][-1]), "verify.simulated-first": whole(settings["estimate_ranks"][0]),
        "verify.simulated-last": whole(settings["estimate_ranks"][-1]), "verify.margin": decimal(rows[0]["margin"], 1),
    }  # fmt: skip
    out.tables["verify"] = [
        {
            "optimizer": row["optimizer"], "rule": row["rule"], "quantity": QUANTITIES[row["quantity"], row["statistic"], row["probe"]],
            "derived": power(row["predicted"]), "simulated": _shown(row["estimated"]), "trained": _context(row),
            "judge": row["agreement"],
        }
        for row in rows
    ]  # fmt: skip
    for row in data["rows"]:
        if (row["quantity"], row["statistic"], row["probe"]) == ("update", "rms", "aligned") and row["measured"]:
            rule = "lora" if row["rule"] == "alpha/r" else "rslora"
            out.texts[f"verify.rms.{row['optimizer']}.{rule}"] = decimal(row["measured"]["exponent"], 2, sign=True)
    return out


def _context(row: dict[str, Any]) -> str:
    """The transformer's number; in brackets where it is not held against the derived power."""
    shown = _shown(row["measured"])
    return f"({shown})" if (row["quantity"], row["statistic"]) == ("update", "rms") and row["measured"] else shown


def _shown(witness: dict[str, Any] | None) -> str:
    return "silent" if witness is None else plus_minus(witness["exponent"], witness["interval"])
