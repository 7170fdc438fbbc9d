"""`rsverify estimate`: the Monte Carlo witness alone."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import (
    Alpha,
    Json,
    OneOptimizer,
    OneRule,
    Probe,
    Quantity,
    Ranks,
    Regime,
    Seed,
    Statistic,
    Steps,
    refuse_unwritable,
    write_json,
)  # fmt: skip


def estimate(
    adapter: str,
    *,
    rule: OneRule = "alpha/sqrt(r)",
    optimizer: OneOptimizer = "sgd",
    quantity: Quantity = "update",
    statistic: Statistic = "rms",
    probe: Probe = "aligned",
    steps: Steps = 1,
    regime: Regime = "rank",
    ranks: Ranks = None,
    precision: Annotated[float | None, Parameter(help="Half-width of the exponent's interval to reach.")] = None,
    alpha: Alpha = 20.0,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Simulate what does happen: magnitudes with intervals at each rank, and their power of the rank.

    Example: `rsverify estimate lora --rule "alpha/r" --ranks 4:65536`
    """
    from rich.console import Console
    from rich.table import Table

    from rsverify.definitions.ranks import parse_ranks
    from rsverify.montecarlo import estimate as witness
    from rsverify.records import to_json

    refuse_unwritable(json)
    found = witness(
        adapter, rule, optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime,
        ranks=parse_ranks(ranks or "4:65536"), precision=precision, alpha=alpha, seed=seed,
    )  # fmt: skip
    console = Console(highlight=False)
    claim = found.claim
    console.print(f"{claim.adapter} ({claim.init}), {claim.rule}, {claim.optimizer}")
    console.print(f"{claim.quantity} {claim.statistic}, probe {claim.probe}, steps {claim.steps}, regime {claim.regime}")
    table = Table()
    for heading in ("rank", "value", "low", "high"):
        table.add_column(heading, justify="right")
    for point in found.curve:
        table.add_row(str(point.rank), f"{point.value:.5g}", f"{point.lo:.5g}", f"{point.hi:.5g}")
    console.print(table)
    if found.zero:
        console.print("vanishes identically")
    elif found.exponent is not None and found.interval is not None:
        lo, hi = found.interval
        false = f"{1 - found.level:.1e}"
        console.print(f"exponent {found.exponent:+.4f} in [{lo:+.4f}, {hi:+.4f}], false at most once in {1 / float(false):.3g}")
        console.print(
            f"of which {found.systematic:.4f} for the step from finite ranks to the limit; {found.draws} draws, engine {found.engine}"
        )
    for note in found.notes:
        console.print(f"note: {note}")
    write_json(to_json(found), json)
    return 0
