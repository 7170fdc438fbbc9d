"""Names of the reproduction: each figure's answer, each question's answer and number, tables by rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from paper.naming import Load, Names
from paper.naming.shown import decimal, figures, interval, listed, minus, power, whole, word
from rsverify.studies.reproduce.plan import AGAIN

ANSWERS = {"holds": "holds", "holds only for": "partly", "does not hold here": "fails", "inconclusive": "open"}
PARTS = {
    # name of a question: figure, and what its text must hold
    "perplexity.rs-gains": ("perplexity", "rsLoRA: held-out loss at rank"),
    "perplexity.lora-flat": ("perplexity", "LoRA: held-out loss at rank", "within"),
    "perplexity.rs-better": ("perplexity", "held-out loss of rsLoRA less that of LoRA"),
    "gradient.lora": ("gradient-norm", "LoRA, adamw: exponent"),
    "gradient.rslora": ("gradient-norm", "rsLoRA, adamw: exponent"),
    "gradient.decades": ("gradient-norm", "decades"),
    "control.better": ("control", "each rule at its own best lr", "below"),
    "control.equal": ("control", "the same difference, within"),
    "control.lora-gains": ("control", "LoRA at its own best lr: held-out loss at rank"),
    "control.rs-gains": ("control", "rsLoRA at its own best lr: held-out loss at rank"),
    "control.lora-exponent": ("control", "LoRA: exponent in r of the best lr"),
    "control.rslora-exponent": ("control", "rsLoRA: exponent in r of the best lr"),
    "control.lora-exponent.wide": ("control", "LoRA, ranks above d/2 with the others: exponent"),
    "control.rslora-exponent.wide": ("control", "rsLoRA, ranks above d/2 with the others: exponent"),
    "sgd.better": ("control-sgd", "each rule at its own best lr", "below"),
    "sgd.equal": ("control-sgd", "the same difference, within"),
    "sgd.lora-exponent": ("control-sgd", "LoRA: exponent in r of the best lr"),
    "sgd.rslora-exponent": ("control-sgd", "rsLoRA: exponent in r of the best lr"),
    "sweep.tuned": ("lr-sweep", "control, rsLoRA at rank", "@widest"),
    "sweep.far": ("lr-sweep", "rsLoRA at rank", "held-out loss less that of rank-", "lr", "@deciding"),
    "limit.exponent": ("limit", "exponent in r of the distance"),
    "limit.modules": ("limit", "no module's exponent lies outside"),
    "any-rank.limit": ("any-rank", "rsLoRA: held-out loss at rank", "less that at rank"),
    "any-rank.learns": ("any-rank", "rsLoRA at rank", "less the base's"),
    "any-rank.stopped": ("any-rank", "LoRA at rank", "less the base's"),
    "any-rank.lora-gradient": ("any-rank", "LoRA: exponent of the gradient norm"),
    "any-rank.rslora-gradient": ("any-rank", "rsLoRA: exponent of the gradient norm"),
}  # fmt: skip
"""Questions that the text speaks of by name. A text that begins with LoRA is not one that begins with rsLoRA."""


def question(figures_: dict[str, Any], figure: str, *holds: str, ranks: Sequence[int] = ()) -> dict[str, Any]:
    """The one question of a figure whose text begins with or holds these words; `@deciding`, or about the widest of the ranks."""
    found = []
    for part in figures_[figure]["parts"]:
        says = part["says"]
        if "@deciding" in holds and not part["deciding"]:
            continue
        if "@widest" in holds and f"rank {max(ranks)} " not in says:
            continue
        wanted = [text for text in holds if not text.startswith("@")]
        first_is_start = not wanted[0].startswith(("LoRA", "rsLoRA")) or says.startswith(wanted[0])
        if first_is_start and all(text in says for text in wanted):
            found.append(part)
    if len(found) != 1:
        raise ValueError(f"reproduce.json: figure {figure!r} has {len(found)} questions that hold {holds}; the text needs one")
    return found[0]


def table(figures_: dict[str, Any], figure: str, index: int = 0) -> dict[str, Any]:
    return figures_[figure]["tables"][index]


def number(cell: str) -> float | None:
    """The number that a cell begins with; None where it has none."""
    match = re.match(r"[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?", cell)
    return float(match[0].replace(",", "")) if match else None


def names(read: Load) -> Names:
    data = read("reproduce")
    figures_ = {figure["name"]: figure for figure in data["figures"]}
    plan = data["provenance"]["settings"]
    out = Names()
    texts, words = out.texts, out.words
    words["reproduce.kind"] = data["kind"]
    for name, figure in figures_.items():
        words[f"reproduce.{name}"] = ANSWERS[figure["answer"]]
    for name, (figure, *holds) in PARTS.items():
        part = question(figures_, figure, *holds, ranks=plan["wide"])
        words[f"reproduce.{name}"] = part["answer"]
        if part["mean"] is not None and part["interval"] is not None:
            texts[f"reproduce.{name}"] = decimal(part["mean"], 3, sign=True)
            texts[f"reproduce.{name}.interval"] = interval(part["interval"])
        else:
            # An exponent whose optimum lies at the end of what was tried has an answer (open) and no number.
            texts[f"reproduce.{name}"], texts[f"reproduce.{name}.interval"] = "?", "(not read off)"
    counts = [ANSWERS[figure["answer"]] for figure in data["figures"]]
    texts["reproduce.claims"] = word(len(counts))
    for answer in ANSWERS.values():
        texts[f"reproduce.claims.{answer}"] = word(counts.count(answer))
        texts[f"reproduce.names.{answer}"] = listed([f["title"] for f in data["figures"] if ANSWERS[f["answer"]] == answer])
    texts |= {
        "reproduce.cells": whole(data["cells"]), "reproduce.minutes": whole(data["core_seconds"] / 60),
        "reproduce.repeats": word(plan["repeats"]), "reproduce.seeds": word(plan["seeds"]), "reproduce.steps": whole(plan["steps"]),
        "reproduce.tokens": whole(plan["tokens"]), "reproduce.low": whole(plan["low"]), "reproduce.high": whole(plan["high"]),
        "reproduce.wide": whole(max(plan["wide"])), "reproduce.alpha": figures(plan["alpha"]), "reproduce.lr": figures(plan["lr"]),
        "reproduce.lr-sgd": figures(plan["lr_sgd"]), "reproduce.lr-adafactor": figures(plan["lr_adafactor"]),
        "reproduce.held-out": whole(plan["held_out"]), "reproduce.ranks": listed([whole(r) for r in (*plan["narrow"], *plan["wide"])]),
        **{f"reproduce.{name}": word(min(plan[name], plan["seeds"])) for name in ("swept", "few", "beyond", "named")},
        "reproduce.probability": figures(AGAIN, 2),
        "reproduce.seeds.all": word(plan["repeats"] * plan["seeds"]), "reproduce.any-steps": whole(plan["any_steps"]),
        "reproduce.any-top": whole(max(plan["any_ranks"])), "reproduce.limit-steps": whole(plan["limit_steps"]),
        "reproduce.limit-ranks": listed([whole(r) for r in plan["limit_ranks"]]),
        "reproduce.margin": figures(-question(figures_, "perplexity", "rsLoRA: held-out loss at rank")["region"][1], 2),
    }  # fmt: skip
    inside = re.search(r"\((\d+) of (\d+) inside, (\d+) outside", question(figures_, "limit", "no module's exponent")["says"])
    assert inside is not None, "the question about modules has another text"
    texts |= {
        "reproduce.modules.inside": inside[1], "reproduce.modules": inside[2], "reproduce.modules.outside": word(int(inside[3])),
        "reproduce.modules.open": word(int(inside[2]) - int(inside[1]) - int(inside[3])),
    }  # fmt: skip
    out.tables["reproduce.claims"] = [
        {"claim": _prose(figure["claim"]), "answer": ANSWERS[figure["answer"]], "decided": _prose(figure["sentence"])}
        for figure in data["figures"]
    ]
    best = table(figures_, "control")["rows"]
    texts |= _best(best)
    base = re.search(r"width (\d+) \((\S+) parameters\)", " ".join(data["notes"]))
    assert base is not None, "the notes no longer say how large the base is"
    texts |= {"reproduce.width": base[1], "reproduce.parameters": base[2].replace("k", ",000")}
    norms = table(figures_, "gradient-norm")["rows"]
    finite = [(rank, norm) for rank, norm in ((number(row[0]), number(row[1])) for row in norms) if rank and norm]
    texts["reproduce.gradient.fall"] = figures(finite[0][1] / finite[-1][1], 3)
    texts["reproduce.gradient.last-rank"] = whole(finite[-1][0])
    away = table(figures_, "limit")["rows"]
    texts |= {
        "reproduce.limit.first-rank": away[0][0], "reproduce.limit.last-rank": away[-1][0],
        "reproduce.limit.first": figures(number(away[0][2]) or 0), "reproduce.limit.last": figures(number(away[-1][2]) or 0),
    }  # fmt: skip
    texts |= {f"reproduce.foretold.{rule}": power(value) for rule, value in _foretold(figures_).items()}
    end = table(figures_, "any-rank")["rows"]
    texts["reproduce.any-rank.base"] = end[-1][1]
    texts["reproduce.any-rank.lora"], texts["reproduce.any-rank.rslora"] = end[-2][1], end[-2][2]
    return out


def _foretold(figures_: dict[str, Any]) -> dict[str, str]:
    found = {}
    for figure, of in (("control", ""), ("control-sgd", "sgd-")):
        told = figures_[figure]["foretold_numbers"]
        found |= {f"{of}lora-lr": told["alpha/r"], f"{of}rslora-lr": told["alpha/sqrt(r)"]}
    return found


def _best(rows: list[list[str]]) -> dict[str, str]:
    """Learning rates and perplexities at both ends of the control."""
    found = {}
    for which, row in (("first", rows[0]), ("last", rows[-1])):
        for column, what in enumerate(("rank", "lora-lr", "lora-perplexity", "rslora-lr", "rslora-perplexity")):
            found[f"reproduce.control.{which}.{what}"] = minus(row[column].split(" ")[0])
    return found


def _prose(sentence: str) -> str:
    """A sentence of the evidence with powers as a reader writes them."""
    return re.sub(r"\*\*\(?(-?[\d./]+)\)?", lambda found: f"^({minus(found[1])})", sentence)
