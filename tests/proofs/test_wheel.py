"""The proofs travel in the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_prove_runs_from_an_installed_wheel(tmp_path: Path) -> None:
    """Built by the backend itself and unpacked, which for a pure wheel is what installing it does."""
    pytest.importorskip("hatchling", reason="hatchling is not installed; it comes with the extra dev")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    built = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    site = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        wheel.extractall(site)
    assert {path.name for path in (site / "rsverify" / "_proofs").glob("*.py")} == {path.name for path in (ROOT / "proofs").glob("*.py")}
    code = "import sys, rsverify; from rsverify.cli import main; print(rsverify.__file__); main(['prove', 'merging'])"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].startswith(str(site)), "the checkout was imported, not the wheel"
    assert "merging: proved (all r)" in done.stdout
