"""Every answer before an adversary: random adapters and claims, held against a simulation by autograd that shares no code.

    python benchmarks/adversary.py [--cases 1000] [--seed 0] [--first 0] [--workers 2] [--only NUMBER] [--out FILE]

For each case theory is asked for its exponent and its curve, every engine that speaks for its estimate, and both are held against
`_autograd.simulate`. A comparison that fails is repeated with 16 times the draws before it counts as a contradiction. Written are
contradictions, crashes, refusals by reason, and time and memory by case. Exit code 1 where anything contradicts or crashes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import resource
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rsverify as rv
from benchmarks import _autograd
from benchmarks._random_cases import Case, case
from rsverify.definitions.claims import data_quantities, setting
from rsverify.definitions.optimizers import as_optimizer
from rsverify.errors import BudgetError, InputError, NotDerivable, RsverifyError
from rsverify.montecarlo import Budget, estimate
from rsverify.montecarlo.engines import ENGINES, silent_engines
from rsverify.montecarlo.problem import make_problem
from rsverify.records import Prediction

SIGMAS = 5.5
"""Some five comparisons a case, a thousand cases: less than one false alarm in a thousand runs, were the tails normal."""
DRAWS, MORE = 1500, 16
RANKS = (2, 5)
SECONDS = 30
"""Of the processor for one call of theory, above which a case counts as hung."""
SLOPE = 0.12
"""How far a slope between large ranks may lie from a power: it is that of the limit, and ranks are finite."""


class Hung(Exception):
    """A call that ran past its time."""


def judged(number: int, *, seed: int) -> dict[str, Any]:
    """One case: what theory and each engine said, and what contradicts."""
    torch.set_num_threads(1)
    return held(case(number, seed=seed), number)


def held(asked: Case, number: int) -> dict[str, Any]:
    """The record of a case that is given."""
    record: dict[str, Any] = {
        "number": number,
        "text": asked.text,
        "optimizer": asked.claim["optimizer"],
        "contradictions": [],
        "crashes": [],
    }
    start, before = time.process_time(), _memory()
    prediction = _told(asked, record)
    record["seconds"], record["mebibytes"] = round(time.process_time() - start, 2), round(_memory() - before, 1)
    try:
        if prediction is not None:
            _hold_theory(asked, prediction, record)
        _hold_engines(asked, record)
    except (ArithmeticError, ValueError, torch.linalg.LinAlgError) as error:
        record["unjudged"] = f"the adversary itself: {error}"
    record["total_seconds"] = round(time.process_time() - start, 2)
    return record


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _told(asked: Case, record: dict[str, Any]) -> Prediction | None:
    """Theory's answer; None where it refuses, with the reason in the record."""

    def stop(*_: Any) -> None:
        raise Hung

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor, so that a busy machine hangs nothing
    try:
        prediction = rv.derive(asked.adapter, asked.rule, **asked.claim)
    except (NotDerivable, BudgetError) as refused:
        record["answer"] = "refused"
        record["refusal"], record["kind"] = str(refused), type(refused).__name__
        record["names a command"] = "rsverify estimate" in str(refused) or "estimate(" in str(refused)
        return None
    except InputError as wrong:
        record["answer"], record["refusal"] = "input", str(wrong)
        return None
    except Hung:
        record["answer"] = "hung"
        record["crashes"].append(f"derive ran past {SECONDS} s")
        return None
    except Exception as error:
        record["answer"] = "crashed"
        record["crashes"].append(f"derive: {type(error).__name__}: {str(error)[:300]}")
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
    if prediction.zero:
        record["answer"] = "zero"
    elif prediction.exponent is None:
        record["answer"] = f"range {prediction.exponent_range}"
    else:
        record["answer"] = f"{prediction.exponent}" + ("" if prediction.formula is not None else " (power)")
    return prediction


def _simulated(asked: Case, rank: int, data: _autograd.Data, *, draws: int, theory: bool, seed: int = 1) -> tuple[float, float]:
    """The mean of the squares (or of the projection) and its standard error."""
    d_in, d_out = asked.sizes
    question = _autograd.asked(
        setting(asked.adapter, asked.rule, **asked.claim), rank=rank, d_in=d_in, d_out=d_out, alpha=2.0, lr=asked.lr, theory=theory
    )
    values = _autograd.simulate(question, data, draws=draws, seed=seed).numpy()
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(draws))


def _data(asked: Case) -> tuple[Any, _autograd.Data]:
    cosine = setting(asked.adapter, asked.rule, **asked.claim).claim.cosine
    problem = make_problem(3, d_in=asked.sizes[0], d_out=asked.sizes[1], cosine=cosine)
    return problem, _autograd.Data(*(torch.from_numpy(np.asarray(a)) for a in (problem.x, problem.x_probe, problem.v)))


def _ranks(asked: Case) -> list[int]:
    """Ranks at which the adapter has a draw."""
    found = []
    for rank in RANKS:
        try:
            asked.adapter.check_draws(rank, *asked.sizes)
            found.append(rank)
        except RsverifyError:
            continue
    return found


def _hold_theory(asked: Case, prediction: Prediction, record: dict[str, Any]) -> None:
    """The curve at small ranks, the power at large ones."""
    problem, data = _data(asked)
    signed = asked.claim["statistic"] == "projection"
    for rank in _ranks(asked):
        if prediction.zero:
            mean, error = _simulated(asked, rank, data, draws=DRAWS // 4, theory=True)
            scale = 1e-20 if not signed else 1e-12
            if abs(mean) > SIGMAS * error + scale:
                record["contradictions"].append(f"theory says zero, simulation {mean:.4g} +- {error:.2g} at r = {rank}")
        elif prediction.formula is not None:
            known = data_quantities(problem.x, problem.x_probe, problem.v, adapter=asked.adapter, r=rank, names=_invariants(prediction))
            try:
                (curve,) = prediction.at([rank], d_in=asked.sizes[0], d_out=asked.sizes[1], alpha=2.0, lr=asked.lr, **known)
            except InputError as error:
                record["crashes"].append(f"at({rank}): {error}")
                return
            value = float(curve) if signed else float(curve) ** 2
            # An error of O(1/d) or O(lr) is judged loosely: what is looked for are factors and powers.
            loose = 0.0 if prediction.exact else 0.5
            _compare(asked, rank, data, value, loose, record)
    if prediction.zero:
        return
    if prediction.formula is not None and not prediction.signs:
        _hold_slope(asked, prediction, record)
    elif asked.claim["regime"] == "rank" and prediction.formula is None:
        _hold_power(asked, prediction, data, record)


def _invariants(prediction: Prediction) -> list[str]:
    assert prediction.formula is not None
    return [name for name in prediction.formula.names if re.match(r"[SV]\d|G_", name)]


def _compare(asked: Case, rank: int, data: _autograd.Data, value: float, loose: float, record: dict[str, Any]) -> None:
    for factor in (1, MORE):
        mean, error = _simulated(asked, rank, data, draws=DRAWS * factor, theory=True, seed=factor)
        room = SIGMAS * error + loose * max(abs(value), abs(mean)) + 1e-9 * max(abs(value), abs(mean)) + 1e-28
        if abs(mean - value) <= room:
            return
    record["contradictions"].append(f"theory {value:.6g}, simulation {mean:.6g} +- {error:.2g} at r = {rank}")


def _hold_slope(asked: Case, prediction: Prediction, record: dict[str, Any]) -> None:
    """The exponent is the slope of the formula itself, far out."""
    if prediction.exponent is None or prediction.log_exponent:
        return
    if asked.claim["regime"] == "width" and len({c for _, _, c in prediction.terms}) > 1:
        return  # each power of lr has a leading width of its own, and the exponent is the largest of all: no one slope shows it
    # At a rate that the rank outgrows: in the limit every power of lr counts.
    rank, side = (2**60, asked.sizes) if asked.claim["regime"] == "rank" else (2**20, (2**80, 2**80))
    with np.errstate(all="ignore"):
        try:
            low, high = prediction.at([rank, 2 * rank], d_in=side[0], d_out=side[1], lr=2.0**-4, alpha=2.0)
        except (InputError, OverflowError):
            return
    if not (np.isfinite([low, high]).all() and low and high):
        return
    slope = math.log2(abs(high / low))
    others = [float(prediction.exponent)]
    if abs(slope - others[0]) > 0.02:
        record["contradictions"].append(
            f"the exponent is {prediction.exponent}, the formula's slope {slope:.4f} in the {asked.claim['regime']} regime"
        )


def _hold_power(asked: Case, prediction: Prediction, data: _autograd.Data, record: dict[str, Any]) -> None:
    """The power between large ranks lies in the range told, or comes nearer."""
    if setting(asked.adapter, asked.rule, **asked.claim).optimizer.name == "adafactor":
        record["unjudged"] = "Adafactor follows a factor's rms until that falls below its floor, far beyond these ranks"
        return
    ends = prediction.exponent_range or (prediction.exponent, prediction.exponent)
    assert ends[0] is not None and ends[1] is not None
    low, high = float(ends[0]), float(ends[1])
    ranks = [rank for rank in (32, 64, 128, 256, 512) if _entries(asked, rank) <= 400_000]
    ranks = [rank for rank in ranks if _drawable(asked, rank)][-3:]
    if len(ranks) < 3:
        record["unjudged"] = "no large ranks to tell a power from"
        return
    for factor in (1, 8):
        sizes = []
        for rank in ranks:
            mean, error = _simulated(asked, rank, data, draws=24 * factor, theory=True, seed=factor)
            size = abs(mean) if asked.claim["statistic"] == "projection" else math.sqrt(mean)
            share = error / abs(mean) / (1 if asked.claim["statistic"] == "projection" else 2) if mean else 0.0
            sizes.append((size, share))
        if not all(size > 0 for size, _ in sizes):
            record["contradictions"].append(f"theory says a power from {low:g} to {high:g}, simulation nothing")
            return
        slopes = [math.log2(b[0] / a[0]) for a, b in itertools.pairwise(sizes)]
        noise = SIGMAS * max(a[1] + b[1] for a, b in itertools.pairwise(sizes)) / math.log(2)
        off = [max(low - slope, slope - high, 0.0) for slope in slopes]
        if off[-1] <= SLOPE + noise or off[-1] < 0.8 * off[0] - 0:
            if noise > 0.5:
                record["unjudged"] = "draws too few to tell a power"
            return
    record["contradictions"].append(f"theory says a power from {low:g} to {high:g}, simulation {slopes} between {ranks}")


def _entries(asked: Case, rank: int) -> int:
    return sum(math.prod(shape) for shape in asked.adapter.shapes(rank, *asked.sizes).values())


def _drawable(asked: Case, rank: int) -> bool:
    try:
        asked.adapter.check_draws(rank, *asked.sizes)
    except RsverifyError:
        return False
    return True


def _hold_engines(asked: Case, record: dict[str, Any]) -> None:
    """Every engine that speaks for the setting, at two small ranks."""
    ranks = _ranks(asked)
    if len(ranks) < 2:
        return
    of = setting(asked.adapter, asked.rule, **{**asked.claim, "regime": "rank"})
    silent = silent_engines(of)
    _, data = _data(asked)
    record["engines"] = [name for name in ENGINES if name not in silent]
    for name in record["engines"]:
        for factor in (1, MORE):
            try:
                drawn = estimate(
                    asked.adapter, asked.rule, **{**asked.claim, "regime": "rank"}, ranks=ranks, d_in=asked.sizes[0], d_out=asked.sizes[1],
                    alpha=2.0, lr=asked.lr, seed=3, engine=name, budget=Budget(draws=400 * factor * len(ranks)),
                )  # fmt: skip
            except InputError as refused:
                record.setdefault("engines refused", {})[name] = str(refused)[:160]
                break
            except Exception as error:
                record["crashes"].append(f"estimate by {name}: {type(error).__name__}: {str(error)[:300]}")
                break
            wrong = [text for point in drawn.curve if (text := _apart(asked, point, data, name, factor))]
            if not wrong:
                break
            if factor == MORE:
                record["contradictions"] += wrong


def _apart(asked: Case, point: Any, data: _autograd.Data, name: str, factor: int) -> str:
    mean, error = _simulated(asked, point.rank, data, draws=DRAWS * factor, theory=False, seed=factor)
    if asked.claim["statistic"] == "projection":
        low, high = point.lo, point.hi
    else:
        low, high = max(point.lo, 0.0) ** 2, point.hi**2
    slack = SIGMAS * error + 1e-9 * abs(mean) + 1e-28
    if math.isnan(low) or (low - slack <= mean <= high + slack):
        return ""
    return f"{name} has [{low:.6g}, {high:.6g}], simulation {mean:.6g} +- {error:.2g} at r = {point.rank}"


def reason_of(text: str) -> str:
    """A refusal's reason without the names and numbers of its case."""
    text = re.sub(r"'[^']*'|[-+]?\d[\d.e+-]*", "_", text.splitlines()[0])
    return re.sub(r"\b(?:factor|axis|of|and) [A-Z]\b", "_", text)[:90]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over the cases: answers, refusals by reason, what went wrong, time and memory."""
    polynomial = [r for r in records if as_optimizer(r["optimizer"]).name in ("sgd", "momentum")]
    other = [r for r in records if r not in polynomial]
    refused = {name: sum(r["answer"] == "refused" for r in group) for name, group in (("polynomial", polynomial), ("others", other))}
    return {
        "cases": len(records), "answers": dict(Counter(re.sub(r"[-\d/]+", "_", r["answer"].split(" Frac")[0]) for r in records)),
        "cases by kind": {"polynomial": len(polynomial), "others": len(other)}, "refused by kind": refused,
        "refusals": dict(Counter(reason_of(r["refusal"]) for r in records if r["answer"] == "refused").most_common()),
        "refusals that name the command": sum(r.get("names a command", False) for r in records),
        "contradictions": [{"number": r["number"], "text": r["text"], "what": r["contradictions"]} for r in records if r["contradictions"]],
        "crashes": [{"number": r["number"], "text": r["text"], "what": r["crashes"]} for r in records if r["crashes"]],
        "unjudged": dict(Counter(r["unjudged"].split(":")[0] for r in records if "unjudged" in r)),
        "engines": dict(Counter(name for r in records for name in r.get("engines", ()))),
        "slowest": sorted(((r["seconds"], r["number"]) for r in records), reverse=True)[:10],
        "largest": sorted(((r["mebibytes"], r["number"]) for r in records), reverse=True)[:10],
    }  # fmt: skip


def _judged(pair: tuple[int, int]) -> dict[str, Any]:
    return judged(pair[0], seed=pair[1])


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(words)
    if given.only is not None:
        print(json.dumps(judged(given.only, seed=given.seed), indent=1))
        return 0
    numbers = [(number, given.seed) for number in range(given.first, given.first + given.cases)]
    records = []
    with ProcessPoolExecutor(given.workers) as pool:
        for record in pool.map(_judged, numbers, chunksize=8):
            records.append(record)
            if record["contradictions"] or record["crashes"]:
                print(json.dumps(record), file=sys.stderr, flush=True)
    counted = summary(records)
    if given.out is not None:
        from benchmarks._evidence import rooms
        from rsverify.records import to_json
        from rsverify.report.provenance import provenance

        made = to_json(provenance(seed=given.seed, hashes=rooms("adversary"), settings={"cases": given.cases, "first": given.first}))
        lean = [{key: r[key] for key in ("number", "text", "answer", "seconds", "mebibytes")} for r in records]
        given.out.write_text(json.dumps({"summary": counted, "cases": lean, "provenance": made}, indent=0) + "\n", encoding="utf-8")
    print(json.dumps(counted, indent=1))
    return 1 if counted["contradictions"] or counted["crashes"] else 0


if __name__ == "__main__":
    sys.exit(main())
