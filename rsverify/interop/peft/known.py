"""Where the list lies of what is known to be wrong in a release of PEFT; what it says of one release is asserted of no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rsverify.errors import InputError
from rsverify.records import CheckResult

FOLDER = Path(__file__).parent / "known"
MISSING = ("raised AttributeError:", "raised ImportError:", "raised ModuleNotFoundError:")
"""How a check ends on a release that lacks what the check calls."""


def installed() -> str:
    """The version of PEFT that is installed; empty where none is."""
    try:
        return version("peft")
    except PackageNotFoundError:
        return ""


def listed() -> tuple[str, ...]:
    """The releases of PEFT that somebody has looked at."""
    return tuple(sorted(path.stem.removeprefix("peft-") for path in FOLDER.glob("peft-*.txt")))


def shipped() -> Path | None:
    """The list that comes with us for the PEFT that is installed; None for a release that nobody has looked at."""
    path = FOLDER / f"peft-{installed()}.txt"
    return path if path.exists() else None


def not_listed() -> str:
    """Says that nobody has looked at the PEFT that is installed; empty where its known failures are listed."""
    if shipped() is not None:
        return ""
    return f"PEFT {installed()}: not listed for this version (known failures are listed for {', '.join(listed())})"


def refuse_list_of_another(xfails: Path | None) -> None:
    """Refuse one of our lists where another release of PEFT is installed: its lines say nothing of that release.

    Raises: InputError.
    """
    if xfails is None or xfails.resolve().parent != FOLDER.resolve() or xfails.resolve() == (shipped() or Path()).resolve():
        return
    raise InputError(
        f"xfails={xfails.name!r} lists the known failures of another release, and PEFT {installed()} is installed; leave --xfails out:"
        " what fails is then shown as it is"
    )


def without_guesses(results: Iterable[CheckResult], *, refusals: bool = False) -> tuple[CheckResult, ...]:
    """The results, those skipped that failed on a name which an unlisted release lacks: missing or broken there, nobody knows.

    Args: refusals = also what ended in any exception of the library: cases are built for what a listed release takes.
    """
    reason = not_listed()
    if not reason:
        return tuple(results)
    return tuple(
        replace(result, status="skipped", reason=f"{reason}: {result.reason}", exception=None) if _misses(result, refusals) else result
        for result in results
    )


def _misses(result: CheckResult, refusals: bool) -> bool:
    missing = result.reason.startswith("raised " if refusals else MISSING) or "unexpected keyword argument" in result.reason
    return result.status == "failed" and missing
