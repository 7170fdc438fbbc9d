"""From numbers of several seeds to one of three answers, and from answers to a finding.

A question asks whether a mean lies in a region. In each repeat, on seeds of its own, Student's interval of the mean lies inside
(yes), outside (no), or neither (open). The answer of the whole is the one that all repeats give; where they differ it is open. With
two repeats and intervals at 95 % a false yes or no needs both to miss on the same side: at most 0.025**2 < 0.1 % for each question.

An answer that all repeats give may still be luck that a fresh run need not have: it is settled only where such a run must be expected
to give it again with probability `AGAIN`, else it is open, and `leaning` keeps what the repeats said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rsverify.statistics.intervals import mean_interval
from rsverify.studies.reproduce.plan import AGAIN, EXPONENT_MARGIN, LEVEL, Plan
from rsverify.studies.reproduce.replication import probability_inside

Answer = Literal["yes", "no", "open"]
Outcome = Literal["holds", "holds only for", "does not hold here", "inconclusive"]


@dataclass(frozen=True)
class Part:
    """One question of a claim with its answer.

    Args: region is where the mean must lie; repeats holds (mean, lo, hi, answer) of each repeat, seeds how many each
        had at least; unit is what the numbers are. leaning is what all repeats answer, settled or not, and again the probability
        with which a fresh run is expected to answer so.
        deciding parts make the finding, the others stand beside it; short names what a partial finding holds for.
    """

    says: str
    answer: Answer
    short: str = ""
    region: tuple[float, float] | None = None
    mean: float | None = None
    interval: tuple[float, float] | None = None
    repeats: tuple[tuple[float, float, float, Answer], ...] = ()
    seeds: int = 0
    flipped: bool = False
    leaning: Answer = "open"
    again: float | None = None
    unit: str = "nats"
    theory: str = ""
    deciding: bool = True
    note: str = ""


def ask(says: str, plan: Plan, values: Mapping[int, float], region: tuple[float, float], *, level: float = LEVEL, **more: Any) -> Part:
    """A question about the mean of one number of each seed.

    Args: values by seed; region (lo, hi) may be unbounded on either side.
    """
    repeats, counts = [], []
    for group in plan.groups:
        found = [values[seed] for seed in group if seed in values]
        if len(found) < 2 or not all(math.isfinite(v) for v in found):
            return Part(says, "open", region=region, note="fewer than two finite numbers in a repeat", **more)
        counts.append(len(found))
        mean, (lo, hi) = mean_interval(np.array(found), level)
        repeats.append((mean, lo, hi, _within(lo, hi, region)))
    answers = {answer for *_, answer in repeats}
    leaning: Answer = answers.copy().pop() if len(answers) == 1 else "open"
    every = np.array([values[seed] for seed in plan.all_seeds if seed in values])
    mean, interval = mean_interval(every, level)
    again = None
    if leaning != "open":
        inside, outside = probability_inside(mean, float(every.std(ddof=1)), len(every), repeats=counts, region=region, level=level)
        again = inside if leaning == "yes" else outside
    return Part(
        says, leaning if again is not None and again >= AGAIN else "open", region=region, mean=mean, interval=interval,
        repeats=tuple(repeats), seeds=min(counts), flipped={"yes", "no"} <= answers, leaning=leaning, again=again, **more,
    )  # fmt: skip


def ask_exponent(
    says: str, plan: Plan, values: Mapping[int, float], exponent: Any, *, margin: float = EXPONENT_MARGIN, **more: Any
) -> Part:
    """Whether an exponent in r is the derived one, to within the margin."""
    middle = float(exponent)
    return ask(says, plan, values, (middle - margin, middle + margin), unit="power of r", theory=str(exponent), **more)


def fact(says: str, holds: bool, **more: Any) -> Part:
    """A question that needs no statistics."""
    answer: Answer = "yes" if holds else "no"
    return Part(says, answer, leaning=answer, **more)


def shown(part: Part) -> str:
    """Its mean with the interval over all seeds."""
    return "-" if part.mean is None or part.interval is None else f"{part.mean:+.3f} [{part.interval[0]:+.3f}, {part.interval[1]:+.3f}]"


def _within(lo: float, hi: float, region: tuple[float, float]) -> Answer:
    low, high = region
    if low < lo and hi < high:
        return "yes"
    return "no" if hi <= low or lo >= high else "open"


@dataclass(frozen=True)
class Finding:
    """What a figure says of its claim: one sentence, the questions behind it, tables for the reader."""

    answer: Outcome
    sentence: str
    parts: tuple[Part, ...] = ()
    tables: tuple[Mapping[str, Any], ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


def conclude(parts: Sequence[Part], *, remark: str = "", **more: Any) -> Finding:
    """The finding that the deciding parts make together.

    In words: all yes, it holds; no yes and a no, it does not; some yes and some no, it holds only for those; no no but something open,
    nobody can tell from these seeds.
    """
    deciding = [part for part in parts if part.deciding]
    yes, no, unsettled = ([part for part in deciding if part.answer == answer] for answer in ("yes", "no", "open"))

    def names(found: Sequence[Part]) -> str:
        return "; ".join(f"{part.short or part.says}{_unsure(part)}" for part in found)

    answer: Outcome
    if not no and not unsettled:
        answer, sentence = "holds", f"Every part holds: {names(yes)}."
    elif no and yes:
        answer, sentence = "holds only for", f"It holds only for: {names(yes)}. It does not for: {names(no)}."
    elif no:
        answer, sentence = "does not hold here", f"It does not hold: {names(no)}."
    else:
        answer, sentence = "inconclusive", f"These seeds do not settle: {names(unsettled)}." + (f" Settled: {names(yes)}." if yes else "")
    if no and unsettled:
        sentence += f" Open: {names(unsettled)}."
    if flipped := [part for part in parts if part.flipped]:
        sentence += f" A repeat with fresh seeds gave the opposite answer, so this was inconclusive: {names(flipped)}."
    return Finding(answer, f"{sentence} {remark}".strip(), tuple(parts), **more)


def _unsure(part: Part) -> str:
    """Why an answer that all repeats give is open all the same."""
    if part.answer == part.leaning or part.again is None:
        return ""
    # Rounded down: 0.949 is not the 0.95 that would have settled it.
    return f" (all repeats say {part.leaning}, a fresh run is expected to with probability {math.floor(100 * part.again) / 100:.2f} only)"


def slopes(ranks: Sequence[int], curves: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """The slope of log value over log rank, of each seed's own curve."""
    x = np.log(np.asarray(ranks, dtype=float))
    x = x - x.mean()
    return {seed: float(x @ np.log(np.asarray(values, dtype=float)) / (x @ x)) for seed, values in curves.items()}
