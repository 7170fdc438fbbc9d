"""How a result was made: versions, seeds, device, commit, hashes. Never a user, a host or a path."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rsverify.records import Provenance

PACKAGES = ("numpy", "scipy", "sympy", "torch", "transformers", "peft")


def provenance(
    *, seed: int, device: str = "cpu", hashes: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Provenance:
    """The provenance of a result made now by this installation.

    Args: hashes of texts and checkpoints by name; settings are the sizes and options that decide the numbers.
    """
    return Provenance(
        version=_version("rsverify") or "not installed",
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        seed=seed,
        commit=_commit(),
        hashes=dict(hashes or {}),
        settings=dict(settings or {}),
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, "+changes" where files differ from it; None for a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changed else "")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
