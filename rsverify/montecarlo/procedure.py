"""From a question and an engine to an estimate: pilot, design, sample or sequence of batches, fit, record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsverify.errors import Diverged, InputError
from rsverify.montecarlo.curve import POWERS, KnownCurve, Magnitude, limit_exponent, magnitude
from rsverify.montecarlo.exponent import Fit, fit_exponent
from rsverify.montecarlo.gram.isotropic import isotropic
from rsverify.montecarlo.planning import Aim, Pilot, excess, plan, spreads
from rsverify.montecarlo.samplers import Sample, Sampler
from rsverify.montecarlo.sequential import Inquiry, run_sequence
from rsverify.records import Estimate, Point, Prediction
from rsverify.statistics.design import FEWEST_DRAWS, LEAST_DRAWS, SHARE, draws_for_tail, false_pass_rate
from rsverify.statistics.intervals import normal_quantile, student_quantile

PILOT_ENTRIES = 2**18  # a pilot of the smallest ranks sees enough draws to know its own spread
PILOT_DRAWS = 512
PRECISE_DRAWS = 64  # without points to design, a pilot need only know spreads within some 10 %
PILOT_MOST = 2**20
"""Entries that a pilot of one rank may cost beyond the smallest ranks: at larger ones a look would cost what the sample does."""
LOOKED_AT = 3
"""Ranks that are looked at whatever they cost: a spread is extrapolated from no fewer."""
ROUNDS = 3
"""Samples at most, each fresh and larger, for a precision whose systematic part no pilot foresees; they share the error rate."""
SURPRISE = 1.5
"""A spread this many times the extrapolated one is no accident of 12 draws, whose own error is a fifth."""
SELF_CHECK = 1e-6
"""Rate at which a right finite-rank law is left in for nothing; the interval then only gets wider."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Question:
    """What an estimate is to answer, checked."""

    ranks: tuple[int, ...]
    level: float
    margin: float
    precision: float | None
    curve: Prediction | None
    data: Mapping[str, float]
    samples: int
    width: int
    sequential: bool

    @property
    def target(self) -> float:
        return self.precision or SHARE * self.margin


@dataclass
class _Work:
    """What is known as the work goes on."""

    question: Question
    sampler: Sampler
    report: Progress
    notes: list[str] = field(default_factory=list)
    spent: int = 0
    law: float | None = None
    typical: float = math.inf

    def draw(self, rank: int, phase: str, draws: int) -> Sample:
        sample = self.sampler.sample(rank, phase, draws)
        self.spent += draws
        self.typical = min(self.typical, sample.typical)
        if sample.diverged is not None:
            raise Diverged(rank, sample.diverged, lr=self.sampler.task.lr)
        if self.sampler.task.setting.claim.statistic == "log" and not sample.vanishes and not np.isfinite(sample.values).all():
            raise InputError("statistic='log': the quantity is exactly zero in some draws, whose logarithm does not exist; ask for rms")
        return sample

    def note_epsilon(self) -> None:
        """Say where an optimizer's epsilon is not small beside the gradients that the draws have shown."""
        setting = self.sampler.task.setting
        epsilon = setting.optimizer.option("eps") if "eps" in setting.optimizer.defaults else 0.0
        if setting.claim.steps and self.typical < 100 * epsilon:
            self.notes.append(f"epsilon regime: median |gradient entry| {self.typical:.2g} is below 100 eps; SGD's exponents return there")

    def take_out(self, known: KnownCurve) -> None:
        self.law = known.exponent
        self.notes.append(f"finite-rank law of the {known.source} taken out: nothing is extrapolated")

    def record(
        self, curve: tuple[Point, ...], fit: Fit | None = None, half: float = math.nan, *, zero: bool = False, looks: int | None = None
    ) -> Estimate:
        """The estimate with what was designed for and reached; `half` is the exponent's statistical half-width."""
        q, exponent, interval, systematic = self.question, None, None, 0.0
        design = {"margin": q.margin, "false_failure": 1 - q.level, **({} if looks is None else {"looks": float(looks)})}
        if fit is not None:
            whole = half + fit.systematic
            exponent, interval, systematic = fit.exponent, (fit.exponent - whole, fit.exponent + whole), fit.systematic
            design["half_width"] = half
            if self.law is not None:
                design["law_exponent"] = self.law
            if whole < q.margin:
                design["false_pass"] = false_pass_rate(q.level, half=half, margin=q.margin - fit.systematic, off=2 * q.margin)
        return Estimate(
            self.sampler.task.setting.claim, exponent, interval, q.level, curve, self.spent, self.sampler.name, systematic=systematic,
            zero=zero, data=q.data, notes=tuple(self.notes), design=design,
        )  # fmt: skip


def answer(question: Question, sampler: Sampler, progress: Progress | None = None) -> Estimate:
    """The estimate of the question by the engine.

    Raises: BudgetError before the main sample; Diverged with rank and step.
    """
    work = _Work(question, sampler, progress or (lambda what, done, total: None))
    _affordable(question, sampler)
    setting, ranks = sampler.task.setting, question.ranks
    statistic = setting.claim.statistic
    pilots, vanishes = _pilot(work)
    if vanishes:
        return work.record(tuple(Point(rank, 0.0, 0.0, 0.0) for rank in ranks), zero=True)
    if statistic == "log" and not all(np.isfinite(p.values).all() for p in pilots):
        raise InputError("statistic='log': the quantity is exactly zero in some draws, whose logarithm does not exist; ask for rms")
    known = known_curve(question, sampler)
    law = isotropic(setting, question.samples) if sampler.name == "gram" else None
    # Where one draw's spread is known, neither weights nor design depend on the pilot's noise.
    spread = spreads(pilots, statistic) if law is None else np.asarray([law.spread(rank) for rank in ranks])
    # What is extrapolated has a systematic error too: half of a precision is left to it.
    share = 0.5 if question.precision and known is None else 1.0
    rounds = ROUNDS if question.precision and known is None and not question.sequential else 1
    level = 1 - (1 - question.level) / rounds
    aim = Aim(
        level=level, target=share * question.target, asked=question.target, insist=question.precision is not None,
        points=question.precision is None, known=known is not None, width=question.width,
    )  # fmt: skip
    if question.sequential:
        return _sequential(work, pilots, spread, aim, known)
    draws, planned = plan(pilots, spread, aim=aim, budget=sampler.task.budget)
    work.notes += planned

    def weighed(points: list[Magnitude]) -> np.ndarray:
        return spread / np.sqrt([m.draws for m in points]) if law is None else np.asarray([law.error(m.rank, m.draws) for m in points])

    found = _sample(work, pilots, draws, 0, spread)
    work.note_epsilon()
    points = [m for m, _ in found]
    for trial in range(1, rounds):
        if any(not m.point(question.level).lo * m.point(question.level).hi > 0 for m in points):
            break
        first = fit_exponent(points, width=question.width, weights=weighed(points))
        larger = _larger(work, pilots, first, draws, level)
        if larger is None:
            break
        draws = larger
        found = _sample(work, pilots, draws, trial, spread)
        points = [m for m, _ in found]
    curve = tuple(m.point(question.level) for m, _ in found)
    if any(not point.lo * point.hi > 0 for point in curve):
        price = max(m.draws * (normal_quantile(question.level) * m.log_error / 0.5) ** 2 for m in points if math.isfinite(m.log_error))
        work.notes.append(f"inconclusive: zero is not excluded at every rank; about {price:.3g} draws per rank would settle it")
        return work.record(curve)
    weights = weighed(points)
    fit = fit_exponent(points, width=question.width, known=known, weights=weights)
    if known is not None and _misfit(fit, found):
        work.notes.append(f"the finite-rank law of the {known.source} is not that of the draws: it was left in, and the limit extrapolated")
        fit = fit_exponent(points, width=question.width, weights=weights)
    elif known is not None:
        work.take_out(known)
    half = fit.half_width(level)
    _remark(work, fit, half)
    return work.record(curve, fit, half)


def _affordable(question: Question, sampler: Sampler) -> None:
    """Refuse, before anything is drawn, ranks or steps of which the least draws alone are out of reach.

    Raises: BudgetError with the price.
    """
    budget = sampler.task.budget
    for rank in question.ranks:
        budget.check_work(sampler.entries(rank), rank=rank)
    steps = sampler.task.setting.claim.steps
    budget.check_steps(steps, sum(sampler.steps_work(rank, FEWEST_DRAWS) for rank in question.ranks))


def _pilot(work: _Work) -> tuple[list[Pilot], bool]:
    """A look at each rank where it costs little beside the sample; whether all that was seen vanishes."""
    pilots: list[Pilot] = []
    vanishes, question = True, work.question
    for index, rank in enumerate(question.ranks):
        entries = work.sampler.entries(rank)
        if index >= LOOKED_AT and LEAST_DRAWS * entries > PILOT_MOST:
            last = next(p for p in reversed(pilots) if p.looked)
            pilots.append(Pilot(rank, last.values, entries, last.seconds * entries / last.entries, looked=False))
            continue
        work.report(f"pilot, rank {rank}", index, len(question.ranks))
        began = time.perf_counter()
        most = PILOT_DRAWS if question.precision is None and not question.sequential else PRECISE_DRAWS
        n = max(LEAST_DRAWS, min(most, PILOT_ENTRIES // entries))
        seen = work.draw(rank, "pilot", n)
        pilots.append(Pilot(rank, seen.values, entries, (time.perf_counter() - began) / n))
        vanishes = vanishes and seen.vanishes
    return pilots, vanishes


def _larger(work: _Work, pilots: list[Pilot], fit: Fit, draws: list[int], level: float) -> list[int] | None:
    """Draws at which the precision would be reached, where this fit misses it and the budget allows more; None otherwise.

    In words: what the systematic part left over is the statistical part's; a noisy curvature inflates the systematic part, so that it
    shrinks as well, and where it fills the precision by itself twice the draws say whether it does.
    """
    question, half = work.question, fit.half_width(level)
    precision = question.precision
    assert precision is not None
    if not half + fit.systematic > precision:
        return None
    room = max(precision - fit.systematic, half / 2)
    larger = [math.ceil(n * max(2.0, (half / room) ** 2)) for n in draws]
    return None if excess(larger, pilots, work.sampler.task.budget, spent=work.spent) else larger


def _sample(work: _Work, pilots: list[Pilot], draws: list[int], trial: int, spread: np.ndarray) -> list[tuple[Magnitude, int]]:
    """The magnitude at each rank, with the draws that its skew asks for before a normal law can be trusted."""
    sampled = []
    statistic = work.sampler.task.setting.claim.statistic
    for index, (pilot, n) in enumerate(zip(pilots, draws, strict=True)):
        work.report(f"{n} draws, rank {pilot.rank}", index, len(pilots))
        # A pilot that is enough is the sample. Otherwise fresh draws: keeping the pilot's would tie n to the mean.
        phase = f"sample {trial + 1}" if trial else "sample"
        values = pilot.values if not trial and n <= pilot.enough else work.draw(pilot.rank, phase, n).values
        more = 0 if pilot.looked else _surprise(work, pilot, n, float(spread[index]), magnitude(pilot.rank, values, statistic).spread)
        if more:
            values = work.draw(pilot.rank, f"{phase}, wider", more).values
        sampled.append((magnitude(pilot.rank, values, statistic), draws_for_tail(values, 1 - SELF_CHECK)))
    work.report("fit", len(pilots), len(pilots))
    return sampled


def _surprise(work: _Work, pilot: Pilot, draws: int, foretold: float, seen: float) -> int:
    """Fresh draws for a rank whose spread was extrapolated too small, as many as the budget has for it; 0 where there is no surprise.

    The draws that showed it serve as the look that was spared: only their spread is used.
    """
    if not seen > SURPRISE * foretold:
        return 0
    wanted = max(LEAST_DRAWS, draws * (seen / foretold) ** 2) if foretold > 0 and math.isfinite(seen) else LEAST_DRAWS
    budget = work.sampler.task.budget
    room = math.inf if budget.entries is None else budget.entries / len(work.question.ranks) / pilot.entries
    left = math.inf if budget.draws is None else budget.draws - work.spent
    return int(max(0, min(wanted, room, left)))


def known_curve(question: Question, sampler: Sampler) -> KnownCurve | None:
    """The exact finite-rank law to take out: the prediction given, else the engine's own, where it has one and it tends to a power."""
    claim = sampler.task.setting.claim
    if question.curve is not None:
        data: dict[str, Any] = dict(question.data)
        d_in, d_out = int(data.pop("d_in")), int(data.pop("d_out"))
        values = question.curve.at(question.ranks, d_in=d_in, d_out=d_out, **data)
        assert question.curve.exponent is not None
        return KnownCurve(tuple(values.tolist()), float(question.curve.exponent), "prediction")
    if claim.statistic not in POWERS or claim.regime != "rank" or sampler.task.setting.rule.function is not None:
        return None  # a callable says nothing of ranks that were not asked for: no law of it tends anywhere that could be known

    def law(rank: int) -> float | None:
        mean = sampler.second_moment(rank)
        return None if mean is None else mean ** POWERS[claim.statistic] if mean > 0 else None

    with np.errstate(over="ignore", invalid="ignore"):
        values = [law(rank) for rank in question.ranks]
        exponent = limit_exponent(law) if None not in values else None
    if exponent is None:
        return None
    return KnownCurve(tuple(v for v in values if v is not None), exponent, "engine")


def _misfit(fit: Fit, found: list[tuple[Magnitude, int]]) -> bool:
    """Whether a point lies outside its interval about the curve taken out; points too few for their skew do not testify."""
    each = 1 - SELF_CHECK / len(found)
    return any(
        abs(left) > student_quantile(each, m.draws - 1) * m.log_error
        for left, (m, needed) in zip(fit.residuals, found, strict=True)
        if m.draws >= needed
    )


def _remark(work: _Work, fit: Fit, half: float) -> None:
    precision = work.question.precision
    if precision is None:
        return
    if fit.systematic > precision:
        work.notes.append(f"the limit is known to +-{fit.systematic:.2g} only, however many draws: larger ranks would narrow it")
    elif half + fit.systematic > precision:
        more = (half / (precision - fit.systematic)) ** 2
        work.notes.append(f"+-{half + fit.systematic:.2g} instead of +-{precision:g}: some {more:.1f} times the draws would reach it")


def _sequential(work: _Work, pilots: list[Pilot], spread: np.ndarray, aim: Aim, known: KnownCurve | None) -> Estimate:
    q, sampler = work.question, work.sampler
    inquiry = Inquiry(
        ranks=q.ranks, statistic=sampler.task.setting.claim.statistic, level=q.level, width=q.width, known=known,
        margin=q.margin, precision=q.precision,
    )  # fmt: skip
    end = run_sequence(inquiry, pilots, spread, aim, work.draw, sampler.task.budget, work.report)
    work.note_epsilon()
    work.notes += end.notes
    if not math.isfinite(end.half):
        return work.record(end.curve, looks=end.looks)
    if known is not None and end.fit.residuals:
        work.take_out(known)
    return work.record(end.curve, end.fit, end.half, looks=end.looks)
