"""Expected failures by target: what is known to be wrong in a release of PEFT, so that the next release shows what changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rsverify.errors import InputError, suggest

FOLDER = Path(__file__).parent / "known"


@dataclass(frozen=True)
class Known:
    """A check that is expected to fail on the targets that a pattern fits, and why."""

    target: str
    check: str
    reason: str

    def fits(self, target: str) -> bool:
        """Whether the pattern, with * and ? as in the names of files, fits a target."""
        return fnmatchcase(target, self.target)


def read_known(path: Path | str, checks: Collection[str]) -> tuple[Known, ...]:
    """Expected failures from lines `TARGET CHECK: reason`; a line without a target, `CHECK: reason`, is for all of them.

    Raises: InputError for a file that cannot be read, another form of line, a check that does not exist.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"xfails={str(path)!r} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = f"{path.name}, line {number}"
        words = line.split(maxsplit=2)
        if words[0].startswith("check_"):
            words = ["*", *line.split(maxsplit=1)]
        if len(words) < 3 or not words[1].endswith(":"):
            raise InputError(f"{place}: expected 'TARGET CHECK: reason', e.g. 'peft:lora* check_unmerge_scaled: known'; got {line!r}")
        target, name, reason = words[0], words[1][:-1], words[2].strip()
        if name not in checks:
            raise InputError(f"{place}: no check is called {name!r}{suggest(name, checks)}")
        found.append(Known(target, name, reason))
    return tuple(found)


def shipped() -> Path | None:
    """The list that comes with us for the PEFT that is installed; None for a release that nobody has looked at."""
    try:
        path = FOLDER / f"peft-{version('peft')}.txt"
    except PackageNotFoundError:
        return None
    return path if path.exists() else None


def expected_for(target: str, known: Sequence[Known]) -> dict[str, str]:
    """Reasons by check for a target."""
    found: dict[str, str] = {}
    for line in known:
        if line.fits(target):
            found.setdefault(line.check, line.reason)
    return found
