"""`check_adapter`: runs every check that applies, whatever the subject does, and tells what each said."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rsverify.conformance.bench import Bench
from rsverify.conformance.outcomes import Skip, Unsettled, Wrong
from rsverify.conformance.registry import Check, checks
from rsverify.conformance.subject import Subject
from rsverify.definitions.registry import Declared
from rsverify.errors import InputError, RsverifyError, suggest
from rsverify.records import CheckResult, CheckStatus
from rsverify.surroundings import plain_surroundings

FIRST = "check_build_module"
"""What must hold before any other check means anything."""


WITHOUT_OUTPUTS = ("check_output_repeatable", "check_factors_trained", "check_rank_used")
"""Checks that mean something of a layer whose forward pass draws in evaluation mode."""

ERROR_BUDGET = 1e-6
"""Rate at which all checks together may fail a sound adapter by chance, unless another is given."""


class CheckFailed(RsverifyError, AssertionError):
    """At least one check failed that was not expected to; `results` holds all of them."""

    def __init__(self, results: Sequence[CheckResult]) -> None:
        self.results = list(results)
        failed = [r for r in results if r.status == "failed"]
        lines = [f"{len(failed)} of {count(results)} checks failed ({summary(results)})"]
        super().__init__("\n".join([*lines, *(f"  {r.name}: {r.reason}" for r in failed)]))


def check_adapter(
    subject: Declared | Subject | str | Callable[..., Any],
    *,
    expected_failed_checks: Mapping[str, str] | None = None,
    on_fail: Literal["raise", "return"] = "raise",
    callback: Callable[[CheckResult], None] | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
    error_budget: float = ERROR_BUDGET,
) -> list[CheckResult]:
    """Every check that applies to an adapter implementation, and what it said.

    Args:
        subject: a built-in name, a declared adapter, a build function, or a Subject.
        expected_failed_checks: reason by check name; such a check is `xfailed` where it fails and `xpassed` where it does not.
        on_fail: `raise` CheckFailed at the end where a check failed unexpectedly, or `return` the results in any case.
        callback: called with each result as it comes.
        only: names of the checks to run; the others are left out of the results.
        error_budget: rate at which all checks together may fail a sound adapter by chance.
    Raises: CheckFailed; InputError for a subject, a check name or an option that cannot be meant.
    """
    known = checks()
    expected = dict(expected_failed_checks or {})
    for name in [*expected, *(only or ())]:
        if name not in known:
            raise InputError(f"no check is called {name!r}{suggest(name, known)}")
    if on_fail not in ("raise", "return"):
        raise InputError(f"on_fail={on_fail!r}; expected raise or return")
    if not 0 < error_budget < 1:
        raise InputError(f"error_budget={error_budget!r}; expected a rate between 0 and 1, e.g. 1e-6")
    bench = Bench(as_subject(subject), seed=seed, error_budget=error_budget)
    results: list[CheckResult] = []
    for name in sorted(known, key=lambda name: name != FIRST):  # a stable sort: only the first is moved
        if only is not None and name not in only:
            continue
        result = run_check(name, bench)
        if name in expected and result.status in ("passed", "failed"):
            status: CheckStatus = "xfailed" if result.status == "failed" else "xpassed"
            result = CheckResult(name, status, f"{expected[name]} ({result.reason})" if result.reason else expected[name],
                                 result.exception, result.seconds)  # fmt: skip
        results.append(result)
        if callback is not None:
            callback(result)
    if on_fail == "raise" and any(result.status == "failed" for result in results):
        raise CheckFailed(results)
    return results


def run_check(name: str, bench: Bench) -> CheckResult:
    """One check on a bench; skipped where the subject cannot even be built, or draws where it must not."""
    known = checks()
    first: CheckResult = bench.remember(FIRST, lambda: _run(known[FIRST], bench, ""))
    if name == FIRST:
        return first
    if first.status == "failed":
        return _run(known[name], bench, "the subject cannot be built or called: see check_build_module")
    if name not in WITHOUT_OUTPUTS and bench.remember("draws in evaluation", lambda: _draws(bench)):
        return _run(known[name], bench, "the forward pass draws in evaluation mode, no two outputs compare: see check_output_repeatable")
    return _run(known[name], bench, "")


def _draws(bench: Bench) -> bool:
    """Whether the forward pass draws in evaluation mode; where asking breaks, the checks will say why."""
    try:
        with plain_surroundings(threads=1):
            return bench.draws_in_evaluation
    except Exception:
        return False


def as_subject(subject: Declared | Subject | str | Callable[..., Any]) -> Subject:
    """The subject itself, or what a name, a declared adapter or a build function stands for."""
    if isinstance(subject, Subject):
        return subject
    if isinstance(subject, str | Declared):
        from rsverify.conformance.declared import declared_subject

        return declared_subject(subject)
    if callable(subject):
        return Subject(subject)
    raise InputError(
        f"subject={subject!r} is {type(subject).__name__}; expected a built-in name, an rv.Adapter,"
        " a function build(rank, base, alpha), or an rv.Subject"
    )


def _run(check: Check, bench: Bench, unusable: str) -> CheckResult:
    missing = sorted(check.needs - bench.subject.capabilities)
    if missing:
        return CheckResult(check.name, "skipped", f"the subject has no {' and no '.join(missing)}")
    if unusable:
        return CheckResult(check.name, "skipped", unusable)
    began = time.perf_counter()
    status: CheckStatus = "passed"
    exception: str | None = None
    try:
        # The layers are small: more threads would wait for each other.
        with plain_surroundings(threads=1):
            reason = check.function(bench) or ""
    except Skip as skip:
        status, reason = "skipped", str(skip)
    except Unsettled as unsettled:
        status, reason = "inconclusive", str(unsettled)
    except Wrong as wrong:
        status, reason, exception = "failed", str(wrong), traceback.format_exc()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the suite never dies with the subject, not even by sys.exit
        status, exception = "failed", traceback.format_exc()
        reason = f"raised {type(error).__name__}: {str(error).strip() or 'no message'}"
    return CheckResult(check.name, status, reason, exception, time.perf_counter() - began)


def count(results: Sequence[CheckResult]) -> int:
    """How many checks really ran."""
    return sum(result.status != "skipped" for result in results)


def summary(results: Sequence[CheckResult]) -> str:
    """E.g. "31 passed, 1 failed, 6 skipped"."""
    found = Counter(result.status for result in results)
    order = ("passed", "failed", "xfailed", "xpassed", "inconclusive", "skipped")
    return ", ".join(f"{found[status]} {status}" for status in order if found[status])


def exit_code(results: Sequence[CheckResult]) -> int:
    """0 = holds, 1 = a check failed that was not expected to, 3 = none failed but one is inconclusive."""
    found = {result.status for result in results}
    return 1 if "failed" in found else 3 if "inconclusive" in found else 0
