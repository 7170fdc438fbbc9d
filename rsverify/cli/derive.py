"""`rsverify derive`: the symbolic witness alone."""

from __future__ import annotations

from collections.abc import Iterable

from rsverify.cli.options import (
    Init,
    Json,
    Name,
    OneOptimizer,
    OneRule,
    Probe,
    Quantity,
    Regime,
    Seed,
    Statistic,
    Steps,
    chosen,
    refuse_unwritable,
    ruled,
    write_json,
)


def derive(
    adapter: Name,
    *,
    rule: OneRule = None,
    optimizer: OneOptimizer = "sgd",
    quantity: Quantity = "update",
    statistic: Statistic = "rms",
    probe: Probe = "aligned",
    steps: Steps = 1,
    regime: Regime = "rank",
    init: Init = (),
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Derive what must happen: the magnitude as a formula, and its power of the rank.

    The seed is taken for uniformity; nothing is drawn.

    For example:

    - `rsverify derive lora --rule "alpha/r" --optimizer sgd`
    - `rsverify derive lora --quantity gradient_norm --statistic frobenius --steps 0`
    - `rsverify derive vera --optimizer adamw --regime width`
    """
    from rich.console import Console

    from rsverify.records import to_json
    from rsverify.symbolic import derive as witness

    refuse_unwritable(json)
    target = chosen(adapter, init)
    found = witness(
        target.derivable,
        ruled(target, rule),
        optimizer=optimizer,
        quantity=quantity,
        statistic=statistic,
        probe=probe,
        steps=steps,
        regime=regime,
    )
    console = Console(highlight=False, soft_wrap=True)
    claim = found.claim
    console.print(f"{claim.adapter} ({claim.init}), {claim.rule}, {claim.optimizer}")
    console.print(f"{claim.quantity} {claim.statistic}, probe {claim.probe}, steps {claim.steps}, regime {claim.regime}")
    if found.zero:
        console.print("vanishes identically")
    else:
        low, high = found.exponent_range or (found.exponent, found.exponent)
        shown = f"r**({low})" if low == high else f"between r**({low}) and r**({high})"
        console.print(f"exponent  {shown}" + (f" log(r)**({found.log_exponent})" if found.log_exponent else ""))
        if found.formula is not None:
            console.print(f"formula   {found.formula.text}")
            console.print(f"where     {_where(found.formula.names)}")
        up_to = f"leading order, error {found.error_order}" if found.formula is not None else "the power alone, no magnitude"
        console.print("exact at every finite rank" if found.exact else up_to)
    for note in found.notes:
        console.print(f"note      {note}")
    write_json(to_json(found), json)
    return 0


def _where(names: Iterable[str]) -> str:
    """What the names of a formula stand for; alike ones together."""
    from rsverify.definitions.invariants import described

    said: dict[str, list[str]] = {}
    for name in sorted(names):
        if text := described(name):
            said.setdefault(text, []).append(name)
    return "; ".join(f"{', '.join(alike)} = {text}" for text, alike in said.items())
