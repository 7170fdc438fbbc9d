"""`rsverify estimate`: the Monte Carlo witness alone."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from rsverify.cli.options import (
    Alpha,
    Init,
    Json,
    Name,
    OneOptimizer,
    OneRule,
    Probe,
    Quantity,
    Ranks,
    Regime,
    Seed,
    Statistic,
    Steps,
    Whole,
    chosen,
    refuse_unwritable,
    ruled,
    write_json,
    write_text,
)  # fmt: skip
from rsverify.cli.stages import log_on_stderr
from rsverify.stages import Stages

if TYPE_CHECKING:
    from rsverify.montecarlo.calibration import Calibration, Rate
    from rsverify.records import Estimate

OPEN = 3
"""Exit code where the draws, or the precision asked for, leave the answer open."""


def estimate(
    adapter: Name,
    *,
    rule: OneRule = None,
    optimizer: OneOptimizer = "sgd",
    quantity: Quantity = "update",
    statistic: Statistic = "rms",
    probe: Probe = "aligned",
    steps: Steps = 1,
    regime: Regime | None = None,
    ranks: Ranks = None,
    init: Init = (),
    d_in: Annotated[Whole | None, Parameter(help="Width of the layer's input [24, or where the adapter's rank can grow].")] = None,
    d_out: Annotated[Whole | None, Parameter(help="Width of the layer's output [16, or where the rank can grow].")] = None,
    samples: Annotated[Whole, Parameter(help="Samples in the batch; the loss is linear, their mean.")] = 1,
    lr: Annotated[float, Parameter(help="Learning rate.")] = 1e-3,
    precision: Annotated[float | None, Parameter(help="Half-width of the exponent's interval to reach.")] = None,
    margin: Annotated[float, Parameter(help="An exponent within this of zero is stable.")] = 0.1,
    error_budget: Annotated[float, Parameter(help="Rate at which an interval may miss the truth.")] = 1e-6,
    sequential: Annotated[
        bool, Parameter(help="Draw in batches and stop when the answer is in, under one anytime-valid boundary.")
    ] = False,
    engine: Annotated[str, Parameter(help="auto (the cheapest exact one), or an engine's name.")] = "auto",
    draws: Annotated[Whole | None, Parameter(help="Most draws, over all ranks [4,000,000; 7,000 of modules].")] = None,
    seconds: Annotated[float | None, Parameter(help="Most seconds, as predicted before the start.")] = None,
    memory: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="Most memory held at once, e.g. 256MB or 1GiB [256MB].")
    ] = None,
    calibrate: Annotated[bool, Parameter(help="Repeat the whole procedure on fresh draws: coverage and both error rates.")] = False,
    repeats: Annotated[Whole, Parameter(help="Repeats of --calibrate.")] = 200,
    alpha: Alpha | None = None,
    seed: Seed = 0,
    csv: Annotated[Path | None, Parameter(help="Write the curve to this file as CSV.")] = None,
    out: Annotated[Path | None, Parameter(help="Draw the curve to this file: .svg, .png or .pdf.")] = None,
    json: Json = None,
) -> int:
    """Simulate what does happen: magnitudes with intervals at each rank, and their power of the rank.

    Exit code 0 = answered (or calibrated), 1 = --calibrate found a broken promise, 2 = bad input or out of reach,
    3 = inconclusive: the stability is open, or the precision was not reached.

    For example:

    - `rsverify estimate lora --rule "alpha/r" --ranks 4:65536 --out curve.svg`
    - `rsverify estimate lora --init "A=gaussian(std=1/sqrt(i))" --ranks 4:65536 --precision 0.005`
    - `rsverify estimate lora --optimizer adamw --calibrate`
    """
    from rsverify.definitions.ranks import parse_ranks
    from rsverify.montecarlo import estimate as witness
    from rsverify.records import to_json

    for path, name in ((json, "json"), (csv, "csv"), (out, "out")):
        refuse_unwritable(path, name)
    if out is not None:
        refuse_format(out)
    asked_ranks = None if ranks is None else parse_ranks(ranks)
    target = chosen(adapter, init)
    scaling = ruled(target, rule)
    asked: dict[str, Any] = {
        "optimizer": optimizer, "quantity": quantity, "statistic": statistic, "probe": probe, "steps": steps, "regime": regime,
        "ranks": asked_ranks, "d_in": d_in, "d_out": d_out, "samples": samples, "lr": lr, "precision": precision, "margin": margin,
        "alpha": alpha, "seed": seed, "engine": engine, "sequential": sequential, "progress": Bar(sys.stderr),
        "budget": _budget(draws, seconds, memory),
    }  # fmt: skip
    if calibrate:
        from rsverify.montecarlo.calibration import calibrate as repeat

        found = repeat(target, scaling, repeats=repeats, **_truth(target, scaling, asked), **asked)
        asked["progress"].end()
        print(calibration_text(found))
        write_json({**to_json(found), "holds": found.holds}, json)
        return 0 if found.holds else 1
    seen = witness(target, scaling, error_budget=error_budget, **asked)
    asked["progress"].end()
    text, code = estimate_text(seen, margin=margin, precision=precision)
    print(text)
    if csv is not None:
        write_csv(seen, csv)
    if out is not None:
        from rsverify.report.estimate_figure import draw

        draw(seen, out)
    write_json(to_json(seen), json)
    return code


def _budget(draws: int | None, seconds: float | None, memory: str | None) -> Any:
    """The bounds given; None where none is, so that those of the target's kind hold."""
    if draws is None and seconds is None and memory is None:
        return None
    from rsverify.montecarlo import Budget
    from rsverify.studies.budget import parse_memory

    given = {"draws": draws, "bytes": None if memory is None else parse_memory(memory)}
    return Budget(seconds=seconds, **{name: value for name, value in given.items() if value is not None})


class Bar:
    """Progress from a second after the start on: a line that moves on a terminal, anywhere else a line for each stage."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.begun, self.shown, self.last = stream, time.monotonic(), stream.isatty(), 0.0
        self.stages = Stages(__name__)

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.shown and now - self.begun > 1:
            with log_on_stderr("estimate"):
                self.stages(what, done, total)
        elif self.shown and now - self.begun > 1 and now - self.last > 0.1:
            self.last = now
            self.stream.write(f"\r\x1b[K{what}: {done}/{total}, {now - self.begun:.0f} s")
            self.stream.flush()

    def end(self) -> None:
        """Clear the line."""
        if self.last:
            self.stream.write("\r\x1b[K")
            self.stream.flush()


def refuse_format(path: Path) -> None:
    """Refuse a picture's suffix that nothing can draw, before any computation."""
    from rsverify.errors import InputError

    if path.suffix not in (".svg", ".png", ".pdf"):
        raise InputError(f"out={str(path)!r} has suffix {path.suffix!r}; expected .svg, .png or .pdf")


def write_csv(found: Estimate, path: Path) -> None:
    """The curve, a rank a row; numbers as they read back exactly."""
    import csv
    import io

    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(("rank", "value", "low", "high", "level"))
    writer.writerows((p.rank, repr(p.value), repr(p.lo), repr(p.hi), repr(found.level)) for p in found.curve)
    write_text(table.getvalue(), path, "csv")


def estimate_text(found: Estimate, *, margin: float, precision: float | None) -> tuple[str, int]:
    """What the terminal shows, and the exit code."""
    from rsverify.verdict import classify, draws_to_settle

    claim = found.claim
    lines = [f"{claim.adapter} ({claim.init}), {claim.rule}, {claim.optimizer}"]
    lines.append(f"{claim.quantity} {claim.statistic}, probe {claim.probe}, steps {claim.steps}, regime {claim.regime}")
    width = max(len(str(found.ranks[-1])), 4)
    lines.append(f"{'rank':>{width}}  {'value':>12}  {'low':>12}  {'high':>12}")
    lines += [f"{p.rank:>{width}}  {p.value:>12.5g}  {p.lo:>12.5g}  {p.hi:>12.5g}" for p in found.curve]
    code = 0
    if found.zero:
        lines.append("vanishes identically")
    elif found.exponent is not None and found.interval is not None:
        lo, hi = found.interval
        lines.append(f"exponent {found.exponent:+.4f} in [{lo:+.4f}, {hi:+.4f}], false at rate {1 - found.level:.1g}")
        looks = f" in {found.design['looks']:.0f} rounds" if "looks" in found.design else ""
        lines.append(f"of which +-{found.systematic:.4f} for the step from finite ranks to the limit")
        lines.append(f"{found.draws} draws{looks}, engine {found.engine}")
        stability = classify(found.interval, margin)
        price = f": {draws_to_settle(found, (0.0, 0.0), margin)}" if stability == "inconclusive" else ""
        lines.append(f"{stability} within +-{margin:g}{price}")
        if "false_pass" in found.design:
            rate = found.design["false_pass"]
            shown = f"{rate:.1g}" if rate > 1e-12 else "less than 1e-12"
            lines.append(f"an exponent off by {2 * margin:g} would pass for this one, within +-{margin:g}, at a rate of {shown}")
        missed = precision is not None and (hi - lo) / 2 > precision * (1 + 1e-9)
        code = OPEN if missed or stability == "inconclusive" else 0
    else:
        code = OPEN
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines), code


def calibration_text(found: Calibration) -> str:
    """What --calibrate shows."""
    claim = found.claim

    def rate(what: str, seen: Rate, promise: str) -> str:
        low, high = seen.interval
        return f"{what}: {seen.hits} of {seen.trials}, {seen.value:.4f} in [{low:.4f}, {high:.4f}]; {promise}"

    wider = "" if found.systematic == 0 else f", wider by the systematic error of up to {found.systematic:.2g}"
    lines = [
        f"{claim.adapter} ({claim.init}), {claim.rule}, {claim.optimizer}, {claim.quantity} {claim.statistic}, engine {found.engine}",
        f"truth {found.truth:+.6f} ({found.source}); {found.coverage.trials} repeats of some {found.draws:.3g} draws each",
        rate("intervals that hold the truth", found.coverage, f"nominal {found.level:g}{wider}"),
        rate(f"truth refuted within +-{found.margin:g}", found.failed, f"declared {found.failed.declared:.2g}"),
        rate("left open", found.open, "no promise"),
        rate(f"exponent off by {2 * found.margin:g} confirmed", found.passed, f"declared {found.passed.declared:.2g}"),
        f"mean minus truth {found.bias:+.5f}, standard deviation {found.deviation:.5f}",
        "promises kept" if found.holds else "a promise is broken",
    ]
    return "\n".join(lines)


def _truth(adapter: Any, rule: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What --calibrate holds the repeats against: the symbolic witness's exponent, and its curve where that is exact."""
    from rsverify.errors import RsverifyError
    from rsverify.symbolic import derive

    names = ("optimizer", "quantity", "statistic", "probe", "steps", "regime")
    try:
        predicted = derive(adapter, rule, **{name: asked[name] for name in names if asked[name] is not None})
    except RsverifyError:
        return {}  # the engine's own law must do, or calibrate says that there is none
    if predicted.exponent is None:
        return {}
    usable = predicted.exact and predicted.formula is not None and asked["samples"] == 1
    return {"truth": float(predicted.exponent), "curve": predicted if usable else None}
