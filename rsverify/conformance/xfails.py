"""Expected failures as a file: one a line, "[target::]check_name: reason"; lines that start with # are remarks.

The one reader of such files: `rsverify check --xfails`, the pytest plugin's `--rsverify-xfails`, and the lists of what is known to be
wrong in a release of PEFT. `target` is what one gives to `rsverify check`, or a subject's name in pytest; it and the check may hold * and
?, as in the names of files. A line without a target is for every target. Where several lines fit, the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rsverify.conformance.registry import check_names
from rsverify.errors import InputError, suggest
from rsverify.files.reading import read_text

_SHAPE = "expected '[target::]check_name: reason'"


@dataclass(frozen=True)
class Expected:
    """A check that is expected to fail, on the targets that a pattern fits or on all, and why."""

    target: str | None
    check: str
    reason: str

    @property
    def text(self) -> str:
        return self.check if self.target is None else f"{self.target}::{self.check}"

    def fits(self, target: str, check: str | None = None) -> bool:
        """Whether it speaks of this target, and of this check where one is named: the same text, or one that the pattern fits."""
        right_check = check is None or check == self.check or fnmatchcase(check, self.check)
        return right_check and (self.target in (None, target) or fnmatchcase(target, self.target or "*"))


def read_xfails(path: Path | str, names: Collection[str] | None = None) -> list[Expected]:
    """The expected failures that a file names.

    Args: names are the checks that there are; by default those of the suite.
    Raises: InputError, with the line, for a file that cannot be read, a line without a reason, a check that does not exist, or
        the same one twice.
    """
    path = Path(path)
    text = read_text(path, name="xfails", expected="a file of lines [TARGET::]check_name: reason")
    known = check_names() if names is None else names
    entries: dict[str, Expected] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}, line {number}: {line.strip()!r}"
        entry = _parsed(line.strip())
        if entry is None or re.match(r"\S+\s+check_\w+\s*:", line.strip()):
            raise InputError(f"{where}; {_SHAPE}: a failure is expected for a reason, and '::' ends the target")
        if not any(fnmatchcase(name, entry.check) for name in known):
            raise InputError(f"{where}: no check is called {entry.check!r}{suggest(entry.check, known)}")
        if entry.text in entries:
            raise InputError(f"{where}: {entry.text} is there twice")
        entries[entry.text] = entry
    return list(entries.values())


def _parsed(line: str) -> Expected | None:
    # A target may hold colons and a reason anything: the check is what stands between the first "::" and the next colon. Only the
    # part before the reason is looked at, so that "::" in a reason does not count.
    head, separator, rest = line.partition("::")
    if separator and _reason_started(head):
        head, separator, rest = "", "", line
    elif not separator:
        head, rest = "", line
    check, colon, reason = (part.strip() for part in rest.partition(":"))
    if not colon or not reason or not check or (separator and not head.strip()):
        return None
    return Expected(head.strip() or None, check, reason)


def _reason_started(head: str) -> bool:
    """Whether "check_name: ..." begins before the first "::", so that this one belongs to the reason."""
    name, colon, _ = head.partition(":")
    return bool(colon) and name.strip().startswith("check_")


def expected_for(target: str, entries: Sequence[Expected]) -> dict[str, str]:
    """Reasons by check for a target, of the first line that fits; a pattern of checks stands for all that it fits."""
    reasons: dict[str, str] = {}
    for entry in entries:
        if entry.fits(target):
            for name in [name for name in check_names() if fnmatchcase(name, entry.check)] or [entry.check]:
                reasons.setdefault(name, entry.reason)
    return reasons
