"""All recipes through the conformance suite, other layers and PEFT's operations through theirs, against what is known to be wrong."""

from __future__ import annotations

import contextlib
import io
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rsverify.conformance import runner
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.registry import checks
from rsverify.conformance.xfails import Expected, expected_for, read_xfails
from rsverify.errors import InputError, suggest
from rsverify.interop.peft import models, operations  # noqa: F401  what they hold is entered into OWN_CHECKS on import
from rsverify.interop.peft.host import quiet
from rsverify.interop.peft.known import installed, refuse_list_of_another, without_guesses
from rsverify.interop.peft.library import config_classes
from rsverify.interop.peft.methods import METHODS, WITHOUT_RANK
from rsverify.interop.peft.ownchecks import OWN_CHECKS
from rsverify.interop.peft.recipes import all_targets, moves_as_another
from rsverify.interop.peft.subject import subject_from_peft
from rsverify.interop.peft.target import PREFIX, known_as
from rsverify.records import CheckResult, CheckStatus


@dataclass(frozen=True)
class Row:
    """A target and what each check said of it, or why it was not judged."""

    target: str
    results: tuple[CheckResult, ...] = ()
    reason: str = ""


def check_everything(
    xfails: Path | None = None,
    *,
    targets: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
    callback: Callable[[str], object] | None = None,
) -> list[Row]:
    """Every recipe, every other layer, every operation, then every method that cannot be judged, with the reason.

    Args:
        xfails: file of expected failures, lines `[TARGET::]CHECK: reason`. targets: instead of all. only: names of checks to run.
    Raises: InputError for a file or a name that cannot be meant, or PEFT not installed.
    """
    names = known_checks()
    refuse_list_of_another(xfails)
    known = read_xfails(xfails, names) if xfails is not None else ()
    for name in only or ():
        if name not in names:
            raise InputError(f"no check is called {name!r}{suggest(name, names)}")
    config_classes()
    rows = []
    for target in every_target() if targets is None else targets:
        if callback is not None:
            callback(target)
        row = _run_extra(target, known, only) if "@" in target else _run_suite(target, known, only, seed)
        if row.results or row.reason:
            rows.append(row)
    return rows if targets is not None else [*rows, *not_judged()]


def every_target() -> tuple[str, ...]:
    """Recipes on a linear layer, then cases `peft:METHOD@LAYER` and `peft:METHOD@operations`."""
    return (*all_targets(), *OWN_CHECKS)


def known_checks() -> tuple[str, ...]:
    """Names of all checks: the suite's, those of other layers, those of operations."""
    return tuple(dict.fromkeys([*checks(), *(name for own in OWN_CHECKS.values() for name in own)]))


def _run_suite(target: str, known: Sequence[Expected], only: Sequence[str] | None, seed: int) -> Row:
    try:
        subject = subject_from_peft(target)
    except InputError as error:
        return Row(target, reason=f"not judged: {error}")
    names = [name for name, check in checks().items() if check.family != "stability" or not moves_as_another(target)]
    names = [name for name in names if only is None or name in only]
    if not names:
        return Row(target)
    expected = {name: reason for name, reason in expected_for(known_as(target), known).items() if name in checks()}
    results = runner.check_adapter(subject, expected_failed_checks=expected, on_fail="return", only=names, seed=seed)
    return Row(target, without_guesses(results))


def _run_extra(target: str, known: Sequence[Expected], only: Sequence[str] | None) -> Row:
    """A case on another layer, or a method's operations: functions that raise Wrong, or anything else, where something is wrong."""
    todo = OWN_CHECKS.get(target)
    if not todo:
        raise InputError(f"target={target!r} is no case{suggest(target, every_target())}")
    method = target.removeprefix(PREFIX).partition("@")[0]
    if method not in config_classes():
        return Row(target, reason=f"not judged: PEFT {installed()} has no {method}")
    expected, results, broken = expected_for(target, known), [], ""
    for name, check in todo.items():
        if only is not None and name not in only:
            continue
        results.append(_one(name, partial(_skip, broken) if broken else check, expected.get(name)))
        if name == "check_model_init" and results[-1].exception and "Wrong" not in results[-1].exception:
            broken = "it cannot be built: see check_model_init"
    return Row(target, without_guesses(results, refusals=True))


def _skip(reason: str) -> None:
    raise Skip(reason)


def _one(name: str, check: Callable[[], object], expected: str | None) -> CheckResult:
    start = time.perf_counter()
    status: CheckStatus = "passed"
    reason, exception = "", None
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            check()
    except Skip as skip:
        return CheckResult(name, "skipped", str(skip), None, time.perf_counter() - start)
    except Exception as error:
        status, exception = "failed", "".join(traceback.format_exception(error))
        reason = str(error) if isinstance(error, Wrong) else f"raised {type(error).__name__}: {error}"
    if expected is not None:
        status, reason = ("xfailed", f"{expected} ({reason})") if status == "failed" else ("xpassed", expected)
    return CheckResult(name, status, reason, exception, time.perf_counter() - start)


def not_judged() -> list[Row]:
    """The methods of PEFT's registry that no recipe covers, and why."""
    rows = []
    for name in sorted(config_classes()):
        if name in WITHOUT_RANK:
            rows.append(Row(f"peft:{name}", reason=f"not applicable: {WITHOUT_RANK[name]}"))
        elif name not in METHODS:
            rows.append(Row(f"peft:{name}", reason="new in this PEFT: no recipe yet"))
        elif METHODS[name].cannot:
            rows.append(Row(f"peft:{name}", reason=f"not judged: {METHODS[name].cannot}"))
    return rows


def exit_code(rows: Sequence[Row]) -> int:
    """0 = holds, 1 = a check failed that was not expected to, 3 = none failed but one is inconclusive."""
    return runner.exit_code([result for row in rows for result in row.results])
