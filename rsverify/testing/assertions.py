"""Assertions in the theory's words, three-valued: what cannot be told fails too, and names the price of an answer.

    assert_rank_stable("lora", "alpha/sqrt(r)", quantity="update", optimizer="sgd")

A claim without its quantity and optimizer is half a claim, so both must be given; every message names them, and the
statistic, probe, regime and steps beside them. The judge is the one of `verify`: theory speaks where it can, simulation
always does, and where the two disagree nothing holds.

An implementation is asserted about as a declaration is: a function build(rank, base, alpha) that makes torch modules, or an
rv.Subject. Its modules are simulated as they are built, and simulation alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.registry import as_declared
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError, NotDerivable, RuleError
from rsverify.records import Claim, Estimate, Prediction, Row, Stability
from rsverify.statistics.design import RATIO_MARGIN, SHARE
from rsverify.testing.rules import assert_linear_in_alpha, assert_monotone, assert_scale
from rsverify.testing.statements import ERROR_BUDGET, Answer, Inconclusive, Statement, announce
from rsverify.verdict import MARGIN, draws_to_settle, interval_agreement, judge

if TYPE_CHECKING:
    from rsverify.montecarlo import Budget

__all__ = [
    "Inconclusive", "assert_collapses", "assert_explodes", "assert_exponent", "assert_identity_at_init", "assert_linear_in_alpha",
    "assert_merge_equivalent", "assert_monotone", "assert_rank_stable", "assert_scale",
]  # fmt: skip

RANKS = (3, 8, 50, 256, 1021)
"""Far enough for the limit to show, few enough for a test; powers of two, primes and an even one: rules have special cases."""

Rule = ScalingRule | str | Callable[[int, float], float]
Judged = Adapter | WrappedAdapter | str | Callable[..., Any]
"""A declared adapter by object or name, a function build(rank, base, alpha), or an rv.Subject (which is no type of this light module)."""

MODULE_DRAWS = 20_000
"""Draws of a module, all ranks together, where the caller sets no budget: some twenty seconds at the most."""


def assert_rank_stable(
    adapter: Judged | Any,
    rule: Rule | None = None,
    *,
    quantity: str,
    optimizer: Optimizer | str,
    allow_inconclusive: bool = False,
    **options: Any,
) -> Row:
    """The quantity neither vanishes nor grows with rank: its exponent lies within +-margin of 0.

    Args:
        adapter: declared (object or name), a function build(rank, base, alpha), a module's class included, or an rv.Subject.
        rule: may be left out for what has one: the usual rule of a declaration, the claimed one of a subject. Modules are simulated as
            they are built, and it is not applied to them.
        options: statistic="rms", probe="aligned", steps=1, regime="rank", ranks=RANKS, alpha=20, seed=0, margin=0.1, d_in=24,
            d_out=16, budget=rv.Budget(...), error_budget (rate of false failures; the plugin's, or 1e-6).
    Returns: the judged row, for a closer look.
    Raises: AssertionError where it does not hold; its subclass Inconclusive, with the price, where nobody can tell.
    """
    return _assert_stability("stable", adapter, rule, quantity, optimizer, allow_inconclusive, options)


def assert_collapses(
    adapter: Judged | Any,
    rule: Rule | None = None,
    *,
    quantity: str,
    optimizer: Optimizer | str,
    allow_inconclusive: bool = False,
    **options: Any,
) -> Row:
    """The quantity vanishes as rank grows: its exponent lies below -margin. Arguments and errors as `assert_rank_stable`."""
    return _assert_stability("collapses", adapter, rule, quantity, optimizer, allow_inconclusive, options)


def assert_explodes(
    adapter: Judged | Any,
    rule: Rule | None = None,
    *,
    quantity: str,
    optimizer: Optimizer | str,
    allow_inconclusive: bool = False,
    **options: Any,
) -> Row:
    """The quantity grows without bound with rank: its exponent lies above margin. Arguments and errors as `assert_rank_stable`."""
    return _assert_stability("explodes", adapter, rule, quantity, optimizer, allow_inconclusive, options)


def assert_exponent(
    adapter: Judged | Any,
    rule: Rule | None = None,
    *,
    exponent: float | Fraction,
    quantity: str,
    optimizer: Optimizer | str,
    allow_inconclusive: bool = False,
    **options: Any,
) -> Row:
    """The quantity goes as r**exponent, within +-margin. Further arguments and errors as `assert_rank_stable`."""
    if not math.isfinite(exponent):
        raise InputError(f"exponent={exponent!r}; expected a finite power of r, e.g. Fraction(-1, 2)")
    row, rate = _judged(adapter, rule, quantity, optimizer, options)
    wanted = f"exponent {exponent} +- {row.margin:g}"
    seen, derived = row.estimated, row.predicted
    assert seen is not None
    lo, hi = float(exponent) - row.margin, float(exponent) + row.margin
    if seen.zero:
        return _answer("refuted", row, wanted, rate, allow_inconclusive, float(exponent))
    answers: set[Answer] = {row.agreement, "inconclusive" if seen.interval is None else interval_agreement(seen.interval, lo, hi)}
    if derived is not None and derived.exponent is not None:
        answers.add("confirmed" if lo <= float(derived.exponent) <= hi else "refuted")
    return _answer(_all_of(answers, derived), row, wanted, rate, allow_inconclusive, float(exponent))


def assert_identity_at_init(subject: Any, *, allow_inconclusive: bool = False) -> None:
    """The output at init is the pretrained layer's, up to rounding: on every shape of layer, at every rank tried.

    Args: subject is what `rv.check_adapter` takes: a name, a declared adapter, a build function, an rv.Subject. What it claims to
        be at init does not matter here. Raises: as `assert_rank_stable`.
    """
    from rsverify.conformance.runner import as_subject

    found = as_subject(subject)
    if found.claim == "random":
        found = replace(found, init="identity")
    _assert_checks(found, "output at init, as a difference from the pretrained layer's, zero up to rounding", ("check_init_identity",),
                   allow_inconclusive)  # fmt: skip


def assert_merge_equivalent(subject: Any, *, allow_inconclusive: bool = False) -> None:
    """The output after merging is the output before, and so is the merged weight's; after unmerging the weight is as it was.

    Merged and unmerged are each held against the base weight plus what the adapter adds: merge and unmerge can hide each
    other's error. Arguments and errors as `assert_identity_at_init`; without a merge capability nothing can be told.
    """
    from rsverify.conformance.runner import as_subject

    names = ("check_merge_function", "check_merge_weight", "check_merge_twice", "check_unmerge_restores", "check_unmerge_scaled")
    _assert_checks(as_subject(subject), "output and weight after merging, as before up to rounding", names, allow_inconclusive)


def _assert_checks(subject: Any, what: str, names: Sequence[str], allow_inconclusive: bool) -> None:
    from rsverify.conformance import check_adapter

    results = check_adapter(subject, only=["check_build_module", *names], on_fail="return")
    failed = [f"{result.name}: {result.reason}" for result in results if result.status == "failed"]
    ran = [result for result in results if result.status == "passed" and result.name in names]
    answer: Answer = "refuted" if failed else "confirmed" if ran else "inconclusive"
    claimed = subject.declared.name if subject.declared is not None else "the subject"
    text = f"{what}; of {claimed} under {subject.scaling}, no optimizer step"
    announce(Statement(text, answer))
    if failed:
        raise AssertionError(f"does not hold: {text}; {'; '.join(failed)}")
    if not ran and not allow_inconclusive:
        price = "; ".join(dict.fromkeys(result.reason for result in results if result.status == "skipped"))
        raise Inconclusive(f"cannot tell whether {text}: {price}", price)


def _assert_stability(
    wanted: Stability,
    adapter: Judged | Any,
    rule: Rule | None,
    quantity: str,
    optimizer: Optimizer | str,
    allow_inconclusive: bool,
    options: dict[str, Any],
) -> Row:
    row, rate = _judged(adapter, rule, quantity, optimizer, options)
    open_ = row.stability == "inconclusive"
    answers: set[Answer] = {row.agreement, "inconclusive" if open_ else "confirmed" if row.stability == wanted else "refuted"}
    return _answer(_all_of(answers, row.predicted), row, wanted, rate, allow_inconclusive, 0.0)


def _all_of(answers: set[Answer], derived: Prediction | None) -> Answer:
    """Refuted by one is refuted; where no theory speaks, simulation alone decides and nothing can be compared."""
    if "refuted" in answers:
        return "refuted"
    if derived is None:
        answers = answers - {"inconclusive"} or answers
    return "inconclusive" if "inconclusive" in answers else "confirmed"


def _judged(
    adapter: Judged | Any, rule: Rule | None, quantity: str, optimizer: Optimizer | str, options: dict[str, Any]
) -> tuple[Row, float]:
    """Ask theory and simulation, and the judge about both."""
    from rsverify.montecarlo import Budget, estimate
    from rsverify.symbolic import derive

    claim_options = {"statistic": "rms", "probe": "aligned", "steps": 1, "regime": "rank"}
    known = {*claim_options, "ranks", "alpha", "seed", "margin", "d_in", "d_out", "budget", "error_budget"}
    if unknown := sorted(set(options) - known):
        raise TypeError(f"unexpected argument {unknown[0]!r}; expected some of {', '.join(sorted(known))}")
    claim_options |= {key: options[key] for key in claim_options if key in options}
    rate = float(options.get("error_budget") or ERROR_BUDGET.get())
    margin = float(options.get("margin", MARGIN))
    subject = _subject(adapter, rule)
    built = not isinstance(subject.adapter, Adapter)
    budget: Budget | None = options.get("budget") or (Budget(draws=MODULE_DRAWS) if built else None)
    ranks = parse_ranks(options.get("ranks", RANKS))
    _require_one_direction(subject.rule, ranks, float(options.get("alpha", subject.alpha)))
    # One assertion is one statement to its caller: every point of the curve and the exponent share its rate.
    seen: Estimate = estimate(
        subject.adapter, subject.rule, optimizer=optimizer, quantity=quantity, **claim_options, ranks=ranks,
        alpha=options.get("alpha", subject.alpha), seed=options.get("seed", 0), margin=margin, budget=budget, error_budget=rate,
        statements=len(ranks) + 1, d_in=options.get("d_in", 24), d_out=options.get("d_out", 16), sequential=built,
    )  # fmt: skip
    derived, silent = None, {}
    if built:
        silent["symbolic"] = "a module, simulated as it is built: there is no declaration to derive from"
    else:
        try:
            derived = derive(subject.adapter, subject.rule, optimizer=optimizer, quantity=quantity, **claim_options)
        except NotDerivable as error:
            silent["symbolic"] = error.reason
        except RuleError as error:
            silent["symbolic"] = str(error)
    return judge(seen.claim, predicted=derived, estimated=seen, measured=None, silent=silent, headline=False, margin=margin), rate


def _require_one_direction(rule: Rule, ranks: Sequence[int], alpha: float) -> None:
    """A callable that goes up and down with the rank follows no power of it, whatever is simulated at ranks that suit it.

    Raises: AssertionError with the three ranks.
    """
    asked = as_rule(rule)
    if asked.function is None or asked.needs_widths:
        return
    values = asked.at(ranks, alpha)
    turns = [k for k in range(1, len(values) - 1) if (values[k] - values[k - 1]) * (values[k + 1] - values[k]) < 0]
    if turns:
        shown = ", ".join(f"{values[k]:.4g} at r={ranks[k]}" for k in range(turns[0] - 1, turns[0] + 2))
        text = f"rule {asked} has one power of the rank: it goes up and down, {shown} (alpha={alpha:g})"
        announce(Statement(text, "refuted"))
        raise AssertionError(f"does not hold: {text}; a special case of some ranks? assert_scale names the least")


@dataclass(frozen=True)
class _Asked:
    """What is simulated, a declaration or a function that builds modules; the rule in question; alpha where the caller gives none."""

    adapter: Any
    rule: Rule
    alpha: float = ALPHA


def _subject(adapter: Judged | Any, rule: Rule | None) -> _Asked:
    """Raises: InputError for a module (it has one rank), for what is nothing of the kind, and for a function without a rule."""
    if isinstance(adapter, str | Adapter | WrappedAdapter):
        declared = as_declared(adapter)
        asked: Rule = declared.rule if rule is None else rule
        if isinstance(declared, Adapter):
            return _Asked(declared, asked)
        from rsverify.conformance.declared import declared_subject

        return _Asked(_named(declared_subject(declared, asked).build, declared.name), asked)
    if callable(getattr(adapter, "named_parameters", None)) and not isinstance(adapter, type):
        raise InputError(
            f"adapter is a {type(adapter).__name__} of one rank, which has no exponent; expected its class or a function"
            " build(rank, base, alpha) that makes one of any rank"
        )
    subject: Any = adapter
    build = getattr(subject, "build", None)
    if callable(build):
        name = str(getattr(build, "__name__", subject.declared.name if subject.declared is not None else "the subject"))
        return _Asked(_named(build, name), subject.rule if rule is None else rule, subject.alpha)
    if not callable(adapter):
        raise InputError(
            f"adapter={adapter!r}; expected a declared adapter, its name, a function build(rank, base, alpha) or an rv.Subject"
        )
    if rule is None:
        raise InputError("rule is missing: a function that builds modules claims none; name the one it follows, e.g. 'alpha/r'")
    return _Asked(adapter, rule)


def _named(build: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function under a name that a claim can carry."""

    def named_build(rank: int, base: Any, alpha: float) -> Any:
        return build(rank, base, alpha)

    named_build.__name__ = name
    return named_build


def _answer(answer: Answer, row: Row, wanted: str, rate: float, allow_inconclusive: bool, centre: float) -> Row:
    text = f"{named(row.claim)}: {wanted}"
    announce(Statement(text, answer, rate))
    if answer == "confirmed" or (answer == "inconclusive" and allow_inconclusive):
        return row
    message = f"{text}; found {found(row)}"
    if answer == "inconclusive":
        price = _price(row, centre)
        cure = "allow that by budget=rv.Budget(...), or pass" if price.startswith("some ") else "pass"
        raise Inconclusive(f"cannot tell whether {message}; {price}: {cure} allow_inconclusive=True", price)
    raise AssertionError(f"does not hold: {message}")


def named(claim: Claim) -> str:
    """A claim in words, nothing left out: quantity, statistic, probe, steps, adapter, init, rule, optimizer, regime."""
    when = "at init" if claim.steps == 0 else f"after {claim.steps} step{'s' if claim.steps > 1 else ''} of {claim.optimizer}"
    return (
        f"{claim.quantity} ({claim.statistic}, {claim.probe} probe, {claim.regime} regime) {when} "
        f"of {claim.adapter} ({claim.init}) under {claim.rule}"
    )


def found(row: Row) -> str:
    """What the witnesses say of a row, in one line."""
    seen, derived = row.estimated, row.predicted
    assert seen is not None
    if seen.zero:
        parts = ["nothing: it vanishes identically"]
    elif seen.interval is None:
        parts = ["no exponent: " + ("; ".join(seen.notes) or "the magnitude changes sign or vanishes")]
    else:
        lo, hi = seen.interval
        ranks = f"ranks {seen.ranks[0]} to {seen.ranks[-1]}"
        parts = [f"{row.stability}: simulated exponent in [{lo:+.3f}, {hi:+.3f}] at level 1 - {1 - seen.level:.2g} over {ranks}"]
    if derived is not None and not derived.zero:
        parts.append(f"derived {derived.exponent}" if derived.exponent is not None else f"derived range {derived.exponent_range}")
    if row.agreement == "refuted":
        parts.append(f"and the witnesses disagree: {row.reason}")
    return ", ".join(parts)


def _price(row: Row, centre: float) -> str:
    """What would settle it: narrower exponents where the interval crosses an end of centre +- margin, else narrower points."""
    seen = row.estimated
    assert seen is not None
    if seen.interval is None:
        return "; ".join(seen.notes) or "the magnitude changes sign or vanishes at some rank: no number of draws gives it an exponent"
    derived = None if row.predicted is None else row.predicted.exponent
    if derived is not None and math.isclose(abs(float(derived) - centre), row.margin, abs_tol=1e-9):
        return "more draws would not settle it: the derived exponent lies at the margin's edge"
    if interval_agreement(seen.interval, centre - row.margin, centre + row.margin) == "inconclusive":
        return draws_to_settle(seen, (centre, centre), row.margin)
    widest = max((point.hi - point.lo) / 2 / point.value for point in seen.curve)
    if widest <= SHARE * RATIO_MARGIN:
        return "more draws would not settle it: theory and simulation differ by about the margin of the comparison"
    return f"some {(widest / (SHARE * RATIO_MARGIN)) ** 2:.1f} times the {seen.draws} draws would settle it"
