"""How much of the shipped matrix theory answers: adapters x optimizers x quantities x steps x probes, each silence by its reason.

Run: python benchmarks/derive_matrix.py [cells]   (900 drawn cells by default, some minutes on one core; 0 asks all 10,368)
A cell is an answer where derive gives an exponent, a range of exponents, or zero; it is silent where derive refuses. Cells that are
nothing by definition (the loss decrease of no step) are no questions and are left out of the share. Time is processor time of a call in
one process, in which later cells find what earlier ones have computed.
"""

from __future__ import annotations

import itertools
import re
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass

from _evidence import line, write

import rsverify as rv
from rsverify.errors import InputError, RsverifyError
from rsverify.statistics.streams import stream

QUANTITIES = ("update", "gradient_norm", "input_gradient", "loss_decrease")
STEPS = (0, 1, 2, 3)
PROBES = ("aligned", "orthogonal", "cosine:0.5")
RULE = "alpha/sqrt(r)"
SECONDS, BYTES, SILENT = 10.0, 1 << 30, 0.15


@dataclass(frozen=True)
class Cell:
    adapter: str
    optimizer: str
    quantity: str
    steps: int
    probe: str


@dataclass(frozen=True)
class Outcome:
    """What derive said of a cell: "exponent", "range", "zero", "nothing", or "silent" with the reason; and what it cost."""

    answer: str
    reason: str
    seconds: float


def matrix() -> list[Cell]:
    return [Cell(*key) for key in itertools.product(rv.adapters(), rv.optimizers(), QUANTITIES, STEPS, PROBES)]


def ask(cell: Cell) -> Outcome:
    began = time.process_time()
    try:
        prediction = rv.derive(
            cell.adapter, RULE, optimizer=cell.optimizer, quantity=cell.quantity, steps=cell.steps, probe=cell.probe
        )  # fmt: skip
        answer = "zero" if prediction.zero else "exponent" if prediction.exponent is not None else "range"
        reason = ""
    except InputError as error:  # no question at all: the loss decrease of no step
        answer, reason = "nothing", str(error)
    except RsverifyError as error:
        answer, reason = "silent", str(error)
    return Outcome(answer, reason, time.process_time() - began)


def kind(reason: str) -> str:
    """A reason without what is particular to its cell: names in quotes, expressions, numbers."""
    return re.sub(r"'[^']*'", "'...'", re.sub(r"\d+", "#", reason.split("\n")[0]))[:160]


def main(cells: int = 900) -> int:
    every = matrix()
    drawn = every if not cells else [every[k] for k in sorted(stream(0, "derive matrix").choice(len(every), size=cells, replace=False))]
    outcomes = {}
    for number, cell in enumerate(drawn):
        outcomes[cell] = ask(cell)
        if sys.stderr.isatty() or number % 100 == 0:
            print(f"\r{number} of {len(drawn)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    silent = {cell: outcome for cell, outcome in outcomes.items() if outcome.answer == "silent"}
    questions = {cell: outcome for cell, outcome in outcomes.items() if outcome.answer != "nothing"}
    share = len(silent) / len(questions)
    slowest = max(outcomes, key=lambda cell: outcomes[cell].seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    lines = [
        line(f"share of {len(questions)} questions on which derive is silent", round(share, 3), f"at most {SILENT}", share <= SILENT),
        line(f"slowest call ({' '.join(map(str, vars(slowest).values()))})", f"{outcomes[slowest].seconds:.1f} s",
             f"at most {SECONDS:.0f} s", outcomes[slowest].seconds <= SECONDS),
        line("largest memory of the process", f"{peak / 2**20:.0f} MiB", "at most 1024 MiB", peak <= BYTES),
    ]  # fmt: skip
    tables = {
        "answers": dict(Counter(outcome.answer for outcome in outcomes.values())),
        "silent by adapter": share_by(questions, "adapter"),
        "silent by optimizer": share_by(questions, "optimizer"),
        "silent by steps": share_by(questions, "steps"),
        "silent by quantity": share_by(questions, "quantity"),
        "silent by reason": dict(Counter(kind(outcome.reason) for outcome in silent.values()).most_common()),
    }
    for title, table in tables.items():
        print(f"{title}: " + "".join(f"\n    {value}  {key}" for key, value in table.items()))
    return 0 if write("derive_matrix", lines, cells=len(drawn), **tables) else 1


def share_by(outcomes: dict[Cell, Outcome], field: str) -> dict[str, float]:
    """Of each value of a field the share of its cells that is silent."""
    asked = Counter(str(getattr(cell, field)) for cell in outcomes)
    silent = Counter(str(getattr(cell, field)) for cell, outcome in outcomes.items() if outcome.answer == "silent")
    return {value: round(silent[value] / count, 2) for value, count in asked.items()}


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
