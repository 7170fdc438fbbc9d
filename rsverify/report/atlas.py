"""The atlas written down: terminal, HTML and Markdown, from its JSON data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rsverify.report.words import OUTCOME_WORDS

Data = Mapping[str, Any]

COLOUR = {"stable": "green", "collapses": "red", "explodes": "red", "inconclusive": "yellow", "zero": "dim"}
AGREED = {"confirmed": "green", "refuted": "bold red", "inconclusive": "yellow"}
REGIMES = {"rank": "r beyond the widths", "width": "r far below the widths"}


def terms_text(answer: Data) -> str:
    """gamma, lr and r with their powers, derived; simulated powers beside them."""
    derived = " + ".join(
        " ".join(_power(name, text) for name, text in zip(("gamma", "r", "lr"), term, strict=True) if text != "0")
        for term in answer["terms"]
    )
    seen = answer["measured_terms"]
    measured = "" if seen is None else f"gamma^{seen[0]:.2f} r^{seen[1]:.2f}"
    return f"{derived or 'silent'} | {measured or 'silent'}"


def _power(name: str, text: str) -> str:
    return name if text == "1" else f"{name}^{text}" if "/" not in text and "-" not in text else f"{name}^({text})"


def witnesses(answer: Data) -> str:
    """Whether the witnesses of an answer agree, or that there is but one, or none."""
    if answer["agreement"] != "inconclusive" or (answer["terms"] and answer["measured_terms"]):
        return answer["agreement"]
    return "one witness" if answer["terms"] or answer["measured_terms"] else "none speaks"


def exponents(entry: Data) -> tuple[str, str]:
    """What theory and simulation say of a number, as a person would write them; the reason of a silence stands below the tables."""
    row = entry["row"]
    predicted, estimated = row["predicted"], row["estimated"]
    theory = "silent"
    if predicted is not None:
        span = predicted["exponent_range"]
        theory = "zero" if predicted["zero"] else predicted["exponent"] or (f"{span[0]} to {span[1]}" if span else "none")
    simulated = "silent"
    if estimated is not None:
        ends = estimated["interval"]
        simulated = (
            "zero" if estimated["zero"] else "none" if ends is None else f"{estimated['exponent']:+.3f} ± {(ends[1] - ends[0]) / 2:.3f}"
        )
    return theory, simulated


def silences(data: Data) -> list[tuple[str, list[str]]]:
    """Every reason for which a witness is silent, with the numbers that it is silent about."""
    found: dict[str, list[str]] = {}
    names = {"symbolic": "theory", "montecarlo": "simulation"}
    for entry in data["entries"]:
        claim = entry["row"]["claim"]
        for witness, name in names.items():
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
        if e["row"]["predicted"] and e["row"]["estimated"] and e["row"]["agreement"] != "confirmed"
    ]


def show(data: Data, console: Console) -> None:
    """Print the answers, what is open, and the outcome."""
    table = Table(title=f"stable quantity: {data['quantity']}; margin {data['margin']:g} in an exponent", title_justify="left")
    for heading in ("variant", "optimizer", "regime", "theory | simulation", "stable rule", "shipped", "", "1/sqrt(r)", "witnesses"):
        table.add_column(heading, overflow="fold")
    for a in data["answers"]:
        table.add_row(
            a["variant"], a["optimizer"], a["regime"], terms_text(a), a["stable_rule"] or "none known", a["shipped"],
            f"[{COLOUR[a['shipped_stability']]}]{a['shipped_stability']}[/]", f"[{COLOUR[a['root_stability']]}]{a['root_stability']}[/]",
            f"[{AGREED[a['agreement']]}]{witnesses(a)}[/]",
        )  # fmt: skip
    console.print(table)
    for a in data["answers"]:
        console.print(f"[bold]{a['variant']}, {a['optimizer']}, {a['regime']}:[/] {escape(a['sentence'])}")
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
    lines += ["| variant | optimizer | regime | derived and simulated terms | stable rule | shipped | 1/sqrt(r) | witnesses |",
              "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for a in data["answers"]:
        cells = (a["variant"], a["optimizer"], a["regime"], terms_text(a).replace("|", "/"), f"`{a['stable_rule']}`" if a["stable_rule"]
                 else "none known", f"`{a['shipped']}` {a['shipped_stability']}", a["root_stability"], witnesses(a))  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"{hashes}# Is 1/sqrt(r) right, and what to use instead", ""]
    lines += [f"- **{a['variant']}, {a['optimizer']}, {a['regime']}**: {a['sentence']}" for a in data["answers"]]
    lines += ["", f"{hashes}# Every number", "",
              "| variant | optimizer | regime | rule | quantity | theory | simulation | stability | agreement |",
              "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for e in data["entries"]:
        c, (theory, simulated) = e["row"]["claim"], exponents(e)
        cells = (c["adapter"], c["optimizer"] if c["quantity"] == "update" else "any", c["regime"], f"`{c['rule']}`", c["quantity"], theory,
                 simulated, e["row"]["stability"], _agreement(e))  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    if found := contradictions(data):
        lines += ["", f"{hashes}# Open or contradictory", "", *(f"- {line}" for line in found)]
    if found := silences(data):
        lines += ["", f"{hashes}# Why a witness is silent", "", *(f"- {reason}: {', '.join(about)}" for reason, about in found)]
    if data["flags"]:
        lines += ["", f"{hashes}# Compared at different scale", "", *(f"- {flag}" for flag in data["flags"])]
    p = data["provenance"]
    lines += [
        "",
        f"rsverify {p['version']}, seed {p['seed']}, alpha {p['settings']['alpha']:g}, learning rate "
        f"{p['settings']['learning_rate']:g}; written by `rsverify atlas --markdown FILE`.",
        "",
    ]
    return "\n".join(lines)


def _agreement(entry: Data) -> str:
    row = entry["row"]
    return (
        row["agreement"]
        if row["predicted"] and row["estimated"]
        else "one witness"
        if row["predicted"] or row["estimated"]
        else "none speaks"
    )


def page(data: Data, *, command: str) -> str:
    """The atlas as one HTML file that stands alone: no script, no network, readable on a phone and in print."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("rsverify.report").joinpath("atlas.html.jinja").read_text(encoding="utf-8"))
    entries = [{"entry": e, "exponents": exponents(e), "agreement": _agreement(e)} for e in data["entries"]]
    answers = [{"answer": a, "terms": terms_text(a).split(" | "), "witnesses": witnesses(a)} for a in data["answers"]]
    return template.render(
        data=data, outcome=OUTCOME_WORDS[data["verdict"]], entries=entries, answers=answers, silences=silences(data),
        contradictions=contradictions(data), regimes=REGIMES, how=_how(data["provenance"]), command=command,
    )  # fmt: skip


def _how(p: Data) -> Sequence[tuple[str, str]]:
    found = [("rsverify", p["version"]), ("commit", p["commit"] or "none"), ("made", p["created"]), ("python", p["python"])]
    found += [("platform", p["platform"]), ("seed", str(p["seed"])), *p["packages"].items()]
    return [*found, *((name, str(value)) for name, value in p["settings"].items())]
