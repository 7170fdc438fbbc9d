"""Names of what theory says: formulas, slopes beside limits, inits, probes, transfers."""

from __future__ import annotations

import re
from typing import Any

from paper.naming import Load, Names
from paper.naming.shown import decimal, figures, listed, power, whole, word


def names(read: Load) -> Names:
    data = read("theory")
    out, transfer = Names(), data["transfer"]
    texts = out.texts
    texts |= {
        "theory.adapters": word(data["counts"]["adapters"]) if data["counts"]["adapters"] <= 12 else whole(data["counts"]["adapters"]),
        "theory.optimizers": word(data["counts"]["optimizers"]), "theory.ranks": listed([whole(rank) for rank in data["ranks"]]),
        "theory.first-rank": whole(data["ranks"][0]), "theory.last-rank": whole(data["ranks"][-1]), "theory.width": whole(data["d_in"]),
        "theory.moment.slope": decimal(data["fourth_moment"]["slope"], 2), "theory.moment.exponent": str(data["fourth_moment"]["exponent"]),
        "theory.orthogonal": power(data["orthogonal"]["rule_exponent"]), "theory.input.rank": power(data["input_gradient"]["rank"]),
        "theory.input.width": power(data["input_gradient"]["width"]),
        "theory.std.sgd": power(data["std 1/r"]["sgd"]["rule_exponent"]),
        "theory.std.adamw": power(data["std 1/r"]["adamw"]["rule_exponent"]),
        "theory.transfer.from": whole(transfer["from"]), "theory.transfer.to": whole(transfer["to"]),
        "theory.transfer.alpha": figures(transfer["alpha"]), "theory.transfer.lr": figures(transfer["lr"]),
    }  # fmt: skip
    for rule, short in (("alpha/r", "lora"), ("alpha/sqrt(r)", "rslora")):
        texts[f"theory.gradient.{short}"] = power(data["gradient_norm"][rule])
        out.words[f"theory.limit.{short}"] = {"full fine-tuning": "full", "no training": "zero"}.get(
            data["limit"][rule]["kind"], "unbounded"
        )
        texts[f"theory.limit.{short}.exponent"] = power(data["limit"][rule]["exponent"])
        texts[f"theory.limit.{short}.approach"] = power(data["limit"][rule]["approach"])
        texts[f"theory.limit.{short}.rate"] = data["limit"][rule]["rate"]
        for optimizer in ("sgd", "adamw"):
            found = data["finite"][optimizer][rule]
            texts[f"theory.{optimizer}.{short}.slope"] = decimal(found["slope"], 3, sign=True)
            texts[f"theory.{optimizer}.{short}"] = power(found["exponent"])
            texts[f"theory.{optimizer}.formula"] = found["formula"]
    texts["theory.limit.distance"] = data["limit"]["alpha/sqrt(r)"]["distance"]
    symbols = {name for name in re.findall(r"S\d+", texts["theory.sgd.formula"])}
    texts["theory.symbol"] = listed(sorted(symbols))
    out.tables["theory.transfer"] = [_transfer(case) for case in transfer["cases"]]
    return out


def _transfer(case: dict[str, Any]) -> dict[str, str]:
    lr = "none" if case["to_lr"] is None else figures(case["to_lr"])
    between = "" if case["range"] is None else f"{figures(case['range'][0])} to {figures(case['range'][1])}"
    same = "none" if case["alpha_at_same_lr"] is None else figures(case["alpha_at_same_lr"])
    return {
        "optimizer": case["optimizer"], "rule": case["rule"], "to_rule": case["to_rule"], "alpha": figures(case["to_alpha"]), "lr": lr,
        "range": between or "the same", "same": same,
    }  # fmt: skip
