"""`rsverify solve`: the scaling rule that keeps a quantity stable."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import (
    Init,
    Json,
    Name,
    OneOptimizer,
    Probe,
    Regime,
    Seed,
    Statistic,
    Steps,
    chosen,
    refuse_unwritable,
    write_json,
    write_text,
)
from rsverify.errors import InputError


def solve(
    adapter: Name,
    *,
    optimizer: OneOptimizer = "sgd",
    quantity: Annotated[
        tuple[str, ...],
        Parameter(help="As for derive; may be given several times, to see which demands agree."),
    ] = ("update",),
    statistic: Statistic = "rms",
    probe: Probe = "aligned",
    steps: Steps = 1,
    regime: Regime = "rank",
    init: Init = (),
    rule: Annotated[
        tuple[str, ...], Parameter(allow_leading_hyphen=True, help="Rule whose learning-rate exponent to give; may be given several times.")
    ] = ("alpha/r", "alpha/sqrt(r)"),
    explain: Annotated[bool, Parameter(help="Print the derivation.")] = False,
    out: Annotated[Path | None, Parameter(help="Write the phase diagram over rule and learning-rate exponents to this SVG file.")] = None,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Find the scaling rule that keeps a quantity stable as the rank grows, and the learning rate that other rules need.

    Several quantities are solved one by one, then held against each other. The seed is taken for uniformity; nothing is drawn.

    For example:

    - `rsverify solve lora --optimizer adamw --explain`
    - `rsverify solve lora --optimizer sgd --quantity update --quantity gradient_norm --out phases.svg`
    """
    from rich.console import Console

    from rsverify.definitions.rules import as_rule
    from rsverify.records import to_json
    from rsverify.report.phase import draw, phase_diagram
    from rsverify.symbolic import solve as witness
    from rsverify.symbolic.answers.demands import together
    from rsverify.symbolic.answers.explain import conclusion, power_text

    refuse_unwritable(json)
    refuse_unwritable(out, "out")
    if out is not None and out.suffix != ".svg":
        raise InputError(f"out={str(out)!r} has suffix {out.suffix!r}; the phase diagram is written as .svg")
    powers = {text: as_rule(text).power for text in rule}
    laid = chosen(adapter, init).derivable
    solved = [
        witness(laid, optimizer=optimizer, quantity=name, statistic=statistic, probe=probe, steps=steps, regime=regime) for name in quantity
    ]
    console = Console(highlight=False, soft_wrap=True)
    written = []
    for found in solved:
        console.print(f"{found.adapter}, {found.optimizer}: {found.quantity} {statistic}, probe {probe}, steps {steps}, regime {regime}")
        if explain:
            for number, line in enumerate(found.explanation, start=1):
                console.print(f"{number:>2}. {line}", markup=False)
        else:
            shown = " + ".join(power_text(term) for term in found.terms) or "none: it vanishes identically"
            console.print(f"terms     {shown}", markup=False)
            p = found.rule_exponent
            console.print(conclusion(found.status, (p, p) if p is not None else found.rule_interval), markup=False)
        answers = {text: found.lr_exponent(power) for text, power in powers.items()}
        for text, q in answers.items():
            console.print(f"{text}: " + (_without_rate(found.exponent(powers[text])) if q is None else _rate(str(q))), markup=False)
        lr_exponents = {text: None if q is None else str(q) for text, q in answers.items()}
        written.append({**to_json(found), "lr_exponents": lr_exponents, "phases": to_json(phase_diagram(found))})
    if len(solved) > 1:
        asked = together(solved)
        console.print("together  " + _together(asked.common), markup=False)
        for i, j in asked.contradictions:
            console.print(f"contradict each other: {solved[i].quantity} and {solved[j].quantity}", markup=False)
    if out is not None:
        write_text(draw(phase_diagram(solved[0])), out, "out")
    write_json(written[0] if len(written) == 1 else written, json)
    return 0


def _without_rate(power: Fraction | None) -> str:
    """Where no learning rate decides: it is stable (or vanishes) by itself, or none helps."""
    return "stable, whatever the learning rate" if not power else "no learning rate makes it stable"


def _rate(q: str) -> str:
    return "stable at a learning rate free of r" if q == "0" else f"stable where lr ~ r**({q})"


def _together(common: tuple[object, object] | None) -> str:
    if common is None:
        return "no rule keeps all of them stable"
    low, high = common
    if low is None and high is None:
        return "every rule keeps all of them stable"
    if low == high:
        return f"gamma ~ r**-p with p = {low} keeps all of them stable"
    return f"all of them are stable for p from {'-infinity' if low is None else low} to {'infinity' if high is None else high}"
