"""The house stands: floors are kept, the front door is light, no text from outside is ever run as code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rsverify

ROOT = Path(rsverify.__file__).parent
HEAVY = ("torch", "sympy", "scipy.stats", "matplotlib", "transformers", "peft")


@pytest.mark.parametrize(
    "statement",
    [
        "import rsverify",
        "import rsverify; rsverify.adapters(); rsverify.rules(); rsverify.optimizers()",
        "import rsverify.definitions, rsverify.records, rsverify.statistics.intervals, rsverify.verdict",
        "import rsverify.montecarlo",
    ],
)
def test_light(statement):
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("room", "forbidden"), [("symbolic", ("torch", "matplotlib")), ("training", ("sympy", "matplotlib"))])
def test_witnesses_load_only_what_they_need(room, forbidden):
    others = tuple(f"rsverify.{name}" for name in ("symbolic", "montecarlo", "training") if name != room)
    code = f"import sys, rsverify.{room}; print([name for name in {(*forbidden, *others)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in rsverify.__all__:
        assert getattr(rsverify, name) is not None


def test_layers():
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed: pip install -e '.[dev]'")
    if not (ROOT.parent / "pyproject.toml").exists():
        pytest.skip("not a checkout: the contracts stand in pyproject.toml")
    done = subprocess.run([str(linter)], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stdout


def test_no_text_is_run_as_code():
    banned = {"eval", "exec", "compile", "__import__", "sympify", "parse_expr", "S"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "marshal", "shelve"} & set(names), path
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if isinstance(node.func, ast.Name) or name in ("sympify", "parse_expr"):
                    assert name not in banned, f"{path}: {name}"
                if name == "load" and isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "torch":
                    assert any(k.arg == "weights_only" for k in node.keywords), path


def test_the_readmes_map_matches_the_tree():
    readme = ROOT.parent / "README.md"
    if not readme.exists():
        pytest.skip("not a checkout")
    text = readme.read_text()
    rooms = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists())
    for room in rooms:
        assert f"`rsverify/{room}`" in text, room
