"""The floors of the house: import-linter's contracts hold, and they are the ones that the design names."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_contract_is_kept() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed; it comes with the extra dev")
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_a_witness_that_imports_another_is_caught(tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed; it comes with the extra dev")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    for path in (ROOT / "rsverify").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "rsverify" / "symbolic" / "mutant.py").write_text("import rsverify.montecarlo\n", encoding="utf-8")
    done = lint(tmp_path)
    assert done.returncode != 0 and "rsverify.symbolic.mutant -> rsverify.montecarlo" in done.stdout


def test_every_module_stands_on_a_floor() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    floors = {
        part.strip() for contract in contracts if contract["type"] == "layers" for layer in contract["layers"] for part in split(layer)
    }
    found = {f"rsverify.{path.stem}" for path in (ROOT / "rsverify").iterdir() if is_module(path)}
    assert found <= floors, f"no floor holds {sorted(found - floors)}"


def split(layer: str) -> list[str]:
    return layer.replace(":", "|").split("|")


def is_module(path: Path) -> bool:
    return (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
