"""Every check of every subject as a test of its own, in the manner of scikit-learn's decorator of the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from rsverify.conformance.bench import Bench
from rsverify.conformance.registry import checks
from rsverify.conformance.runner import as_subject, run_check
from rsverify.errors import InputError, suggest
from rsverify.testing.statements import ERROR_BUDGET, Inconclusive, Statement, announce

MARK = "rsverify_check"


class CheckCase:
    """One check, to be called with the subject: passes, skips with the reason, or fails with what is wrong."""

    def __init__(self, name: str, subject_name: str, benches: dict[float, Bench]) -> None:
        self.name, self.subject_name = name, subject_name
        self.benches = benches
        """One bench per error budget, shared by all checks of a subject: what one of them simulated serves the others."""

    def __repr__(self) -> str:
        return self.name

    def __call__(self, subject: Any) -> None:
        __tracebackhide__ = True
        budget = ERROR_BUDGET.get()
        bench = self.benches.setdefault(budget, Bench(as_subject(subject), error_budget=budget))
        result = run_check(self.name, bench)
        text = f"{self.subject_name}: {self.name}"
        if result.status == "skipped":
            pytest.skip(result.reason)
        answer = {"passed": "confirmed", "inconclusive": "inconclusive"}.get(result.status, "refuted")
        # All checks of a subject together share the budget.
        announce(Statement(f"{text}: {result.reason}" if result.reason else text, answer, budget / len(checks())))  # type: ignore[arg-type]
        if result.status == "inconclusive":
            raise Inconclusive(f"cannot tell whether {text} holds: {result.reason}", result.reason)
        if result.status == "failed":
            trace = "" if result.exception is None or "Wrong" in result.exception else f"\n{result.exception}"
            pytest.fail(f"{text}: {result.reason}{trace}", pytrace=False)


def parametrize_with_checks(
    subjects: Sequence[Any], *, expected_failed_checks: Mapping[str, str] | Callable[[Any], Mapping[str, str]] | None = None
) -> pytest.MarkDecorator:
    """Parametrize a test function of arguments `subject` and `check` by every check of every subject.

        @parametrize_with_checks(["lora", rv.Subject(my_build, rule="alpha/sqrt(r)")])
        def test_adapter(subject, check):
            check(subject)

    Args:
        subjects: what `check_adapter` takes: built-in names, declared adapters, build functions, Subjects.
        expected_failed_checks: reason by check name, or a function that gives them for a subject; such tests are xfail.
    Raises: InputError for a subject or a check name that cannot be meant, when the test module is loaded.
    """
    if isinstance(subjects, str) or not isinstance(subjects, Sequence) or not subjects:
        raise InputError(f"subjects={subjects!r}; expected a list of names, adapters, build functions or Subjects, e.g. ['lora']")
    known, cases, names = checks(), [], set()
    for subject in subjects:
        as_subject(subject)  # refuses what cannot be meant before anything runs
        name = _unused(_name(subject), names)
        expected = expected_failed_checks(subject) if callable(expected_failed_checks) else expected_failed_checks or {}
        for check in expected:
            if check not in known:
                raise InputError(f"expected_failed_checks of {name}: no check is called {check!r}{suggest(check, known)}")
        benches: dict[float, Bench] = {}
        for check in known:
            marks = [pytest.mark.rsverify_check(subject=name, check=check)]
            if check in expected:
                marks.append(pytest.mark.xfail(reason=expected[check], strict=False))
            cases.append(pytest.param(subject, CheckCase(check, name, benches), marks=marks, id=f"{name}-{check}"))
    return pytest.mark.parametrize(("subject", "check"), cases)


def _name(subject: Any) -> str:
    if isinstance(subject, str):
        return subject
    build = getattr(subject, "build", subject)
    for holder in (subject, getattr(build, "func", build)):
        found = getattr(holder, "name", None) or getattr(holder, "__name__", None)
        if isinstance(found, str) and found != "<lambda>":
            return found
    return "subject"


def _unused(name: str, taken: set[str]) -> str:
    number = 2
    wanted = name
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    taken.add(name)
    return name
