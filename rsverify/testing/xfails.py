"""Expected failures as a file: one a line, "[subject::]check_name: reason"; lines that start with # are remarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rsverify.errors import InputError, suggest

_SHAPE = "expected '[subject::]check_name: reason'"


@dataclass(frozen=True)
class Expected:
    """A check that is expected to fail, for one subject or for all, and why."""

    subject: str | None
    check: str
    reason: str

    @property
    def text(self) -> str:
        return self.check if self.subject is None else f"{self.subject}::{self.check}"


def read_xfails(path: Path) -> list[Expected]:
    """The expected failures that a file names.

    Raises: InputError, with the line, for a file that cannot be read, a line without a reason, a check that does not exist, or
        the same one twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected failures {str(path)!r}: cannot be read as text ({error})") from None
    from rsverify.conformance.registry import checks

    known = checks()
    found: dict[str, Expected] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}, line {number}: {line.strip()!r}"
        # Names of subjects may hold a colon, names of checks never do: the check is what stands after the last "::".
        head, separator, rest = line.strip().rpartition("::")
        check, colon, reason = (part.strip() for part in rest.partition(":"))
        if not colon or not reason or (separator and not head.strip()):
            raise InputError(f"{where}; {_SHAPE}: a failure is expected for a reason")
        if check not in known:
            raise InputError(f"{where}: no check is called {check!r}{suggest(check, known)}")
        entry = Expected(head.strip() or None, check, reason)
        if entry.text in found:
            raise InputError(f"{where}: {entry.text} is there twice")
        found[entry.text] = entry
    return list(found.values())
