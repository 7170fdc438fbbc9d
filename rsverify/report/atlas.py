"""The atlas written down: terminal, HTML and Markdown, from its JSON data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rsverify.report.formulas import coded, one_way, power
from rsverify.report.words import OUTCOME_WORDS

Data = Mapping[str, Any]

COLOUR = {"stable": "green", "collapses": "red", "explodes": "red", "inconclusive": "yellow", "zero": "dim"}
AGREED = {"confirmed": "green", "refuted": "bold red", "inconclusive": "yellow"}
REGIMES = {"rank": "r beyond the widths", "width": "r far below the widths"}


def terms_text(answer: Data) -> tuple[str, str]:
    """lr, gamma and r with their powers as derived; those of gamma and r as simulated; "silent" where nobody says."""
    derived = " + ".join(
        " * ".join(power(name, text) for name, text in zip(("lr", "gamma", "r"), (lr, gamma, r), strict=True) if text != "0")
        for gamma, r, lr in answer["terms"]
    )
    seen = answer["measured_terms"]
    return derived or "silent", "silent" if seen is None else f"gamma**{_plain(seen[0])} * r**{_plain(seen[1])}"


def _plain(value: float) -> str:
    """Two digits behind the point; what rounds to zero has no sign."""
    text = f"{value:.2f}"
    return text if float(text) else text.removeprefix("-")


WITNESSES = {"symbolic": ("theory", "predicted"), "montecarlo": ("simulation", "estimated"), "library": ("PEFT's layer", "measured")}
"""Whom a silence is of, by the witness's name: in words, and where its record stands in a row."""
ANSWERS = {"yes": "yes", "no": "no: use {}", "depends": "it depends: use {}", "open": "open; theory alone says {}"}


def plain_words(plain: Data) -> str:
    """Whether 1/sqrt(r) is right, and what to use."""
    return ANSWERS[plain["word"]].format(plain["instead"])


def witnesses(answer: Data) -> str:
    """Whether the witnesses of an answer agree, or that there is but one, or none."""
    return answer["agreement"] if answer["witnesses"] > 1 else "one witness" if answer["witnesses"] else "none speaks"


def speaking(entry: Data) -> int:
    """How many witnesses speak of a number."""
    return sum(entry["row"][record] is not None for _, record in WITNESSES.values())


def exponents(entry: Data) -> tuple[str, str, str]:
    """What theory, simulation and PEFT's layer say of a number, as a person would write them; why one is silent stands below the tables."""
    predicted = entry["row"]["predicted"]
    theory = "silent"
    if predicted is not None:
        span = predicted["exponent_range"]
        theory = "zero" if predicted["zero"] else predicted["exponent"] or (f"{span[0]} to {span[1]}" if span else "none")
    return theory, _seen(entry["row"]["estimated"]), _seen(entry["row"]["measured"])


def _seen(record: Data | None) -> str:
    if record is None:
        return "silent"
    ends = record["interval"]
    return "zero" if record["zero"] else "none" if ends is None else f"{record['exponent']:+.3f} ± {(ends[1] - ends[0]) / 2:.3f}"


def silences(data: Data) -> list[tuple[str, list[str]]]:
    """Every reason for which a witness is silent, with the numbers that it is silent about."""
    found: dict[str, list[str]] = {}
    for entry in data["entries"]:
        claim = entry["row"]["claim"]
        for witness, (name, _) in WITNESSES.items():
            if witness in entry["row"]["silent"]:
                of = f"{claim['adapter']} ({claim['optimizer']}, {claim['regime']})"
                about = found.setdefault(f"{name}: {entry['row']['silent'][witness]}", [])
                if of not in about:
                    about.append(of)
    return list(found.items())


def contradictions(data: Data) -> list[str]:
    """Rows that two witnesses do not agree about, or leave open, each with the judge's reason."""
    return [
        f"{e['row']['claim']['adapter']}, {e['row']['claim']['optimizer']}, {e['row']['claim']['rule']}, {e['row']['claim']['quantity']}: "
        f"{e['row']['agreement']}: {e['row']['reason']}"
        for e in data["entries"]
        if speaking(e) > 1 and e["row"]["agreement"] != "confirmed"
    ]


def show(data: Data, console: Console) -> None:
    """Print the answers, what is open, and the outcome."""
    if data["plain"]:
        short = Table(title="Is 1/sqrt(r) right?", title_justify="left")
        for heading in ("adapter", "optimizer", "1/sqrt(r)", "why"):
            short.add_column(heading, overflow="fold")
        for p in data["plain"]:
            short.add_row(p["variant"], p["optimizer"], f"[bold]{escape(plain_words(p))}[/]", escape(one_way(p["why"])))
        console.print(short)
    table = Table(title=f"stable quantity: {data['quantity']}; margin {data['margin']:g} in an exponent", title_justify="left")
    for heading in ("variant", "optimizer", "regime", "theory", "simulation", "stable rule", "shipped", "", "1/sqrt(r)", "witnesses"):
        table.add_column(heading, overflow="fold")
    for a in data["answers"]:
        table.add_row(
            a["variant"], a["optimizer"], a["regime"], *terms_text(a), a["stable_rule"] or "none known", a["shipped"],
            f"[{COLOUR[a['shipped_stability']]}]{a['shipped_stability']}[/]", f"[{COLOUR[a['root_stability']]}]{a['root_stability']}[/]",
            f"[{AGREED[a['agreement']]}]{witnesses(a)}[/]",
        )  # fmt: skip
    console.print(table)
    for a in data["answers"]:
        console.print(f"[bold]{a['variant']}, {a['optimizer']}, {a['regime']}:[/] {escape(one_way(a['sentence']))}")
    for line in contradictions(data):
        console.print(f"[yellow]{escape(line)}[/]")
    if data["flags"]:
        console.print(f"\n{len(data['flags'])} comparisons are of rules that differ in scale at rank {data['reference_rank']}, e.g. "
                      f"{escape(data['flags'][0])}")  # fmt: skip
    for reason, about in silences(data):
        console.print(f"[dim]silent, {escape(reason)} ({len(about)})[/]")
    console.print(f"\n[bold]{OUTCOME_WORDS[data['verdict']]}[/]: {data['sentence']}")


def markdown(data: Data, *, title: str = "The atlas of adapters", level: int = 1) -> str:
    """The atlas as Markdown, for a docs page or a pull request."""
    hashes = "#" * level
    lines = [f"{hashes} {title}", "", f"**{OUTCOME_WORDS[data['verdict']]}.** {data['sentence']}", ""]
    lines += [f"The stable quantity is: {data['quantity']}. Context: {data['context']}. Margin {data['margin']:g} in an exponent; "
              f"{data['error_budget']:g} false failures for the whole table of {data['statements']} statements. Regimes: `rank` is "
              f"{REGIMES['rank']}, `width` is {REGIMES['width']}.", ""]  # fmt: skip
    if data["plain"]:
        lines += [f"{hashes}# Is 1/sqrt(r) right?", "", "| adapter | optimizer | is 1/sqrt(r) right? | why |", "|---|---|---|---|"]
        lines += [
            f"| {p['variant']} | {p['optimizer']} | **{coded(plain_words(p))}** | {coded(one_way(p['why']))} |" for p in data["plain"]
        ]
        lines += ["", f"{hashes}# Every adapter", ""]
    lines += ["| variant | optimizer | regime | derived and simulated terms | stable rule | shipped | 1/sqrt(r) | witnesses |",
              "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for a in data["answers"]:
        terms = " / ".join(map(coded, terms_text(a)))
        cells = (a["variant"], a["optimizer"], a["regime"], terms, f"`{a['stable_rule']}`" if a["stable_rule"]
                 else "none known", f"`{a['shipped']}` {a['shipped_stability']}", a["root_stability"], witnesses(a))  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"{hashes}# In sentences, and what to do about alpha or the learning rate", ""]
    lines += [f"- **{a['variant']}, {a['optimizer']}, {a['regime']}**: {coded(one_way(a['sentence']))}" for a in data["answers"]]
    lines += ["", f"{hashes}# Every number", "",
              "| variant | optimizer | regime | rule | quantity | theory | simulation | PEFT's own layer | stability | agreement |",
              "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for e in data["entries"]:
        c, (theory, simulated, built) = e["row"]["claim"], exponents(e)
        cells = (c["adapter"], c["optimizer"] if c["quantity"] == "update" else "any", c["regime"], f"`{c['rule']}`", c["quantity"], theory,
                 simulated, built, e["row"]["stability"], _agreement(e))  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    if found := contradictions(data):
        lines += ["", f"{hashes}# Open or contradictory", "", *(f"- {coded(line)}" for line in found)]
    if found := silences(data):
        lines += ["", f"{hashes}# Why a witness is silent", "", *(f"- {coded(reason)}: {', '.join(about)}" for reason, about in found)]
    if data["flags"]:
        lines += ["", f"{hashes}# Compared at different scale", "", *(f"- {coded(flag)}" for flag in data["flags"])]
    p = data["provenance"]
    lines += [
        "",
        f"<!-- made of: {p['hashes'].get('atlas', 'not said')} -->",
        f"rsverify {p['version']}, seed {p['seed']}, alpha {p['settings']['alpha']:g}, learning rate "
        f"{p['settings']['learning_rate']:g}; written by `rsverify atlas --markdown FILE`.",
        "",
    ]
    return "\n".join(lines)


def _agreement(entry: Data) -> str:
    count = speaking(entry)
    return entry["row"]["agreement"] if count > 1 else "one witness" if count else "none speaks"


KEPT = ("exponent", "interval", "level", "systematic", "draws", "drawn", "engine", "model", "witness", "exponent_range", "zero")
"""What of a witness's record a paper may quote; curves and formulas are left out."""


def evidence(data: Data) -> dict[str, Any]:
    """The atlas for a paper to quote: its JSON without curves, formulas and the words of every row."""
    return {
        **data,
        "plain": [{**p, "words": plain_words(p)} for p in data["plain"]],
        "entries": [_short(entry) for entry in data["entries"]],
    }


def _short(entry: Data) -> dict[str, Any]:
    row = dict(entry["row"])
    for _, record in WITNESSES.values():
        if row[record] is not None:
            row[record] = {key: row[record][key] for key in KEPT if key in row[record]}
    return {**entry, "row": row}


SIGNS = {"stable": "=", "collapses": "↓", "explodes": "↑", "inconclusive": "?", "zero": "0"}
"""A stability at one look, legible without colours."""


def matrix(data: Data) -> tuple[list[tuple[str, str]], list[tuple[str, list[Data | None]]]]:
    """The picture of the page: (optimizer, regime) of every column, and each variant with its answer there, None where not asked."""
    columns = list(dict.fromkeys((a["optimizer"], a["regime"]) for a in data["answers"]))
    found = {(a["variant"], a["optimizer"], a["regime"]): a for a in data["answers"]}
    variants = dict.fromkeys(a["variant"] for a in data["answers"])
    return columns, [(variant, [found.get((variant, *column)) for column in columns]) for variant in variants]


def page(data: Data, *, command: str) -> str:
    """The atlas as one HTML file that stands alone: no script, no network, readable on a phone and in print."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("rsverify.report").joinpath("atlas.html.jinja").read_text(encoding="utf-8"))
    entries = [{"entry": e, "exponents": exponents(e), "agreement": _agreement(e)} for e in data["entries"]]
    answers = [
        {"answer": a, "terms": terms_text(a), "sentence": one_way(a["sentence"]), "witnesses": witnesses(a)} for a in data["answers"]
    ]
    plain = [{"plain": p, "words": plain_words(p), "why": one_way(p["why"])} for p in data["plain"]]
    return template.render(
        data=data, outcome=OUTCOME_WORDS[data["verdict"]], entries=entries, answers=answers, silences=silences(data),
        plain=plain, contradictions=contradictions(data), regimes=REGIMES,
        how=_how(data["provenance"]), command=command, matrix=matrix(data), signs=SIGNS,
    )  # fmt: skip


def _how(p: Data) -> Sequence[tuple[str, str]]:
    found = [("rsverify", p["version"]), ("commit", p["commit"] or "none"), ("made", p["created"]), ("python", p["python"])]
    found += [("platform", p["platform"]), ("seed", str(p["seed"])), *p["packages"].items()]
    return [*found, *((name, str(value)) for name, value in p["settings"].items())]
