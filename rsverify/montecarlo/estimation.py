"""`estimate`: pilot, design of the sample, curve, exponent, record."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, data_quantities, setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ScalingRule
from rsverify.errors import BudgetError, InputError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.curve import Magnitude, magnitude
from rsverify.montecarlo.dense import Engine, Problem
from rsverify.montecarlo.exponent import fit_exponent
from rsverify.montecarlo.observables import check_askable, observe
from rsverify.montecarlo.planning import Pilot, plan
from rsverify.montecarlo.sampling import block_size, draw_block, make_problem
from rsverify.records import Estimate, Point
from rsverify.statistics.design import LEAST_DRAWS, SHARE
from rsverify.statistics.intervals import level_for, normal_quantile

RANKS = tuple(2**k for k in range(2, 17))
LEARNING_RATE = 1e-3
WORKERS = min(4, os.cpu_count() or 1)
PILOT_ENTRIES = 2**18  # a pilot of the smallest ranks sees enough draws to know its own spread


@dataclass(frozen=True)
class _Run:
    """All that does not change between ranks and phases."""

    setting: Setting
    problem: Problem
    alpha: float
    lr: float
    seed: int
    budget: Budget

    def engine(self, rank: int) -> Engine:
        gamma = self.setting.rule.gamma(rank, self.alpha)
        return Engine(self.setting.adapter, rank, gamma, len(self.problem.x), len(self.problem.v))

    def sample(self, rank: int, phase: str, draws: int) -> tuple[np.ndarray, bool, float]:
        """The claim's numbers for `draws` draws of a phase, whether they vanish identically, the typical gradient entry."""
        engine = self.engine(rank)
        adapter, d_in, d_out = engine.adapter, engine.d_in, engine.d_out
        block = block_size(adapter, rank, d_in, d_out)
        blocks = -(-draws // block)
        per_draw = bytes_per_draw(adapter, rank, d_in, d_out)
        # Fewer workers rather than a refusal where one draw at a time is all that fits.
        workers = max(1, min(WORKERS, blocks, self.budget.bytes // per_draw))
        chunk = self.budget.chunk(per_draw * workers, block, rank=rank)

        def work(number: int) -> list[tuple[np.ndarray, bool, float]]:
            n = min(block, draws - number * block)
            chunks = draw_block(
                adapter, seed=self.seed, phase=phase, rank=rank, d_in=d_in, d_out=d_out, number=number, draws=n, chunk=chunk
            )
            found = []
            with np.errstate(over="ignore", invalid="ignore"):
                for held, factors in chunks:
                    seen = observe(self.setting, engine, self.problem, factors, lr=self.lr, draws=held)
                    found.append((seen.values, seen.vanishes, seen.typical))
            return found

        # numpy lets go of the interpreter in its loops; each block has its own streams, so workers change no number.
        if workers == 1:
            done = [work(number) for number in range(blocks)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                done = list(pool.map(work, range(blocks)))
        parts = [part for block_parts in done for part in block_parts]
        return np.concatenate([p[0] for p in parts]), all(p[1] for p in parts), min(p[2] for p in parts)


def bytes_per_draw(adapter: Adapter, rank: int, d_in: int, d_out: int) -> int:
    """What one draw holds at most: factors before and after, gradients, two moments, one temporary, in float64."""
    entries = sum(math.prod(shape) for shape in adapter.shapes(rank, d_in, d_out).values())
    return 8 * 6 * entries


def estimate(
    adapter: Adapter | str,
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
    alpha: float = 20.0,
    lr: float | None = None,
    seed: int = 0,
    margin: float = 0.1,
    precision: float | None = None,
    budget: Budget | None = None,
    error_budget: float = 1e-6,
    statements: int = 1,
) -> Estimate:
    """How a quantity moves with rank, from simulated draws of the adapter on one sample with a linear loss.

    Every point of the curve is designed for a half-width of 2 % and the exponent for 0.4 of the margin, or for
    `precision`; each interval has level 1 - error_budget / statements. The curve belongs to the sizes in `data`.

    Args: lr defaults to 1e-3. Raises: InputError for what cannot be meant; BudgetError, before the main sample, where
        `precision` or one draw is out of reach.
    """
    ranks = parse_ranks(ranks)
    claim_setting = setting(
        adapter, rule, optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime
    )
    _check(ranks, d_in=d_in, d_out=d_out, alpha=alpha, lr=lr, margin=margin, precision=precision, error_budget=error_budget)
    check_askable(claim_setting)
    if regime == "width" and ranks[-1] * 8 > min(d_in, d_out):
        raise InputError(
            f"regime='width' with d_in={d_in}, d_out={d_out} and rank {ranks[-1]}: widths must be at least 8 times the largest rank; "
            "widen the layer or ask for regime='rank'"
        )
    claim_setting.rule.at(ranks, alpha)
    budget = budget or Budget()
    if budget.draws is not None and budget.draws < LEAST_DRAWS * len(ranks):
        least = LEAST_DRAWS * len(ranks)
        raise BudgetError(
            f"{len(ranks)} ranks need at least {LEAST_DRAWS} draws each, {least} in all; draws={budget.draws} are allowed",
            needed=least, allowed=budget.draws, unit="draws",
        )  # fmt: skip
    problem = make_problem(seed, d_in=d_in, d_out=d_out, cosine=claim_setting.claim.cosine)
    run = _Run(claim_setting, problem, float(alpha), LEARNING_RATE if lr is None else float(lr), seed, budget)
    return _estimate(run, ranks, level_for(error_budget, statements), margin=margin, precision=precision)


def _estimate(run: _Run, ranks: tuple[int, ...], level: float, *, margin: float, precision: float | None) -> Estimate:
    claim, engine = run.setting.claim, run.engine(ranks[0])
    data: dict[str, float] = {
        "d_in": engine.d_in, "d_out": engine.d_out, "alpha": run.alpha, "lr": run.lr,
        **data_quantities(run.problem.x, run.problem.x_probe, run.problem.v),
    }  # fmt: skip
    notes: list[str] = []
    pilots: list[Pilot] = []
    vanishes, typical = True, math.inf
    for rank in ranks:
        began = time.perf_counter()
        entries = sum(math.prod(shape) for shape in engine.adapter.shapes(rank, engine.d_in, engine.d_out).values())
        n = max(LEAST_DRAWS, min(512, PILOT_ENTRIES // entries))
        values, zero, entry = run.sample(rank, "pilot", n)
        pilots.append(Pilot(rank, values, entries, (time.perf_counter() - began) / n))
        vanishes, typical = vanishes and zero, min(typical, entry)
    if vanishes:
        curve = tuple(Point(rank, 0.0, 0.0, 0.0) for rank in ranks)
        return Estimate(claim, None, None, level, curve, sum(len(p.values) for p in pilots), "dense", zero=True, data=data)
    epsilon = run.setting.optimizer.option("eps") if "eps" in run.setting.optimizer.defaults else 0.0
    if claim.steps and typical < 100 * epsilon:
        notes.append(f"epsilon regime: median |gradient entry| {typical:.2g} is below 100 eps; SGD's exponents return there")
    diverged = [p.rank for p in pilots if not np.isfinite(p.values).all()]
    if diverged:
        notes.append(f"diverges: not finite from rank {diverged[0]} after {claim.steps} steps; a smaller lr would keep it finite")
        curve = tuple(Point(rank, math.nan, -math.inf, math.inf) for rank in ranks)
        return Estimate(claim, None, None, level, curve, sum(len(p.values) for p in pilots), "dense", data=data, notes=tuple(notes))
    width = max(engine.d_in, engine.d_out) if claim.regime == "rank" else 1
    draws, planned = plan(
        pilots, statistic=claim.statistic, level=level, width=width, target=precision or SHARE * margin,
        budget=run.budget, insist=precision is not None,
    )  # fmt: skip
    notes += planned
    found: list[Magnitude] = []
    spent = 0
    for pilot, n in zip(pilots, draws, strict=True):
        # A pilot that is enough is the sample. Otherwise fresh draws: keeping the pilot's would tie n to the mean.
        enough = n <= len(pilot.values)
        values = pilot.values if enough else run.sample(pilot.rank, "sample", n)[0]
        spent += len(pilot.values) + (0 if enough else n)
        found.append(magnitude(pilot.rank, values, claim.statistic))
    curve = tuple(m.point(level) for m in found)
    if any(not point.lo * point.hi > 0 for point in curve):
        price = max(m.draws * (_half(m, level) / 0.5) ** 2 for m in found if math.isfinite(m.log_error))
        notes.append(f"inconclusive: zero is not excluded at every rank; about {price:.3g} draws per rank would settle it")
        return Estimate(claim, None, None, level, curve, spent, "dense", data=data, notes=tuple(notes))
    fit = fit_exponent(found, width=width)
    if precision is not None and fit.systematic > precision:
        notes.append(f"the limit is known to +-{fit.systematic:.2g} only, however many draws: larger ranks would narrow it")
    return Estimate(
        claim, fit.exponent, fit.interval(level), level, curve, spent, "dense",
        systematic=fit.systematic, data=data, notes=tuple(notes),
    )  # fmt: skip


def _half(m: Magnitude, level: float) -> float:
    return normal_quantile(level) * m.log_error


def _check(
    ranks: tuple[int, ...],
    *,
    d_in: int,
    d_out: int,
    alpha: float,
    lr: float | None,
    margin: float,
    precision: float | None,
    error_budget: float,
) -> None:
    if len(ranks) < 2:
        raise InputError(f"ranks={list(ranks)}: one rank has no slope; give at least two, better five or more, e.g. 4:65536")
    for name, value in (("d_in", d_in), ("d_out", d_out)):
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise InputError(f"{name}={value!r}; expected a whole number from 1")
    positive = {"alpha": alpha, "lr": lr, "margin": margin, "precision": precision}
    for name, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name}={value!r}; expected a positive finite number")
    if not 0 < error_budget < 1:
        raise InputError(f"error_budget={error_budget!r}; expected a rate between 0 and 1, e.g. 1e-6")
