"""`rsverify solve`: the scaling rule that keeps a quantity stable."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import Json, OneOptimizer, Probe, Quantity, Regime, Seed, Statistic, Steps, refuse_unwritable, write_json


def solve(
    adapter: str,
    *,
    optimizer: OneOptimizer = "sgd",
    quantity: Quantity = "update",
    statistic: Statistic = "rms",
    probe: Probe = "aligned",
    steps: Steps = 1,
    regime: Regime = "rank",
    rule: Annotated[
        tuple[str, ...], Parameter(allow_leading_hyphen=True, help="Rule whose learning-rate exponent to give; may be given several times.")
    ] = ("alpha/r", "alpha/sqrt(r)"),
    explain: Annotated[bool, Parameter(negative="", help="Print the derivation.")] = False,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Find the scaling rule that keeps a quantity stable as the rank grows, and the learning rate that other rules need.

    The seed is taken for uniformity; nothing is drawn.

    Example: `rsverify solve lora --optimizer adamw --explain`
    """
    from rich.console import Console

    from rsverify.definitions.rules import as_rule
    from rsverify.records import to_json
    from rsverify.symbolic import solve as witness
    from rsverify.symbolic.explain import conclusion, power_text

    refuse_unwritable(json)
    powers = {text: as_rule(text).power for text in rule}
    found = witness(adapter, optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{found.adapter}, {found.optimizer}: {quantity} {statistic}, probe {probe}, steps {steps}, regime {regime}")
    if explain:
        for number, line in enumerate(found.explanation, start=1):
            console.print(f"{number:>2}. {line}", markup=False)
    else:
        console.print(f"terms     {' + '.join(power_text(term) for term in found.terms) or 'none: it vanishes identically'}", markup=False)
        p = found.rule_exponent
        console.print(conclusion(found.status, (p, p) if p is not None else found.rule_interval), markup=False)
    answers = {}
    for text, power in powers.items():
        q = found.lr_exponent(power)
        answers[text] = None if q is None else str(q)
        console.print(f"{text}: " + ("no learning rate makes it stable" if q is None else _rate(str(q))), markup=False)
    write_json({**to_json(found), "lr_exponents": answers}, json)
    return 0


def _rate(q: str) -> str:
    return "stable at a learning rate free of r" if q == "0" else f"stable where lr ~ r**({q})"
