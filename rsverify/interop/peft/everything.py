"""All recipes through the conformance suite, each check against what is known to be wrong in the release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsverify.conformance import runner
from rsverify.conformance.registry import checks
from rsverify.errors import InputError, suggest
from rsverify.interop.peft.known import expected_for, read_known
from rsverify.interop.peft.library import config_classes
from rsverify.interop.peft.methods import METHODS, WITHOUT_RANK
from rsverify.interop.peft.recipes import all_targets
from rsverify.interop.peft.subject import subject_from_peft
from rsverify.records import CheckResult


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
    """Every recipe, then every method that cannot be judged, with the reason.

    Args:
        xfails: file of expected failures, lines `TARGET CHECK: reason`. targets: instead of all recipes. only: names of checks to run.
    Raises: InputError for a file or a name that cannot be meant, or PEFT not installed.
    """
    known = read_known(xfails, checks()) if xfails is not None else ()
    for name in only or ():
        if name not in checks():
            raise InputError(f"no check is called {name!r}{suggest(name, checks())}")
    config_classes()
    rows = []
    for target in all_targets() if targets is None else targets:
        if callback is not None:
            callback(target)
        try:
            subject = subject_from_peft(target)
        except InputError as error:
            rows.append(Row(target, reason=f"not judged: {error}"))
            continue
        expected = expected_for(target, known)
        results = runner.check_adapter(subject, expected_failed_checks=expected, on_fail="return", only=only, seed=seed)
        rows.append(Row(target, tuple(results)))
    return rows if targets is not None else [*rows, *not_judged()]


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
