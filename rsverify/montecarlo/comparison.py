"""Two rules on the same draws: what differs between them, with the noise that they share gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ScalingRule
from rsverify.errors import Diverged, InputError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.curve import influences, magnitude
from rsverify.montecarlo.dense.observables import check_askable
from rsverify.montecarlo.engines import sampler_for
from rsverify.montecarlo.exponent import fit_influences
from rsverify.montecarlo.problem import make_problem
from rsverify.montecarlo.samplers import Task
from rsverify.records import Claim
from rsverify.statistics.design import LEAST_DRAWS


@dataclass(frozen=True)
class Comparison:
    """The exponent of one rule's magnitude over another's, with its interval.

    `log_ratios` are those of the magnitudes at each rank; `error` is the standard error of the exponent, `systematic` what the step
    from finite ranks to the limit may add; both are in the interval.
    """

    claim: Claim
    other: Claim
    exponent: float
    interval: tuple[float, float]
    level: float
    error: float
    systematic: float
    ranks: tuple[int, ...]
    log_ratios: tuple[float, ...]
    draws: int
    engine: str


def compare(
    adapter: Adapter | str,
    rule: ScalingRule | str,
    other: ScalingRule | str,
    *,
    ranks: Sequence[int] | str = "4:65536",
    d_in: int = 24,
    d_out: int = 16,
    samples: int = 1,
    alpha: float = 20.0,
    lr: float = 1e-3,
    seed: int = 0,
    draws: int = 256,
    error_budget: float = 1e-6,
    engine: str = "auto",
    budget: Budget | None = None,
    **asked: Any,
) -> Comparison:
    """How the magnitude under one rule moves with rank against that under another, from nested draws that both share.

    In words: the same A is scaled by either rule, and its smaller ranks are part of the larger ones; each draw's own influence on the
    difference of the two slopes gives the error, right whatever ranks and rules have in common.

    Args: asked are quantity, statistic, probe, steps, regime, optimizer, as for `estimate`.
    Raises: InputError for what cannot be meant, or an engine without nested draws; Diverged with rank and step.
    """
    ranks = parse_ranks(ranks)
    if len(ranks) < 2 or draws < LEAST_DRAWS:
        raise InputError(f"ranks={list(ranks)}, draws={draws}; expected at least two ranks and {LEAST_DRAWS} draws")
    if not 0 < error_budget < 1:
        raise InputError(f"error_budget={error_budget!r}; expected a rate between 0 and 1, e.g. 1e-6")
    settings = [setting(adapter, one, **asked) for one in (rule, other)]
    logs, each, name = [], [], ""
    for one in settings:
        check_askable(one)
        one.rule.at(ranks, alpha)
        problem = make_problem(seed, d_in=d_in, d_out=d_out, cosine=one.claim.cosine, samples=samples)
        sampler = sampler_for(Task(one, problem, float(alpha), float(lr), seed, budget or Budget()), engine)
        found = sampler.nested(ranks, "compare", draws)
        for sample in found:
            if sample.diverged is not None:
                raise Diverged(sample.rank, sample.diverged, lr=lr)
        values, statistic, name = np.stack([s.values for s in found], axis=1), one.claim.statistic, sampler.name
        points = [magnitude(s.rank, s.values, statistic) for s in found]
        logs.append(np.log([abs(m.value) for m in points]) - [m.bias for m in points])
        each.append(influences(values, statistic))
    ratios = logs[0] - logs[1]
    if not np.isfinite(ratios).all():
        raise InputError("a magnitude vanishes or is not finite: its ratio has no logarithm; ask for another quantity")
    fit = fit_influences(ranks, ratios, each[0] - each[1], corrections=True)
    level = 1 - error_budget
    return Comparison(
        settings[0].claim, settings[1].claim, fit.exponent, fit.interval(level), level, fit.error, fit.systematic, ranks,
        tuple(ratios.tolist()), draws, name,
    )  # fmt: skip
