"""The atlas as a sweep: derive and simulate every case, read the stable rule off both, simulate that too, judge."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.rules import ALPHA, ScalingRule
from rsverify.errors import InputError, RuleError, refuse_no_workers
from rsverify.records import Agreement, Claim, Estimate, Measurement, Outcome, Prediction, Row, StableScaling, from_json
from rsverify.report.provenance import provenance
from rsverify.report.rooms import room_hashes
from rsverify.report.words import meaning
from rsverify.stages import Progress, Stages
from rsverify.studies.atlas import cells
from rsverify.studies.atlas.answers import answer_of, sentence_of, speaking, witnesses_of
from rsverify.studies.atlas.fingerprint import fingerprint
from rsverify.studies.atlas.libraries import BLACK_BOXES, WITNESS, black_box
from rsverify.studies.atlas.plainly import plainly
from rsverify.studies.atlas.record import Atlas, Entry, Role
from rsverify.studies.atlas.rules import Named, flags, named_rule, rule_with_power
from rsverify.studies.atlas.variants import Sizes, Variant, chosen
from rsverify.sweep import Cell, Identity, Journal, open_executor, run_sweep
from rsverify.verdict import MARGIN, judge

OPTIMIZERS = ("sgd", "adamw")
QUICK_OPTIMIZERS = ("sgd", "adamw")
QUICK_SIMULATED = ("lora", "loha", "vera")
"""What `--quick` simulates beside theory: one adapter whose factors know nothing of the rank, one whose laws do, one without a rule."""
ERROR_BUDGET = 1e-6
"""False failures of the whole table."""
REFERENCE_RANK = 16
WHOLE = 4
"""Powers that were only simulated are read as multiples of one over this."""
HOME = cells.__name__
ROOMS = (
    "rsverify/symbolic", "rsverify/montecarlo", "rsverify/definitions", "rsverify/statistics", "rsverify/expressions.py",
    "rsverify/powerlaw.py", "rsverify/verdict.py", "rsverify/studies/atlas",
    *(f"rsverify/conformance/{part}.py" for part in ("bench", "declared", "outcomes", "registry", "subject")), "rsverify/interop/peft",
    "rsverify/training/adapters/contraction.py",
)  # fmt: skip
"""The source that decides the numbers of the atlas."""
QUICK_SILENCE = "not asked: --quick simulates a few variants only, beyond the widths"
LIBRARY_QUICK = "not asked: --quick leaves PEFT's own layers out"


@dataclass(frozen=True)
class Case:
    """A variant under an optimizer in one regime."""

    variant: Variant
    optimizer: Optimizer
    sizes: Sizes

    def asked(self, **other: Any) -> dict[str, Any]:
        usual = {"quantity": "update", "statistic": "rms", "probe": "aligned", "steps": 1}
        return {"optimizer": self.optimizer.text, "regime": self.sizes.regime, **usual, **other}


CONTEXT = {"quantity": "gradient_norm", "statistic": "frobenius", "steps": 0}


@dataclass(frozen=True)
class Plan:
    """What is the same for every cell; its settings are the journal's identity."""

    names: tuple[str, ...]
    optimizers: tuple[str, ...]
    quick: bool
    alpha: float
    seed: int
    margin: float
    error_budget: float
    match_at: int | None
    reference: int
    cases: tuple[Case, ...]

    @property
    def statements(self) -> int:
        """Every point of every curve and every exponent: three rules and a line of context for each case; PEFT's layer knows two."""
        own = sum(4 * (case.sizes.most + 1) for case in self.cases)
        boxes = (BLACK_BOXES[case.variant.name] for case in self.cases if case.variant.name in BLACK_BOXES)
        return own + sum(3 * (box.sizes.most + 1) for box in boxes)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "adapters": list(self.names), "optimizers": list(self.optimizers), "quick": self.quick, "alpha": self.alpha,
            "seed": self.seed, "margin": self.margin, "error_budget": self.error_budget, "match_at": self.match_at,
            "learning_rate": cells.LEARNING_RATE,
        }  # fmt: skip

    def rule(self, case: Case, name: str) -> Named:
        return named_rule(case.variant.rule, name, match_at=self.match_at)


@dataclass
class _Answers:
    """What the witnesses said of each (case, rule, asked), by the key of the cell."""

    derived: dict[tuple[Case, str, str], Mapping[str, Any]] = field(default_factory=dict)
    simulated: dict[tuple[Case, str, str], Mapping[str, Any]] = field(default_factory=dict)
    built: dict[tuple[Case, str, str], Mapping[str, Any]] = field(default_factory=dict)

    def of(self, function: str) -> dict[tuple[Case, str, str], Mapping[str, Any]]:
        """What one function of the cells answered."""
        return {"derive_cell": self.derived, "simulate_cell": self.simulated, "library_cell": self.built}[function]


def atlas(
    names: Sequence[str] = (),
    *,
    optimizers: Sequence[Optimizer | str] = OPTIMIZERS,
    quick: bool = False,
    match_at: int | None = None,
    reference: int = REFERENCE_RANK,
    alpha: float = ALPHA,
    seed: int = 0,
    margin: float = MARGIN,
    error_budget: float = ERROR_BUDGET,
    workers: int | None = None,
    executor: str | None = None,
    scheduler: str | None = None,
    journal: Path | str | None = None,
    progress: Progress | None = None,
) -> Atlas:
    """Which scaling rule is stable for each variant and optimizer, and whether the shipped one is: derived, simulated, judged.

    Args:
        names: of variants (`variants()`); all of them where none is given.
        quick: theory for everything, simulation of a few.
        match_at: a rank at which every rule compared is brought to the shipped rule's scale.
        reference: the rank at which scales are compared, and flagged where they differ.
        workers: processes; 1 works in this one. executor, scheduler: as for `sweep.open_executor`; by default processes.
        journal: file that keeps finished cells, so that the same call goes on where it was stopped.
    Raises: UnknownName, InputError, RuleError before any computation; JournalError where the journal is another run's.
    """
    refuse_no_workers(workers)
    plan = _plan(tuple(names), optimizers, quick, match_at, reference, alpha, seed, margin, error_budget)
    said = _Answers()
    report = Stages(__name__, progress)
    with ExitStack() as stack:
        kept = stack.enter_context(Journal(journal, Identity("atlas", plan.settings))) if journal is not None else None
        kind = executor or ("serial" if workers == 1 or quick else "processes")
        pool = stack.enter_context(open_executor(kind, workers=workers or min(2, os.cpu_count() or 1), scheduler=scheduler))

        def run(jobs: Sequence[tuple[str, Case, str, dict[str, Any]]], what: str) -> None:
            report(what, 0, len(jobs))
            asked = [_cell(plan, *job) for job in jobs]
            done = run_sweep(asked, journal=kept, executor=pool, progress=lambda n, total, cell: report(what, n, total))
            for (function, case, rule, question), outcome in zip(jobs, done, strict=True):
                said.of(function)[case, rule, question["quantity"]] = outcome.result

        run(list(_first(plan)), "derive and simulate")
        run(list(_second(plan, said)), "the stable rules")
    return _judged(plan, said)


def _plan(
    names: tuple[str, ...], optimizers: Sequence[Optimizer | str], quick: bool, match_at: int | None, reference: int, alpha: float,
    seed: int, margin: float, error_budget: float,
) -> Plan:  # fmt: skip
    found = chosen(names)
    asked = tuple(dict.fromkeys(as_optimizer(o) for o in optimizers))
    if not asked:
        raise InputError("optimizers=[]; the atlas needs at least one: a rule is right for one and wrong for the next")
    for name, rank in (("match_at", match_at), ("reference", reference)):
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
            raise InputError(f"{name}={rank!r}; expected a rank, a whole number from 1")
    if not alpha > 0 or alpha == float("inf"):
        raise InputError(f"alpha={alpha}; expected a positive number")
    if not 0 < margin < 0.25:
        raise InputError(f"margin={margin}; expected 0 < margin < 0.25: rules in use differ by 1/2, a wider margin cannot tell them apart")
    if not 0 < error_budget < 1:
        raise InputError(f"error_budget={error_budget}; expected a rate between 0 and 1, e.g. 1e-6")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r}; expected a whole number from 0")
    cases = tuple(Case(v, o, sizes) for v in found for o in asked for sizes in v.regimes)
    names = tuple(v.name for v in found)
    return Plan(names, tuple(o.text for o in asked), quick, alpha, seed, margin, error_budget, match_at, reference, cases)


def _cell(plan: Plan, function: str, case: Case, rule: str, asked: Mapping[str, Any]) -> Cell:
    configuration: dict[str, Any] = {"variant": case.variant.name, "rule": rule, "asked": dict(asked)}
    if function != "derive_cell":
        sizes = case.sizes
        if function == "library_cell":
            box = BLACK_BOXES[case.variant.name]
            sizes, configuration["target"] = box.sizes, _target(plan, case, rule)[0]
            configuration["box"] = {"fresh": box.fresh, "precision": box.precision}
        configuration |= {
            "sizes": asdict(sizes), "alpha": plan.alpha, "margin": plan.margin, "error_budget": plan.error_budget,
            "statements": plan.statements,
        }  # fmt: skip
    return Cell(f"{HOME}:{function}", configuration, plan.seed)


def _simulates(plan: Plan, case: Case) -> bool:
    return not plan.quick or (case.sizes is case.variant.sizes and case.variant.name in QUICK_SIMULATED)


def _target(plan: Plan, case: Case, rule: str) -> tuple[str, str]:
    """PEFT's target for a rule, or why its own layer is silent."""
    if plan.quick:
        return "", LIBRARY_QUICK
    if plan.match_at is not None:
        return "", "rules matched at a rank are no rules of PEFT"
    shipped, root = (plan.rule(case, name).text for name in ("shipped", "root"))
    return black_box(case.variant.name, case.sizes, rule, shipped=shipped, root=root)


def _first(plan: Plan) -> Iterator[tuple[str, Case, str, dict[str, Any]]]:
    for case in plan.cases:
        asked = case.asked()
        for rule in dict.fromkeys(plan.rule(case, name).text for name in ("shipped", "root")):
            yield "derive_cell", case, rule, asked
            if _simulates(plan, case):
                yield "simulate_cell", case, rule, asked
            if _target(plan, case, rule)[0]:
                yield "library_cell", case, rule, asked
    for case in _context_cases(plan):
        asked = case.asked(**CONTEXT)
        rule = plan.rule(case, "shipped").text
        yield "derive_cell", case, rule, asked
        if _simulates(plan, case):
            yield "simulate_cell", case, rule, asked
        if _target(plan, case, rule)[0]:
            yield "library_cell", case, rule, asked


def _context_cases(plan: Plan) -> list[Case]:
    """The gradient at init does not know the optimizer: one line for each variant and regime."""
    return [case for case in plan.cases if case.optimizer.text == plan.optimizers[0]]


def _second(plan: Plan, said: _Answers) -> Iterator[tuple[str, Case, str, dict[str, Any]]]:
    for case in plan.cases:
        p = stable_power(plan, case, said)[0]
        rule = None if p is None else rule_with_power(case.variant.rule, p, match_at=plan.match_at)
        if rule is None or (case, rule.text, "update") in said.derived:
            continue
        yield "derive_cell", case, rule.text, case.asked()
        if _simulates(plan, case):
            yield "simulate_cell", case, rule.text, case.asked()
        if _target(plan, case, rule.text)[0]:
            yield "library_cell", case, rule.text, case.asked()


def solved(plan: Plan, case: Case, said: _Answers) -> StableScaling | None:
    """What the solver said of a case."""
    found = said.derived[case, plan.rule(case, "shipped").text, "update"]
    return from_json(StableScaling, found["solved"]) if "solved" in found else None


def estimated(case: Case, rule: str, said: _Answers, quantity: str = "update") -> Estimate | None:
    """What simulation said of a case under a rule."""
    found = said.simulated.get((case, rule, quantity), {})
    return from_json(Estimate, found["estimate"]) if "estimate" in found else None


def measured_terms(plan: Plan, case: Case, said: _Answers) -> tuple[float, float] | None:
    """(a, b) of gamma**a * r**b, from the exponents under two rules whose powers differ."""
    shipped, root = plan.rule(case, "shipped"), plan.rule(case, "root")
    seen = [estimated(case, rule.text, said) for rule in (shipped, root)]
    if shipped.power == root.power or any(one is None or one.exponent is None for one in seen):
        return None
    e, f = (float(one.exponent) for one in seen if one is not None and one.exponent is not None)
    a = (e - f) / float(root.power - shipped.power)
    return a, e + a * float(shipped.power)


def stable_power(plan: Plan, case: Case, said: _Answers) -> tuple[Fraction | None, tuple[str, ...]]:
    """p of the stable rule and the witnesses that found it; theory first, since it is exact."""
    theory, measured = solved(plan, case, said), measured_terms(plan, case, said)
    from_numbers = None
    if measured is not None and abs(measured[0]) > plan.margin:
        from_numbers = Fraction(round(WHOLE * measured[1] / measured[0]), WHOLE)
    if theory is not None and theory.rule_exponent is not None:
        both = from_numbers == theory.rule_exponent
        return theory.rule_exponent, ("symbolic", "montecarlo") if both else ("symbolic",)
    return from_numbers, () if from_numbers is None else ("montecarlo",)


def _judged(plan: Plan, said: _Answers) -> Atlas:
    entries: list[Entry] = []
    answers = []
    compared: list[tuple[Case, list[Named]]] = []
    for case in plan.cases:
        p, witnesses = stable_power(plan, case, said)
        roles: dict[str, list[Role]] = {plan.rule(case, "shipped").text: ["shipped"]}
        rules = {rule.text: rule for rule in (plan.rule(case, "shipped"), plan.rule(case, "root"))}
        roles.setdefault(plan.rule(case, "root").text, []).append("1/sqrt(r)")
        stable = None if p is None else rule_with_power(case.variant.rule, p, match_at=plan.match_at)
        if stable is not None:
            stable = next((rule for rule in rules.values() if rule.power == stable.power), stable)
            rules.setdefault(stable.text, stable)
            roles.setdefault(stable.text, []).append("stable")
        rows = {text: _row(plan, case, text, case.asked(), said) for text in rules}
        entries += [_entry(plan, case, rules[text], tuple(roles[text]), row) for text, row in rows.items()]
        compared.append((case, list(rules.values())))
        answers.append(
            answer_of(
                case.variant, case.optimizer.text, case.sizes.regime, solved=solved(plan, case, said),
                measured=measured_terms(plan, case, said), stable=stable, found_by=witnesses, rows=rows,
                shipped=plan.rule(case, "shipped"), root=plan.rule(case, "root"), other=_other(plan, case, said), margin=plan.margin,
            )
        )  # fmt: skip
    for case in _context_cases(plan):
        rule = plan.rule(case, "shipped")
        entries.append(_entry(plan, case, rule, ("context",), _row(plan, case, rule.text, case.asked(**CONTEXT), said)))
    verdict = outcome(entries)
    found = tuple(dict.fromkeys(text for case, rules in compared for text in flags(
        case.variant.name, rules, alpha=plan.alpha, reference=plan.match_at or plan.reference)))  # fmt: skip
    hashes = {"atlas": fingerprint(), **room_hashes(ROOMS)}
    made = provenance(seed=plan.seed, device="cpu", hashes=hashes, settings={**plan.settings, "statements": plan.statements})
    return Atlas(
        verdict, True, sentence_of(entries, verdict), tuple(entries), tuple(answers), plainly(answers), found,
        plan.match_at or plan.reference, plan.match_at is not None, plan.margin, plan.error_budget, plan.statements, made,
    )  # fmt: skip


def _other(plan: Plan, case: Case, said: _Answers) -> Fraction | None:
    for other in plan.cases:
        if (other.variant, other.optimizer) == (case.variant, case.optimizer) and other.sizes is not case.sizes:
            found = solved(plan, other, said)
            return None if found is None else found.rule_exponent
    return None


def _row(plan: Plan, case: Case, rule: str, asked: Mapping[str, Any], said: _Answers) -> Row:
    quantity = asked["quantity"]
    claim = Claim(case.variant.name, case.variant.init, rule, case.optimizer.text, **{k: v for k, v in asked.items() if k != "optimizer"})
    derived, simulated = said.derived[case, rule, quantity], said.simulated.get((case, rule, quantity))
    silent = {}
    prediction = None
    if "prediction" in derived:
        prediction = from_json(Prediction, derived["prediction"])
        if case.variant.fresh_data:
            # The formula is that of flat data and a known spectrum; what is simulated has neither. The power must be the same.
            prediction = replace(prediction, formula=None)
    else:
        silent["symbolic"] = derived["silent"]
    estimate = estimated(case, rule, said, quantity)
    if simulated is None:
        silent["montecarlo"] = QUICK_SILENCE
    elif estimate is None:
        silent["montecarlo"] = simulated["silent"]
    measured, reason = _library(plan, case, rule, quantity, said)
    if measured is None:
        silent["library"] = reason
    row = judge(
        claim, predicted=prediction, estimated=estimate, measured=measured, silent=silent, headline=quantity == "update",
        margin=plan.margin,
    )  # fmt: skip
    return replace(row, meaning=meaning(row))


def _library(plan: Plan, case: Case, rule: str, quantity: str, said: _Answers) -> tuple[Measurement | None, str]:
    """What PEFT's own layer showed, as a record of its own; or why it is silent."""
    found = said.built.get((case, rule, quantity))
    if found is None:
        return None, _target(plan, case, rule)[1]
    if "silent" in found:
        return None, found["silent"]
    e = from_json(Estimate, found["estimate"])
    made = Measurement(
        e.claim, e.exponent, e.interval, e.level, e.curve, (), _target(plan, case, rule)[0], zero=e.zero, data=e.data, notes=e.notes,
        witness=WITNESS, drawn=e.draws,
    )  # fmt: skip
    return made, ""


def _entry(plan: Plan, case: Case, rule: Named, roles: tuple[Role, ...], row: Row) -> Entry:
    gamma = ScalingRule(rule.text).gamma(plan.match_at or plan.reference, plan.alpha)
    return Entry(case.variant.name, case.variant.library, roles, row, gamma)


def outcome(entries: Sequence[Entry]) -> Outcome:
    """Holds where no number contradicts another, every number of two witnesses is confirmed, and every silence has its reason."""
    agreements: list[Agreement] = []
    for entry in entries:
        row = entry.row
        if speaking(row) > 1:
            agreements.append(row.agreement)
        if any(record is None and witness not in row.silent for witness, record in witnesses_of(row).items()):
            raise InputError(f"{row.claim.adapter}: a witness is silent without a reason; this is a bug of the atlas")
    if "refuted" in agreements:
        return "does_not_hold"
    return "holds" if agreements and all(answer == "confirmed" for answer in agreements) else "inconclusive"


__all__ = ["ERROR_BUDGET", "OPTIMIZERS", "QUICK_OPTIMIZERS", "REFERENCE_RANK", "RuleError", "atlas", "outcome"]
