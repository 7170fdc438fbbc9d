"""The journal of a sweep: one SQLite file, one writer, a row for each finished cell, committed before the next is asked for.

A cell is finished when its row is committed. Write-ahead logging makes that one fsync, and leaves the file readable while
a sweep runs.
"""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rsverify.errors import InputError, RsverifyError
from rsverify.files.locks import InUse, lock
from rsverify.sweep.cells import Cell

SCHEMA = 1
PACKAGES = ("numpy", "scipy", "torch", "transformers", "peft")


class JournalError(RsverifyError):
    """A journal that belongs to something else, is in use, or can no longer be written."""


@dataclass(frozen=True)
class Identity:
    """What a journal belongs to: results of two identities may not stand in one file.

    Args: study is its name; settings what decides the numbers beside the cells themselves; versions of rsverify, Python
        and the numerical packages; commit where there is one.
    """

    study: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: installed_versions())
    commit: str | None = None

    def flat(self) -> dict[str, str]:
        """Every part under its own name, as text."""
        found = {"journal schema": str(SCHEMA), "study": self.study, "commit": str(self.commit)}
        found.update({f"version of {name}": text for name, text in self.versions.items()})
        found.update({f"setting {name}": json.dumps(value, sort_keys=True) for name, value in self.settings.items()})
        return found


def installed_versions() -> dict[str, str]:
    """Versions that numbers may depend on."""
    found = {"python": platform.python_version()}
    for name in ("rsverify", *PACKAGES):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Journal:
    """Finished cells on disk; a context manager that holds the right to write.

    Raises: JournalError where the file belongs to another identity (naming each difference), is no journal, cannot be
        made, or another process is writing it.
    """

    def __init__(self, path: Path | str, identity: Identity) -> None:
        self.path = Path(path)
        self.identity = identity
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"journal={str(path)!r} cannot be made ({error.strerror})") from None
        try:
            self._lock = lock(self.path.with_name(self.path.name + ".lock"))
        except InUse:
            raise JournalError(f"journal={str(path)!r} is being written by another process; wait for it, or give another file") from None
        except InputError as error:
            raise JournalError(f"journal={str(path)!r} cannot be written ({error}); give another folder") from None
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise JournalError(f"journal={str(path)!r} cannot be opened ({error}); give another file") from None
        except JournalError:
            self.close()
            raise

    def _open(self) -> None:
        self._database = sqlite3.connect(self.path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")  # in WAL mode a commit is durable only with it
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("CREATE TABLE IF NOT EXISTS identity (name TEXT PRIMARY KEY, value TEXT)")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, cell TEXT, result TEXT, seconds REAL, finished TEXT)"
        )
        mine = self.identity.flat()
        theirs = dict(self._database.execute("SELECT name, value FROM identity"))
        if not theirs:
            self._database.executemany("INSERT INTO identity VALUES (?, ?)", mine.items())
        self._database.execute("COMMIT")
        if theirs and theirs != mine:
            names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
            shown = "; ".join(f"{name}: journal has {theirs.get(name, 'nothing')}, this run {mine.get(name, 'nothing')}" for name in names)
            raise JournalError(
                f"journal={str(self.path)!r} belongs to another run ({shown}); give another file, or remove it to start again"
            )

    def finished(self) -> dict[str, str]:
        """Results as JSON text, by the key of their cell."""
        return dict(self._database.execute("SELECT key, result FROM cells"))

    def seconds(self) -> float:
        """What all finished cells took together."""
        (total,) = self._database.execute("SELECT sum(seconds) FROM cells").fetchone()
        return float(total or 0)

    def record(self, cell: Cell, result: str, *, seconds: float) -> None:
        """Commit a finished cell.

        Raises: JournalError where the disk is full or the file gone; what was committed before stays.
        """
        try:
            self._database.execute(
                "INSERT INTO cells VALUES (?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))", (cell.key, cell.text, result, seconds)
            )
        except sqlite3.IntegrityError:
            raise JournalError(f"cell {cell.text} was finished twice: this is a bug of the sweep") from None
        except sqlite3.Error as error:
            cure = (
                "free some space and start again: finished cells are kept"
                if "full" in str(error)
                else "start again: finished cells are kept"
            )
            raise JournalError(f"journal={str(self.path)!r} cannot be written ({error}); {cure}") from None

    def close(self) -> None:
        self._database.close()
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
