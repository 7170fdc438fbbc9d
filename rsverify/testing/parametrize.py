"""Every check of every subject as a test of its own, in the manner of scikit-learn's decorator of the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytest

from rsverify.conformance.bench import Bench
from rsverify.conformance.registry import checks
from rsverify.conformance.runner import as_subject, run_check
from rsverify.errors import InputError, suggest
from rsverify.testing.statements import ERROR_BUDGET, Answer, Inconclusive, Statement, announce


class Benches:
    """A bench for each subject and error budget: what one check simulated serves the others of the same subject, and of no other."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._benches: dict[tuple[int, float], tuple[Any, Bench]] = {}

    def bench(self, subject: Any) -> Bench:
        """The bench of that very subject. It is held beside it, so that its identity is nobody else's later."""
        budget = ERROR_BUDGET.get()
        key = id(subject), budget
        if key not in self._benches:
            self._benches[key] = subject, Bench(as_subject(subject), seed=self.seed, error_budget=budget)
        return self._benches[key][1]


class CheckCase:
    """One check, to be called with the subject: passes, skips with the reason, or fails with what is wrong."""

    is_rsverify_check = True
    """By which the plugin knows it without importing this module."""

    def __init__(self, name: str, subject: Any, subject_name: str, benches: Benches) -> None:
        self.name, self.subject_name = name, subject_name
        self._subject, self._benches = subject, benches

    @property
    def family(self) -> str:
        """The check's family."""
        return checks()[self.name].family

    def __repr__(self) -> str:
        return self.name

    def __call__(self, subject: Any) -> None:
        __tracebackhide__ = True
        result = run_check(self.name, self._benches.bench(subject))
        # What the test made of the subject, by a fixture or another parameter, is another one and is named so.
        called = self.subject_name if subject is self._subject else _name(subject)
        text = f"{called}: {self.name}"
        if result.status == "skipped":
            pytest.skip(result.reason)
        answer: Answer = "confirmed" if result.status == "passed" else "inconclusive" if result.status == "inconclusive" else "refuted"
        # All checks of a subject together share the budget.
        announce(Statement(f"{text}: {result.reason}" if result.reason else text, answer, ERROR_BUDGET.get() / len(checks())))
        if result.status == "inconclusive":
            raise Inconclusive(f"cannot tell whether {text} holds: {result.reason}", result.reason)
        if result.status == "failed":
            trace = "" if result.exception is None or "Wrong" in result.exception else f"\n{result.exception}"
            pytest.fail(f"{text}: {result.reason}{trace}", pytrace=False)


def parametrize_with_checks(
    subjects: Sequence[Any],
    *,
    expected_failed_checks: Mapping[str, str] | Callable[[Any], Mapping[str, str]] | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
    strict: bool | None = None,
) -> pytest.MarkDecorator:
    """Parametrize a test function of arguments `subject` and `check` by every check of every subject.

        @parametrize_with_checks(["lora", rv.Subject(my_build, rule="alpha/sqrt(r)")])
        def test_adapter(subject, check):
            check(subject)

    With the plugin `rsverify`, `-m rsverify_stability` and its like choose a family of checks.

    Args:
        subjects: what `check_adapter` takes: built-in names, declared adapters, build functions, Subjects.
        expected_failed_checks: reason by check name, or a function that gives them for a subject; such tests are xfail. A name may hold
            * and ?, as in "check_dtype_*".
        only: names of the checks to run, or patterns of names. seed: of everything drawn.
        strict: whether an expected failure that passes fails the test; None leaves it to pytest's own setting, xfail_strict.
    Raises: InputError for a subject or a check name that cannot be meant, when the test module is loaded.
    """
    if isinstance(subjects, str) or not isinstance(subjects, Sequence) or not subjects:
        raise InputError(f"subjects={subjects!r}; expected a list of names, adapters, build functions or Subjects, e.g. ['lora']")
    if isinstance(only, str):
        raise InputError(f"only={only!r}; expected a list of names, e.g. [{only!r}]")
    chosen = list(checks()) if only is None else [name for name in checks() if name in _fitting("only", only)]
    strictness: dict[str, Any] = {} if strict is None else {"strict": strict}
    cases, names, benches = [], set(), Benches(seed)
    for subject in subjects:
        as_subject(subject)  # refuses what cannot be meant before anything runs
        name = _unused(_name(subject), names)
        given = expected_failed_checks(subject) if callable(expected_failed_checks) else expected_failed_checks or {}
        expected: dict[str, str] = {}
        for pattern, reason in given.items():
            for check in _fitting(f"expected_failed_checks of {name}", [pattern]):
                expected.setdefault(check, reason)
        for check in chosen:
            marks = [pytest.mark.xfail(reason=expected[check], **strictness)] if check in expected else []
            cases.append(pytest.param(subject, CheckCase(check, subject, name, benches), marks=marks, id=f"{name}-{check}"))
    return pytest.mark.parametrize(("subject", "check"), cases)


def _fitting(what: str, patterns: Sequence[str]) -> list[str]:
    """The checks that the patterns fit.

    Raises: InputError for a pattern that fits none.
    """
    names = []
    for pattern in patterns:
        fitting = [name for name in checks() if fnmatchcase(name, pattern)]
        if not fitting:
            raise InputError(f"{what}: no check is called {pattern!r}{suggest(pattern, checks())}")
        names += fitting
    return names


def _name(subject: Any) -> str:
    if isinstance(subject, str):
        return subject
    build = getattr(subject, "build", subject)
    for holder in (subject, getattr(build, "func", build)):
        name = getattr(holder, "name", None) or getattr(holder, "__name__", None)
        if isinstance(name, str) and name != "<lambda>":
            return name
    return "subject"


def _unused(name: str, taken: set[str]) -> str:
    number = 2
    wanted = name
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    taken.add(name)
    return name
