"""Where the list lies of what is known to be wrong in a release of PEFT, so that the next release shows what changed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).parent / "known"


def shipped() -> Path | None:
    """The list that comes with us for the PEFT that is installed; None for a release that nobody has looked at."""
    try:
        path = FOLDER / f"peft-{version('peft')}.txt"
    except PackageNotFoundError:
        return None
    return path if path.exists() else None
