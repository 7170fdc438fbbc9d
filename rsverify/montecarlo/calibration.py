"""Does the whole procedure keep its promises? It is repeated on fresh draws: how often intervals cover, and both error rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.rules import ScalingRule
from rsverify.errors import InputError
from rsverify.montecarlo.estimation import estimate
from rsverify.records import Claim, Estimate
from rsverify.statistics.intervals import share_interval
from rsverify.statistics.streams import stream

LEVEL = 0.95
"""A level at which coverage can be seen in a few hundred repeats; at 1 - 1e-6 none would ever miss."""
SLACK = 0.02
"""Coverage may be this far from nominal: 93 to 97 % at 95 %."""
CERTAINTY = 0.999
"""Level of the intervals of the rates themselves."""


@dataclass(frozen=True)
class Rate:
    """A share of the repeats, with its exact (Clopper and Pearson) interval, and what was declared."""

    hits: int
    trials: int
    declared: float

    @property
    def value(self) -> float:
        return self.hits / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return share_interval(self.hits, self.trials, CERTAINTY)


@dataclass(frozen=True)
class Calibration:
    """What repeats of one procedure showed.

    Args:
        truth: the exponent of the limit, and whose it is.
        coverage: share of the intervals that held the truth. Where a limit was extrapolated, the interval is wider by the
            systematic error, and covers more often than its level says.
        failed: share of the repeats that refuted the truth (interval disjoint from truth +- margin).
        open: share that could not tell.
        passed: share that confirmed a planted exponent, off by twice the margin, as the truth; on both sides, the worse one.
    """

    claim: Claim
    truth: float
    source: str
    level: float
    margin: float
    coverage: Rate
    failed: Rate
    open: Rate
    passed: Rate
    systematic: float
    bias: float
    deviation: float
    draws: float
    engine: str

    @property
    def holds(self) -> bool:
        """Whether the rates are credible at what was declared; coverage within 2 % of nominal, or above where the limit is extrapolated."""
        low, high = self.coverage.interval
        return (
            high >= self.level - SLACK
            and (low <= self.level + SLACK or self.systematic > 0)
            and self.failed.interval[0] <= self.failed.declared
            and self.passed.interval[0] <= self.passed.declared
        )


def calibrate(
    adapter: Adapter | str,
    rule: ScalingRule | str | Callable[[int, float], float],
    *,
    repeats: int = 200,
    level: float = LEVEL,
    margin: float = 0.1,
    truth: float | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    **asked: Any,
) -> Calibration:
    """Repeat an estimate, data, pilot, design and all, each time from streams of its own.

    Args:
        truth: exponent of the limit; by default that of the finite-rank law taken out, of a `curve` given or the engine's own.
        asked: as for `estimate`.
    Raises: InputError where no truth is known, or for fewer than 20 repeats; whatever `estimate` refuses.
    """
    if isinstance(repeats, bool) or repeats != int(repeats) or repeats < 20:
        raise InputError(f"repeats={repeats!r}; expected a whole number from 20: fewer cannot show a rate")
    if not 0 < level < 1:
        raise InputError(f"level={level!r}; expected a number between 0 and 1, e.g. 0.95")
    seeds = [int(stream(seed, "calibrate", repeat).integers(2**63)) for repeat in range(repeats)]
    report = progress or (lambda what, done, total: None)
    found = []
    for done, one in enumerate(seeds):
        report("repeat", done, repeats)
        found.append(estimate(adapter, rule, seed=one, margin=margin, error_budget=1 - level, **asked))
    report("repeat", repeats, repeats)
    first = found[0]
    truth, source = _truth(found) if truth is None else (truth, "given")
    intervals = [e.interval for e in found]
    told = [i for i in intervals if i is not None]
    planted = [sum(_inside(i, truth - shift, margin) for i in told) for shift in (2 * margin, -2 * margin)]
    half = max((e.design["half_width"] for e in found if "half_width" in e.design), default=math.inf)
    false_pass = max((e.design.get("false_pass", 1.0) for e in found), default=1.0)
    exponents = [e.exponent for e in found if e.exponent is not None]
    mean = sum(exponents) / max(1, len(exponents))
    confirmed = sum(_inside(i, truth, margin) for i in told)
    refuted = sum(i[1] < truth - margin or i[0] > truth + margin for i in told)
    return Calibration(
        claim=first.claim, truth=truth, source=source, level=level, margin=margin,
        coverage=Rate(sum(lo <= truth <= hi for lo, hi in told), repeats, level),
        failed=Rate(refuted, repeats, 1 - level),
        open=Rate(repeats - confirmed - refuted, repeats, 1.0 if half >= margin else 1 - level),
        passed=Rate(max(planted), repeats, false_pass),
        systematic=max(e.systematic for e in found), bias=mean - truth,
        deviation=math.sqrt(sum((e - mean) ** 2 for e in exponents) / max(1, len(exponents) - 1)),
        draws=sum(e.draws for e in found) / repeats, engine=first.engine,
    )  # fmt: skip


def _truth(found: Sequence[Estimate]) -> tuple[float, str]:
    laws = {e.design["law_exponent"] for e in found if "law_exponent" in e.design}
    if len(laws) != 1:
        raise InputError(
            "no truth to hold the repeats against: this engine knows no finite-rank law of the claim; give truth=, or an exact curve="
        )
    return laws.pop(), "finite-rank law taken out"


def _inside(interval: Sequence[float], centre: float, margin: float) -> bool:
    return centre - margin <= interval[0] and interval[1] <= centre + margin
