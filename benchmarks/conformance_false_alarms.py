"""No false alarm: the conformance suite on different sound adapters drawn at random.

    python benchmarks/conformance_false_alarms.py [--adapters 300] [--draws 256] [--workers 2]
        [--out benchmarks/evidence/conformance_false_alarms.json]

Two adapters are different where expression, laws or rule differ; another alpha or seed alone makes no new one. Each answer is written
at once, a line of JSON in a file beside `--out`: called again with the same options, a run that ended early goes on. The summary is
written at the end from the lines; with `--summarize`, from what there is, with the true count.

Why no alarm is expected: checks of structure, merging, scaling and persistence compare two evaluations of one function within bounds on
rounding that hold for every order of the sums; stability checks fail at a total rate of at most 1e-6 an adapter. What that comes to for
the adapters judged is computed from the checks that ran and written beside the answers. Adapters come from
`rsverify.testing.strategies` in the order of Hypothesis's seeds 0, 1, 2, ...: only repetitions are left out.
Sizes are small: stability at ranks 16 and 256 of an 18 x 12 layer, at most `--draws` draws per rank. That leaves some answers
inconclusive, and makes none less strict.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from rsverify.conformance import check_adapter, firststep
from rsverify.conformance.bench import Layer
from rsverify.conformance.checks import stability
from rsverify.conformance.declared import declared_subject
from rsverify.conformance.errorbudget import error_budget
from rsverify.conformance.registry import checks
from rsverify.records import to_json
from rsverify.report.provenance import provenance
from rsverify.testing import strategies

BUDGET = 1e-6
BATCH = 400
ANSWERS = ("passed", "failed", "inconclusive", "skipped")

Drawn = tuple[Any, Any, float]


def different(wanted: int) -> Iterator[tuple[str, Drawn]]:
    """The first `wanted` different adapters, each with the text that tells it from the others; always the same ones."""
    known: set[str] = set()
    number = 0
    while len(known) < wanted:
        for adapter, rule, alpha in batch(number):
            text = f"{adapter.expression}; {adapter.init}; {rule.text}"
            if text not in known and len(known) < wanted:
                known.add(text)
                yield text, (adapter, rule, alpha)
        number += 1


def batch(number: int) -> list[Drawn]:
    found: list[Drawn] = []

    @seed(number)
    @settings(max_examples=BATCH, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategies.adapters(), strategies.rules(("text", "power")), strategies.alphas())
    def draw(adapter, rule, alpha) -> None:
        found.append((adapter, rule, alpha))

    draw()
    return found


def judge(number: int, drawn: Drawn, only: list[str] | None = None) -> dict[str, Any]:
    adapter, rule, alpha = drawn
    subject = declared_subject(adapter, rule, alpha=alpha)
    results = check_adapter(subject, on_fail="return", only=only, seed=number, error_budget=BUDGET)
    count = Counter(result.status for result in results)
    return {
        "expression": adapter.expression, "init": adapter.init, "rule": rule.text, "alpha": alpha, "seed": number,
        **{answer: count[answer] for answer in ANSWERS}, "rate": error_budget(results, BUDGET).rate,
        "alarms": {r.name: r.reason for r in results if r.status == "failed"},
    }  # fmt: skip


def small(draws: int) -> None:
    """The sizes of this run, in the process that calls it."""
    firststep.MOST, stability.ENTRIES = draws, 3e6
    firststep.PLACES = ((Layer(12, 18, False), (16, 256)), (Layer(12, 18, False), (3, 12)))


_drawn: list[tuple[str, Drawn]] = []


def start_worker(adapters: int, draws: int) -> None:
    """Each worker draws the adapters for itself: they are always the same ones, and rules need not travel."""
    torch.set_num_threads(1)
    small(draws)
    _drawn.extend(different(adapters))


def judge_numbered(number: int, only: list[str] | None) -> dict[str, Any]:
    text, drawn = _drawn[number]
    return {"text": text, **judge(number, drawn, only)}


def judged(asked: argparse.Namespace, known: set[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The answers about every adapter that is not known yet, as they come."""
    todo = [(number, text, drawn) for number, (text, drawn) in enumerate(different(asked.adapters)) if text not in known]
    if asked.workers == 1:
        for number, text, drawn in todo:
            yield number, {"text": text, **judge(number, drawn, asked.only)}
        return
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, spawned, initializer=start_worker, initargs=(asked.adapters, asked.draws)) as pool:
        waiting = {pool.submit(judge_numbered, number, asked.only): number for number, _, _ in todo}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def begin(lines: Path, head: dict[str, Any]) -> set[str]:
    """The adapters that an earlier run with the same options judged; the file is made where there is none.

    Raises: SystemExit where the file cannot be written, or was made with other options or other checks.
    """
    try:
        lines.parent.mkdir(parents=True, exist_ok=True)
        with lines.open("a", encoding="utf-8") as file:
            found = read(lines)
            # A run that was killed may have left half a line: the next one starts on its own.
            file.write("\n" if found else json.dumps(head) + "\n")
    except OSError as error:
        raise SystemExit(f"{lines} cannot be written ({error}): answers would be lost; name another --out") from None
    if found and any(found[0][key] != head[key] for key in ("most_draws_per_rank", "checks_run")):
        raise SystemExit(f"{lines} was begun with other draws or other checks; move it away, or name another --out")
    return {row["text"] for row in found[1:]}


def read(lines: Path) -> list[dict[str, Any]]:
    """The head and the answers of a run, without a line that was cut off."""
    found = []
    for line in lines.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def summarize(lines: Path, out: Path) -> int:
    """Write the evidence from the answers; 1 where one of them is an alarm."""
    head, *found = read(lines)
    rows = sorted(({key: value for key, value in row.items() if key != "text"} for row in found), key=lambda row: row["seed"])
    alarms = sum(bool(row["alarms"]) for row in rows)
    answers = {answer: sum(row[answer] for row in rows) for answer in ANSWERS}
    told = len({(row["expression"], row["init"], row["rule"]) for row in rows})
    record = {
        "what": "conformance suite on randomly drawn sound adapters, different in expression, laws or rule", "adapters": len(rows),
        "different": told, "adapters_with_a_false_alarm": alarms, "declared_budget_per_adapter": BUDGET,
        "rate_of_any_alarm_by_chance": sum(row.get("rate", BUDGET) for row in rows), "answers": answers,
        **head, "rows": rows,
    }  # fmt: skip
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    rate = record["rate_of_any_alarm_by_chance"]
    print(f"{alarms} of {len(rows)} sound adapters ({told} different) had a false alarm; {answers}")
    print(f"by chance there would be an alarm at a rate of at most {rate:.1g} for all of them together")
    return int(alarms > 0)


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--adapters", type=int, default=300)
    options.add_argument("--draws", type=int, default=256)
    options.add_argument("--workers", type=int, default=1, help="processes; answers do not depend on how many")
    options.add_argument("--out", type=Path, default=Path("benchmarks/evidence/conformance_false_alarms.json"))
    options.add_argument("--only", action="append", help="run only the check named: after one was mended; name another --out with it")
    options.add_argument("--summarize", action="store_true", help="judge nothing more: write the summary of what there is")
    asked = options.parse_args(arguments)
    lines = asked.out.with_suffix(".jsonl")
    if asked.adapters < 1 or asked.workers < 1:
        raise SystemExit(f"--adapters {asked.adapters} --workers {asked.workers}: expected whole numbers from 1")
    if not asked.summarize:
        small(asked.draws)
        made = to_json(provenance(seed=0, settings={"draws": asked.draws, "adapters": asked.adapters, "workers": asked.workers}))
        known = begin(lines, {"most_draws_per_rank": asked.draws, "checks_run": sorted(asked.only or checks()), "provenance": made})
        began = time.monotonic()
        for count, (number, row) in enumerate(judged(asked, known), 1):
            with lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            left = (time.monotonic() - began) / count * (asked.adapters - len(known) - count)
            answers = {answer: row[answer] for answer in ANSWERS if row[answer]}
            print(f"{len(known) + count} of {asked.adapters}, some {left / 60:.0f} min left:", number, row["text"], answers,
                  row["alarms"] or "", flush=True)  # fmt: skip
    return summarize(lines, asked.out)


if __name__ == "__main__":
    sys.exit(main())
