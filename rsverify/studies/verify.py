"""`verify`: every claim before all three witnesses, judged, written down as it goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsverify.definitions.claims import Setting, is_headline
from rsverify.definitions.devices import refuse_device
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.definitions.targets import Target, as_target
from rsverify.errors import InputError, NotDerivable, RsverifyError, known_arguments, suggest
from rsverify.files.locks import one_writer
from rsverify.files.writing import writable_folder
from rsverify.montecarlo.estimation import as_built
from rsverify.powerlaw import LARGEST, SMALLEST
from rsverify.records import Claim, Estimate, Measurement, Outcome, Prediction, Provenance, Row, Stability, Verdict
from rsverify.report.provenance import provenance
from rsverify.report.results import write_results
from rsverify.report.words import meaning, notes, sentence
from rsverify.stages import Progress, Stages
from rsverify.studies.simulation import TRAINED, Bench, bench_of, comparable, setting_of, simulate
from rsverify.verdict import MARGIN, expected_outcome, judge, outcome

if TYPE_CHECKING:
    from rsverify.training.model.problem import Problem

RULES = ("alpha/r", "alpha/sqrt(r)")
OPTIMIZERS = ("sgd", "adamw")
TRAIN_CEILING = 1024
"""Ranks above are left to Monte Carlo: on the committed base they exceed every width eightfold."""
STEPPED_DRAWS = 16
"""Of adapters whose steps are really taken, one draw after another; a draw's own slope has little spread there."""
ALIGNMENT = (
    "the root mean square of an update on a real batch depends on how its samples align, and no bracket of it is known for this adapter;"
    " its projection on the loss gradient does not"
)
TRAIN_DRAWS = 32
"""Student intervals at the level of the error budget need some 32 draws, not 3."""
ERROR_BUDGET = 1e-6
"""False failures of a whole table."""
ASKED: tuple[dict[str, Any], ...] = (
    {"quantity": "update", "statistic": "rms"},
    {"quantity": "update", "statistic": "projection"},
    {"quantity": "gradient_norm", "statistic": "frobenius", "steps": 0},
    {"quantity": "loss_decrease", "statistic": "rms"},
    {"quantity": "update", "statistic": "rms", "probe": "orthogonal"},
    {"quantity": "input_gradient", "statistic": "rms"},
)
"""The rows for each rule and optimizer; `definitions.claims` says which of them are headline."""


@dataclass
class _Table:
    """What has been said so far, by claim; becomes a verdict at any moment."""

    settings: tuple[Setting, ...]
    margin: float
    expect: Stability | None
    question: str
    made: Provenance
    details: dict[str, Any]
    hashes: dict[str, str] = field(default_factory=dict)
    predicted: dict[Claim, Prediction] = field(default_factory=dict)
    estimated: dict[Claim, Estimate] = field(default_factory=dict)
    measured: dict[Claim, Measurement] = field(default_factory=dict)
    silent: dict[Claim, dict[str, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """What the model itself has to be told of, before the notes on the rows."""

    def rows(self) -> tuple[Row, ...]:
        found = []
        for claim in (s.claim for s in self.settings):
            heard = claim in self.predicted or claim in self.estimated or claim in self.measured
            if not heard and claim not in self.silent:
                continue
            row = judge(
                claim,
                predicted=comparable(self.predicted.get(claim), self.estimated.get(claim)),
                estimated=self.estimated.get(claim),
                measured=self.measured.get(claim),
                silent=self.silent.get(claim, {}),
                headline=is_headline(claim) and not self.alone(claim),
                margin=self.margin,
            )
            found.append(dataclasses.replace(row, meaning=meaning(row)))
        return tuple(found)

    def alone(self, claim: Claim) -> bool:
        """Whether a claim has one witness at most by its nature: theory is silent, and a real batch shows its projection only."""
        return self.silent.get(claim, {}).get("training") == ALIGNMENT and claim not in self.predicted

    def verdict(self, *, complete: bool) -> Verdict:
        rows = self.rows()
        answer: Outcome = "inconclusive"
        if complete:
            answer = outcome(rows) if self.expect is None else expected_outcome(rows, self.expect)
        made = dataclasses.replace(self.made, hashes=dict(self.hashes), settings=dict(self.details))
        words = sentence(rows, answer, expect=self.expect, complete=complete)
        return Verdict(answer, complete, rows, made, self.question, words, (*self.remarks, *notes(rows)))


@known_arguments
def verify(
    adapter: Any = "lora",
    rules: Sequence[ScalingRule | str | Callable[[int, float], float]] | ScalingRule | str | None = None,
    *,
    declared: Any = None,
    optimizers: Sequence[Optimizer | str] | Optimizer | str = OPTIMIZERS,
    ranks: str | Sequence[int] | None = None,
    expect: Stability | None = None,
    quantity: str = "update",
    problem: Problem | None = None,
    quick: bool = False,
    alpha: float | None = None,
    seed: int = 0,
    margin: float = MARGIN,
    device: str = "cpu",
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Whether what must happen is what happens: derived, simulated and trained, for each rule and optimizer.

    Args:
        adapter: any target. Of a module as it is built theory speaks where it names a declaration (`init` of rv.Subject, a method of PEFT
            that is declared here) or `declared` does.
        rules: of a declaration any, by default alpha/r and alpha/sqrt(r); of a module the one that it follows.
        declared: the declaration that a module is held against; refused where the two differ at their first step.
        ranks: of every numeric witness; by default 4:256 trained, and simulated where the adapter's rank can grow: to 65536 where a
            draw's cost does not grow with it. Training stops at 1024.
        alpha: by default 20, or that of the target's settings.
        expect: judge only `quantity`, and hold when every rule and optimizer given shows this stability.
        problem: a model with a loss in place of the committed base.
        quick: no training and no torch.
        out: folder for results.json, rewritten after every witness, so that an interruption loses nothing.
        progress: called with (stage, done, total); each stage is also a line of level INFO of the log `rsverify.studies.verify`.
    Raises: RsverifyError for anything that cannot be meant, before any computation.
    """
    target = as_target(adapter)
    asked_optimizers = [as_optimizer(o) for o in ([optimizers] if isinstance(optimizers, Optimizer | str) else optimizers)]
    given_ranks = None if ranks is None else parse_ranks(ranks)
    same, remarks = True, ()
    if declared is not None:
        from rsverify.studies.beside import beside

        held = beside(target, declared, None if rules is None else _listed(rules), alpha=alpha, ranks=given_ranks)
        target, same, remarks = held.target, held.same, (held.remark,) if held.remark else ()
    asked_rules = _rules(target, rules)
    _refuse(asked_rules, asked_optimizers, given_ranks or TRAINED, alpha=alpha, margin=margin, seed=seed)
    bench = bench_of(target, asked_rules[0], asked_optimizers, ranks=given_ranks, quick=quick, alpha=alpha)
    alpha = bench.alpha
    train_ranks = tuple(r for r in given_ranks or bench.trained if r <= TRAIN_CEILING)
    settings = _settings(target, bench, asked_rules, asked_optimizers, expect=expect, quantity=quantity)
    if quick or not bench.cheap:
        settings = tuple(s for s in settings if expect is not None or is_headline(s.claim))
    for rule in asked_rules:
        rule.at(bench.sizes.ranks, alpha)
    folder = writable_folder(out) if out is not None else None
    refuse_device(device)
    if not quick and problem is None:
        _refuse_base()
    table = _Table(
        settings=settings,
        margin=margin,
        expect=expect,
        question=_question(target.name, asked_rules, asked_optimizers, expect, quantity),
        made=provenance(seed=seed, device="cpu" if quick else device),
        remarks=remarks,
        details={
            "alpha": alpha, "d_in": bench.sizes.d_in, "d_out": bench.sizes.d_out, "estimate_ranks": list(bench.sizes.ranks),
            "error_budget": ERROR_BUDGET,
            **({} if quick else {"train_ranks": list(train_ranks), "train_draws": TRAIN_DRAWS, "dtype": "float64"}),
        },
    )  # fmt: skip
    report = Stages(__name__, progress)
    with nullcontext() if folder is None else one_writer(folder):
        try:
            stages = [_derive_all(table, target, same=same), _estimate_all(table, target, bench)]
            stages.append(_skip_training(table) if quick else _measure_all(table, target, train_ranks, alpha, problem))
            for stage in stages:
                for what, done, total in stage:
                    report(what, done, total)
                    if folder is not None:
                        write_results(table.verdict(complete=False), folder / "results.json")
        except KeyboardInterrupt:
            if folder is not None:
                write_results(table.verdict(complete=False), folder / "results.json")
            raise
        verdict = table.verdict(complete=True)
        if folder is not None:
            write_results(verdict, folder / "results.json")
    return verdict


def _listed(rules: Any) -> list[ScalingRule]:
    several: Any = [rules] if isinstance(rules, ScalingRule | str) or callable(rules) else rules
    return [as_rule(rule) for rule in several]


def _rules(target: Target, rules: Any) -> list[ScalingRule]:
    """The rules asked about: a module has its own.

    Raises: InputError for none, or for several of a module.
    """
    if rules is None:
        return _listed(RULES if target.several_rules else target.rule or as_built)
    listed = _listed(rules)
    if not listed:
        raise InputError("verify needs at least one rule and one optimizer")
    if len(listed) > 1 and not target.several_rules:
        shown = " and ".join(rule.text for rule in listed)
        raise InputError(
            f"rules={shown}: {target.name} is a module that applies its own rule; give the one that it follows, or a declaration to compare"
            " several"
        )
    return listed


def _settings(
    target: Target, bench: Bench, rules: Sequence[ScalingRule], optimizers: Sequence[Optimizer], *, expect: Stability | None, quantity: str
) -> tuple[Setting, ...]:
    if not optimizers:
        raise InputError("verify needs at least one rule and one optimizer")
    asked = [dict(a) for a in ASKED]
    if expect is not None:
        if expect not in ("stable", "collapses", "explodes"):
            known = ("stable", "collapses", "explodes")
            raise InputError(f"expect={expect!r}; expected one of {', '.join(known)}{suggest(str(expect), known)}")
        headline = [a for a in asked if a["quantity"] == quantity and a.get("probe", "aligned") == "aligned"]
        asked = headline or [{"quantity": quantity, "statistic": "rms"}]
    return tuple(
        setting_of(target, rule, optimizer=optimizer, regime=bench.sizes.regime, **a)
        for optimizer in optimizers
        for rule in rules
        for a in asked
    )


def _refuse(
    rules: Sequence[ScalingRule], optimizers: Sequence[Optimizer], ranks: Sequence[int], *, alpha: float | None, margin: float, seed: int
) -> None:
    if len(ranks) < 2:
        raise InputError(f"ranks={list(ranks)}: an exponent needs at least two ranks, better five")
    if alpha is not None and not SMALLEST <= alpha <= LARGEST:
        raise InputError(f"alpha={alpha}; expected a positive number from {SMALLEST:g} to {LARGEST:g}: powers of any other leave floats")
    if not 0 < margin < 0.25:
        raise InputError(f"margin={margin}; expected 0 < margin < 0.25: rules in use differ by 1/2, a wider margin cannot tell them apart")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r}; expected a whole number from 0")
    for kind, texts in (("rule", [rule.text for rule in rules if rule.function is None]), ("optimizer", [o.text for o in optimizers])):
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            raise InputError(f"{kind} {twice[0]!r} is given twice: its rows would count twice; give each once")
    for rule in rules:
        rule.at(ranks, ALPHA if alpha is None else alpha)


def _refuse_base() -> None:
    """Refuse a damaged base before the other witnesses have worked for nothing."""
    from rsverify.training.model.base import check_base

    check_base()


def _question(name: str, rules: Sequence[ScalingRule], optimizers: Sequence[Optimizer], expect: Stability | None, quantity: str) -> str:
    what = f"{name} with {' and '.join(r.text for r in rules)} under {' and '.join(o.text for o in optimizers)}"
    if expect is not None:
        return f"Is the {quantity} of {what} {expect} as rank grows?"
    return f"How do activations, gradients and learning of {what} change as rank grows, and do theory, simulation and training agree?"


def _silence(table: _Table, claim: Claim, witness: str, reason: str) -> None:
    table.silent.setdefault(claim, {})[witness] = reason


def _derive_all(table: _Table, target: Target, *, same: bool) -> Iterator[tuple[str, int, int]]:
    from rsverify.symbolic import derive

    yield "derive", 0, len(table.settings)
    for index, s in enumerate(table.settings, start=1):
        try:
            declaration: Any = target.derivable
            prediction = derive(declaration, s.rule, optimizer=s.optimizer, **_asked(s.claim))
            magnitude = {} if same else {"formula": None, "exact": False, "error_order": "a constant, the spread at init"}
            table.predicted[s.claim] = dataclasses.replace(prediction, claim=s.claim, **magnitude)
        except NotDerivable as error:
            _silence(table, s.claim, "symbolic", error.reason)
        except RsverifyError as error:
            _silence(table, s.claim, "symbolic", str(error))
        yield "derive", index, len(table.settings)


def _estimate_all(table: _Table, target: Target, bench: Bench) -> Iterator[tuple[str, int, int]]:
    from rsverify.montecarlo import Store

    # Every point of every curve, every exponent, and as many again for training.
    statements = len(table.settings) * 2 * (bench.most + 1)
    gradients: dict[tuple[str, str], Estimate] = {}
    store = Store()  # one draw of A serves every rule, optimizer and quantity: errors are correlated, and Bonferroni's bound holds
    yield "simulate", 0, len(table.settings)
    for index, s in enumerate(table.settings, start=1):
        try:
            at_init = (s.rule.text, s.claim.statistic) if s.claim.steps == 0 else None
            if at_init in gradients:  # no optimizer has moved anything: one simulation serves all
                table.estimated[s.claim] = dataclasses.replace(gradients[at_init], claim=s.claim)
            else:
                table.estimated[s.claim] = simulate(
                    target, bench, s, predicted=table.predicted.get(s.claim), seed=table.made.seed, margin=table.margin,
                    error_budget=ERROR_BUDGET, statements=statements, store=store,
                )  # fmt: skip
                if at_init is not None:
                    gradients[at_init] = table.estimated[s.claim]
        except RsverifyError as error:
            _silence(table, s.claim, "montecarlo", str(error))
        yield "simulate", index, len(table.settings)


def _skip_training(table: _Table) -> Iterator[tuple[str, int, int]]:
    for s in table.settings:
        _silence(table, s.claim, "training", "not asked: --quick trains nothing")
    yield from ()


def _measure_all(
    table: _Table, target: Target, ranks: tuple[int, ...], alpha: float, problem: Problem | None
) -> Iterator[tuple[str, int, int]]:
    from rsverify.statistics.intervals import level_for
    from rsverify.studies.controls import controlled
    from rsverify.training import fine_tuning_problem, measure_all
    from rsverify.training.first_step.witness import has_closed_form, trained_setting

    if len(ranks) < 2:
        for s in table.settings:
            _silence(table, s.claim, "training", f"fewer than two of the ranks are at most {TRAIN_CEILING}")
        yield "train", 1, 1
        return
    closed = all(has_closed_form(s) for s in table.settings if s.claim.probe == "aligned")
    draws = TRAIN_DRAWS if closed else STEPPED_DRAWS
    table.details |= {"train_ranks": list(ranks), "train_draws": draws}
    yield "load the model", 0, 1
    own = problem is not None
    if problem is None:
        problem = fine_tuning_problem(seed=table.made.seed, device=table.made.device)
    table.hashes.update(problem.hashes)
    table.details |= {"model": problem.name, "adapted": list(problem.targets)}
    table.remarks = (*table.remarks, *problem.notes)
    level = level_for(ERROR_BUDGET, 2 * len(table.settings))
    by_optimizer: dict[str, list[Setting]] = {}
    for s in table.settings:
        by_optimizer.setdefault(s.optimizer.text, []).append(s)
    attached: list[Setting] = []
    yield "train", 0, len(by_optimizer)
    # One pass for each optimizer, so that an interruption keeps the passes before it; the draws of A are the same in all.
    for index, group in enumerate(by_optimizer.values(), start=1):
        trained = {
            trained_setting(target.build or target.derivable, s.rule, optimizer=s.optimizer, **_asked(s.claim)): s.claim for s in group
        }
        answers: Mapping[Claim, Measurement | str] = measure_all(
            list(trained), problem=problem, ranks=ranks, draws=draws, alpha=alpha, seed=table.made.seed, level=level
        )
        attached += [dataclasses.replace(s, claim=claim) for s, claim in trained.items()]
        for s, claim in trained.items():
            answer = answers[s.claim]
            if isinstance(answer, str):
                _silence(table, claim, "training", answer)
            elif not closed and claim.quantity in ("output", "update") and claim.statistic != "projection":
                _silence(table, claim, "training", ALIGNMENT)
            else:
                table.measured[claim] = dataclasses.replace(answer, claim=claim)
        yield "train", index, len(by_optimizer)
    yield "controls", 0, 1
    table.measured = controlled(attached, table.measured, problem=problem, alpha=alpha, seed=table.made.seed, float64=not own)
    yield "controls", 1, 1


def _asked(claim: Claim) -> dict[str, Any]:
    names = ("quantity", "statistic", "probe", "steps", "regime")
    return {name: getattr(claim, name) for name in names}
