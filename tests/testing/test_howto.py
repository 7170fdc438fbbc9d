"""The how-to pages run as they are printed, in pytest and on the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_rule_is_tested_in_five_lines_of_ones_own(tmp_path: Path) -> None:
    first, second = blocks("howto_rule.md", "python")
    assert len([line for line in first.splitlines() if line.strip()]) == 5
    (tmp_path / "test_rule.py").write_text(first + second, encoding="utf-8")
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_rule.py")
    assert "3 passed" in done.stdout and "2 statements about adapters: 2 confirmed" in done.stdout, done.stdout + done.stderr
    wrong = (first + second).replace("r**0.5", "r").replace("<=", "<")
    (tmp_path / "test_rule.py").write_text(wrong, encoding="utf-8")
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_rule.py")
    assert "2 failed" in done.stdout and "found collapses" in done.stdout and "at r=2," in done.stdout, done.stdout


def test_a_variant_is_one_short_file(tmp_path: Path) -> None:
    declaration, tests = blocks("howto_adapter.md", "python")
    assert len(declaration.splitlines()) <= 30
    (tmp_path / "mine.py").write_text(declaration, encoding="utf-8")
    (tmp_path / "test_mine.py").write_text("import rsverify as rv\nfrom mine import mine\n" + tests, encoding="utf-8")
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_mine.py")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
    (command,) = blocks("howto_adapter.md", "sh")
    done = run(tmp_path, "-c", entry(command))
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_entry_point_gives_it_a_name(tmp_path: Path) -> None:
    declaration, _ = blocks("howto_adapter.md", "python")
    (toml,) = blocks("howto_adapter.md", "toml")
    group = tomllib.loads(toml)["project"]["entry-points"]["rsverify.adapters"]
    (tmp_path / "mine.py").write_text(declaration, encoding="utf-8")
    info = tmp_path / "mine-1.0.dist-info"  # what installing the user's package would write
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", encoding="utf-8")
    points = "".join(f"{name} = {value}\n" for name, value in group.items())
    (info / "entry_points.txt").write_text(f"[rsverify.adapters]\n{points}", encoding="utf-8")
    done = run(tmp_path, "-c", entry("rsverify derive mine --rule alpha/sqrt(r) --optimizer sgd"))
    assert done.returncode == 0 and "mine" in done.stdout, done.stdout + done.stderr
    code = """
from hypothesis import find
from rsverify.testing import strategies
print(find(strategies.declared_adapters(), lambda adapter: adapter.name == "mine").expression)
"""
    done = run(tmp_path, "-c", code)
    assert done.stdout.strip() == "o r, r, r i -> o i", done.stderr


def entry(command: str) -> str:
    return f"from rsverify.cli import main; main({command.split()[1:]!r})"
