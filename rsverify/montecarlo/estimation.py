"""`estimate`: what is asked, checked; then pilot, design, sample, curve, exponent, record."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rsverify.definitions.claims import Setting, data_quantities, setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.definitions.targets import Build, Target, as_built, as_target
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import BudgetError, InputError, known_arguments
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.dense.observables import check_askable
from rsverify.montecarlo.engines import sampler_for, silent_engines
from rsverify.montecarlo.freshdata import FreshData
from rsverify.montecarlo.module.declared import builder
from rsverify.montecarlo.module.sampler import ModuleSampler, module_setting
from rsverify.montecarlo.module.soundness import usable
from rsverify.montecarlo.places import MODULES, SPECTRAL, Place, Sizes, below, place_of
from rsverify.montecarlo.problem import make_problem
from rsverify.montecarlo.procedure import Progress, Question, answer
from rsverify.montecarlo.samplers import Task
from rsverify.montecarlo.store import Store
from rsverify.powerlaw import LARGEST, SMALLEST
from rsverify.records import Estimate, Prediction
from rsverify.statistics.design import LEAST_DRAWS
from rsverify.statistics.intervals import level_for

RANKS = (4, 8, 15, 32, 61, 128, 257, 512, 1021, 2048, 4093, 8192, 16381, 32768, 65521)
"""Some are odd, some prime: a rule that is right at powers of two alone is seen."""
FAR_BELOW = 8
"""Times the largest rank that widths are at least where ranks are said to lie far below them."""
WIDE = Sizes("rank", 24, 16, RANKS)
"""Where the cost of a draw does not grow with the rank."""
LEARNING_RATE = 1e-3
MODULE_BUDGET = Budget(draws=7000, entries=None)
"""Torch modules built for a claim at most: some ten seconds. What takes more says so, with its price."""
FRESH_BUDGET = Budget(draws=100_000)
FRESH_PRECISION = 0.09
"""Half-width of an exponent over fresh data: below the margin, and half of it is left to extrapolation. No curve of one sample is drawn."""


@known_arguments
def estimate(
    adapter: Any,
    rule: ScalingRule | str | Callable[[int, float], float] | None = None,
    *,
    optimizer: Optimizer | str = "sgd",
    quantity: str = "update",
    statistic: str = "rms",
    probe: str = "aligned",
    steps: int = 1,
    regime: str | None = None,
    ranks: Sequence[int] | str | None = None,
    d_in: int | None = None,
    d_out: int | None = None,
    samples: int = 1,
    alpha: float | None = None,
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
    fresh: bool | None = None,
    progress: Progress | None = None,
    store: Store | None = None,
) -> Estimate:
    """How a quantity moves with rank, from simulated draws of the adapter on samples with a linear loss.

    Without `precision` every point of the curve is designed for a half-width of 2 % and the exponent for 0.4 of the margin;
    with it the exponent's interval alone is designed, for that half-width. Each interval has level
    1 - error_budget / statements. The curve belongs to the sizes in `data`.

    Args:
        adapter: any target. A multilinear declaration is contracted; another one is built and differentiated, with its base weight; a
            factory, a Subject or a library's layer is judged as it is built: the rule is then the one it claims to follow, and is not
            applied to it.
        rule: by default that of the target's settings, else its declaration's; `as-built` of a module that nothing says the rule of.
        regime, ranks, d_in, d_out: by default where the adapter's rank can grow (`montecarlo.places`).
        alpha: 20, or that of the target's settings; lr: 1e-3 unless given.
        curve: an exact prediction of the same claim, to be taken out before the slope is read: nothing is then extrapolated.
            By default the finite-rank law of the engine is, where it has one.
        engine: auto takes the cheapest that is exact for the setting.
        sequential: draw batch by batch, and stop where the answer is in: the precision reached or, without one, the stability
            settled. The intervals are then those of one anytime-valid boundary.
        fresh: every draw on a base layer, sample and signal of its own; by default where the adapter itself draws nothing.
        store: draws shared with other estimates of a table, whose numbers are the same without it; their errors are then correlated.
        progress: called with what is done, how much of it, of how much.
    Raises: InputError for what cannot be meant; BudgetError, before the main sample, where `precision` or one draw is out of
        reach; Diverged where a run overflows, with rank and step.
    """
    target = as_target(adapter)
    ruled = as_rule(rule if rule is not None else target.rule if target.rule is not None else as_built)
    common = {"optimizer": optimizer, "quantity": quantity, "statistic": statistic, "probe": probe, "steps": steps}
    laid = _laid(
        target, ruled, common, regime=regime, ranks=ranks, d_in=d_in, d_out=d_out, alpha=alpha, fresh=fresh, exact=curve is not None
    )
    sizes, alpha = laid.place.sizes, laid.alpha
    asked, ranks = laid.asked, sizes.ranks
    _check(
        ranks, {"d_in": sizes.d_in, "d_out": sizes.d_out, "samples": samples, "statements": statements},
        {"alpha": alpha, "lr": lr, "margin": margin, "precision": precision}, error_budget,
    )  # fmt: skip
    if laid.build is None:
        check_askable(asked)
        for rank in ranks:
            asked.adapter.check_draws(rank, sizes.d_in, sizes.d_out)
    elif engine != "auto":
        raise InputError(f"engine={engine!r}: a module is judged by the dense engine alone; leave it at auto")
    if asked.claim.regime == "width" and ranks[-1] * FAR_BELOW > min(sizes.d_in, sizes.d_out):
        raise InputError(
            f"regime='width' with d_in={sizes.d_in}, d_out={sizes.d_out} and rank {ranks[-1]}: widths must be at least {FAR_BELOW} times"
            " the largest rank; widen the layer or ask for regime='rank'"
        )
    asked.rule.at(ranks, alpha)
    look = None
    if laid.build is not None:
        look = usable(laid.build, ranks, d_in=sizes.d_in, d_out=sizes.d_out, alpha=alpha, name=target.name)
        ranks = look.ranks
    if laid.place.fresh and fresh is None and precision is None:
        precision = FRESH_PRECISION
    budget = budget or (MODULE_BUDGET if laid.build is not None else FRESH_BUDGET if laid.place.fresh else Budget())
    if budget.draws is not None and budget.draws < LEAST_DRAWS * len(ranks):
        least = LEAST_DRAWS * len(ranks)
        raise BudgetError(
            f"{len(ranks)} ranks need at least {LEAST_DRAWS} draws each, {least} in all; draws={budget.draws} are allowed",
            needed=least, allowed=budget.draws, unit="draws",
        )  # fmt: skip
    budget.check_samples(samples, sizes.d_in, sizes.d_out)
    problem = make_problem(seed, d_in=sizes.d_in, d_out=sizes.d_out, cosine=asked.claim.cosine, samples=samples)
    task = Task(asked, problem, float(alpha), LEARNING_RATE if lr is None else float(lr), seed, budget, store)
    data: dict[str, float] = {"d_in": sizes.d_in, "d_out": sizes.d_out, "alpha": task.alpha, "lr": task.lr}
    if laid.place.fresh:
        data["samples"] = samples
    elif samples == 1:
        data |= data_quantities(problem.x, problem.x_probe, problem.v, adapter=asked.adapter, r=ranks)
    else:
        data["samples"] = samples
    _check_curve(curve, asked, samples)
    question = Question(
        ranks=ranks, level=level_for(error_budget, statements), margin=margin, precision=precision, curve=curve, data=data,
        samples=samples, width=max(sizes.d_in, sizes.d_out) if asked.claim.regime == "rank" else 1, sequential=sequential,
    )  # fmt: skip
    found = answer(question, _sampler(laid, task, engine), progress)
    return found if look is None or not look.note else replace(found, notes=(*found.notes, look.note))


@dataclass(frozen=True)
class _Laid:
    """What is simulated: the claim, where, at which alpha, and how a module of it is built (None where it is contracted)."""

    asked: Setting
    place: Place
    alpha: float
    build: Build | None


def _laid(
    target: Target, rule: ScalingRule, common: dict[str, Any], *, regime: str | None, ranks: Sequence[int] | str | None, d_in: int | None,
    d_out: int | None, alpha: float | None, fresh: bool | None, exact: bool,
) -> _Laid:  # fmt: skip
    contracted = target.build is None and not isinstance(target.derivable, WrappedAdapter)
    place = _place(target, rule, common, regime=regime, given=ranks is not None, contracted=contracted, exact=exact)
    sizes = replace(
        place.sizes, d_in=place.sizes.d_in if d_in is None else d_in, d_out=place.sizes.d_out if d_out is None else d_out,
        ranks=place.sizes.ranks if ranks is None else parse_ranks(ranks),
    )  # fmt: skip
    own = d_in is not None or d_out is not None
    if own or max(sizes.ranks) * FAR_BELOW > min(sizes.d_in, sizes.d_out):
        sizes = replace(sizes, regime="rank")  # sizes of the user's own are no limit of widths unless that is asked for
    sizes = replace(sizes, regime=regime or sizes.regime)
    place = Place(sizes, (place.fresh and not own) if fresh is None else fresh)
    used = alpha if alpha is not None else target.alpha if target.alpha is not None else sizes.alpha or ALPHA
    if contracted:
        return _Laid(setting(target.adapter, rule, regime=sizes.regime, **common), place, used, None)
    build = target.build
    if build is None:
        declared = target.derivable
        assert isinstance(declared, WrappedAdapter)
        build = builder(declared, rule)
    return _Laid(module_setting(build, rule, name=target.name, regime=sizes.regime, **common), place, used, build)


def _place(
    target: Target, rule: ScalingRule, common: dict[str, Any], *, regime: str | None, given: bool, contracted: bool, exact: bool
) -> Place:  # fmt: skip
    """Where to simulate: as far as it is cheap where no draw's cost grows with the rank, else where the adapter's rank can grow."""
    if contracted and regime != "width":
        silent = silent_engines(setting(target.adapter, rule, **common))
        if not {"gram", "channels"} <= silent.keys():
            return Place(WIDE)
    if given and not contracted and target.declared is None:  # ranks of the user's own choice: nothing is to be found out
        return Place(MODULES)
    place = place_of(target)
    if regime == "width" and place.sizes.regime != "width" and not given:
        place = replace(place, sizes=below(target.name) if contracted else SPECTRAL)
    if not exact and place.sizes.far is not None and not given:
        return replace(place, sizes=place.sizes.far)
    return place


def _sampler(laid: _Laid, task: Task, engine: str) -> Any:
    if laid.build is not None:
        return ModuleSampler(task, laid.build, laid.place.fresh)
    return FreshData(task, lambda one: sampler_for(one, engine)) if laid.place.fresh else sampler_for(task, engine)


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
