"""`estimate`: what is asked, checked; then pilot, design, sample, curve, exponent, record."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, data_quantities, setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ScalingRule
from rsverify.errors import BudgetError, InputError, known_arguments
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.dense.observables import check_askable
from rsverify.montecarlo.engines import sampler_for
from rsverify.montecarlo.module.sampler import Build, ModuleSampler, module_setting
from rsverify.montecarlo.problem import make_problem
from rsverify.montecarlo.procedure import Progress, Question, answer
from rsverify.montecarlo.samplers import Task
from rsverify.montecarlo.store import Store
from rsverify.powerlaw import LARGEST, SMALLEST
from rsverify.records import Estimate, Prediction
from rsverify.statistics.design import LEAST_DRAWS
from rsverify.statistics.intervals import level_for

RANKS = tuple(2**k for k in range(2, 17))
LEARNING_RATE = 1e-3


@known_arguments
def estimate(
    adapter: Adapter | str | Build,
    rule: ScalingRule | str | Callable[[float, float], float],
    *,
    optimizer: Optimizer | str = "sgd",
    quantity: str = "update",
    statistic: str = "rms",
    probe: str = "aligned",
    steps: int = 1,
    regime: str = "rank",
    ranks: Sequence[int] | str = RANKS,
    d_in: int = 24,
    d_out: int = 16,
    samples: int = 1,
    alpha: float = 20.0,
    lr: float | None = None,
    seed: int = 0,
    margin: float = 0.1,
    precision: float | None = None,
    budget: Budget | None = None,
    error_budget: float = 1e-6,
    statements: int = 1,
    curve: Prediction | None = None,
    engine: str = "auto",
    sequential: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
    store: Store | None = None,
) -> Estimate:
    """How a quantity moves with rank, from simulated draws of the adapter on samples with a linear loss.

    Without `precision` every point of the curve is designed for a half-width of 2 % and the exponent for 0.4 of the margin;
    with it the exponent's interval alone is designed, for that half-width. Each interval has level
    1 - error_budget / statements. The curve belongs to the sizes in `data`.

    Args:
        adapter: declared, by object or name; or a factory build(rank, base, alpha) of torch modules, which is judged as it is built: the
            rule is then the one it claims to follow, and is not applied to it.
        lr: 1e-3 unless given.
        curve: an exact prediction of the same claim, to be taken out before the slope is read: nothing is then extrapolated.
            By default the finite-rank law of the engine is, where it has one.
        engine: auto takes the cheapest that is exact for the setting.
        sequential: draw batch by batch, and stop where the answer is in: the precision reached or, without one, the stability
            settled. The intervals are then those of one anytime-valid boundary.
        fresh: of a factory: every draw on a base layer, sample and signal of its own, for modules that themselves draw nothing.
        store: draws shared with other estimates of a table, whose numbers are the same without it; their errors are then correlated.
        progress: called with what is done, how much of it, of how much.
    Raises: InputError for what cannot be meant; BudgetError, before the main sample, where `precision` or one draw is out of
        reach; Diverged where a run overflows, with rank and step.
    """
    ranks = parse_ranks(ranks)
    describe = partial(
        setting if isinstance(adapter, Adapter | str) else module_setting, optimizer=optimizer, quantity=quantity, statistic=statistic,
        probe=probe, steps=steps, regime=regime,
    )  # fmt: skip
    asked: Setting = describe(adapter, rule)
    _check(
        ranks, {"d_in": d_in, "d_out": d_out, "samples": samples, "statements": statements},
        {"alpha": alpha, "lr": lr, "margin": margin, "precision": precision}, error_budget,
    )  # fmt: skip
    if isinstance(adapter, Adapter | str):
        check_askable(asked)
        for rank in ranks:
            asked.adapter.check_draws(rank, d_in, d_out)
        if fresh:
            raise InputError("fresh=True is for factories of modules: a declared adapter draws its factors by its laws")
    elif engine != "auto":
        raise InputError(f"engine={engine!r}: a module is judged by the dense engine alone; leave it at auto")
    if regime == "width" and ranks[-1] * 8 > min(d_in, d_out):
        raise InputError(
            f"regime='width' with d_in={d_in}, d_out={d_out} and rank {ranks[-1]}: widths must be at least 8 times the largest rank; "
            "widen the layer or ask for regime='rank'"
        )
    asked.rule.at(ranks, alpha)
    budget = budget or Budget()
    if budget.draws is not None and budget.draws < LEAST_DRAWS * len(ranks):
        least = LEAST_DRAWS * len(ranks)
        raise BudgetError(
            f"{len(ranks)} ranks need at least {LEAST_DRAWS} draws each, {least} in all; draws={budget.draws} are allowed",
            needed=least, allowed=budget.draws, unit="draws",
        )  # fmt: skip
    problem = make_problem(seed, d_in=d_in, d_out=d_out, cosine=asked.claim.cosine, samples=samples)
    task = Task(asked, problem, float(alpha), LEARNING_RATE if lr is None else float(lr), seed, budget, store)
    data: dict[str, float] = {"d_in": d_in, "d_out": d_out, "alpha": task.alpha, "lr": task.lr}
    if fresh:
        data["samples"] = samples
    elif samples == 1:
        data |= data_quantities(problem.x, problem.x_probe, problem.v, adapter=asked.adapter, r=ranks)
    else:
        data["samples"] = samples
    _check_curve(curve, asked, samples)
    question = Question(
        ranks=ranks, level=level_for(error_budget, statements), margin=margin, precision=precision, curve=curve, data=data,
        samples=samples, width=max(d_in, d_out) if regime == "rank" else 1, sequential=sequential,
    )  # fmt: skip
    sampler = sampler_for(task, engine) if isinstance(adapter, Adapter | str) else ModuleSampler(task, adapter, fresh)
    return answer(question, sampler, progress)


def _check(ranks: tuple[int, ...], whole: dict[str, int], positive: dict[str, float | None], error_budget: float) -> None:
    if len(ranks) < 2:
        raise InputError(f"ranks={list(ranks)}: one rank has no slope; give at least two, better five or more, e.g. 4:65536")
    for name, size in whole.items():
        if isinstance(size, bool) or size != int(size) or size < 1:
            raise InputError(f"{name}={size!r}; expected a whole number from 1")
    for name, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name}={value!r}; expected a positive finite number")
        if value is not None and not SMALLEST <= value <= LARGEST:
            raise InputError(f"{name}={value!r}; expected a number from {SMALLEST:g} to {LARGEST:g}: powers of any other leave floats")
    if not 0 < error_budget < 1:
        raise InputError(f"error_budget={error_budget!r}; expected a rate between 0 and 1, e.g. 1e-6")


def _check_curve(curve: Prediction | None, asked: Setting, samples: int) -> None:
    if curve is None:
        return
    if curve.claim != asked.claim:
        raise InputError(f"curve speaks of {curve.claim}, the estimate of {asked.claim}; derive it for the same claim")
    if curve.formula is None or curve.exponent is None or not curve.exact:
        raise InputError(
            f"curve of {asked.claim.quantity} is not exact at finite rank ({curve.error_order or 'no formula'}): taking it out would hide "
            "its own error; leave it out, and the limit is extrapolated with its systematic error"
        )
    if samples != 1:
        raise InputError(f"curve speaks of one sample, samples={samples}; leave it out: the engine knows its own finite-rank law")
