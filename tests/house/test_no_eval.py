"""Nothing from outside is ever executed: no eval, exec, sympify, parse_expr, pickle, nor a torch.load of more than weights."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "rsverify"
CALLS = {"eval", "exec", "compile", "sympify", "parse_expr", "S", "Unpickler", "unsafe_load", "system", "popen"}
MODULES = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def dangers(code: str) -> Iterator[str]:
    """What a source holds that could execute text or files from outside, with its line."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            names += [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] in MODULES or name in {"eval", "exec", "sympify", "parse_expr"}:
                    yield f"line {node.lineno}: import of {name}"
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        owner = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        harmless = isinstance(node.func, ast.Attribute) and (
            (called == "eval" and not node.args)  # model.eval() has no text; the other eval always has
            or (called == "compile" and owner != "builtins")  # re.compile, torch.compile, model.compile
            or (called == "system" and owner == "platform")
            or (called == "S" and all(isinstance(argument, ast.Constant) and isinstance(argument.value, int) for argument in node.args))
        )
        if called in CALLS and not harmless:
            yield f"line {node.lineno}: call of {called}"
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        weights = options.get("weights_only")
        if (owner, called) == ("torch", "load") and not (isinstance(weights, ast.Constant) and weights.value is True):
            yield f"line {node.lineno}: torch.load without weights_only=True"
        for name in ("allow_pickle", "shell", "trust_remote_code"):
            given = options.get(name)
            if given is not None and not (isinstance(given, ast.Constant) and given.value is False):
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_executes_what_it_reads(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "eval('1')",
        "exec(text)",
        "builtins.eval(text)",
        "import pickle",
        "from pickle import loads",
        "import sympy as sp; sp.sympify(t)",
        "from sympy import sympify",
        "parse_expr(t)",
        "sp.S(t)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "run(c, shell=True)",
        "os.system(c)",
        "compile(t, '', 'exec')",
        "AutoModel.from_pretrained(d, trust_remote_code=True)",
    ],
)
def test_the_scan_sees_each_danger(code: str) -> None:
    assert list(dangers(code))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "platform.system()",
        "sp.S(1)",
        "np.load(f)",
        "re.compile(t)",
        "torch.load(f, weights_only=True)",
        "formula.evaluate(v)",
        "json.loads(t)",
    ],
)
def test_the_scan_lets_honest_code_pass(code: str) -> None:
    assert not list(dangers(code))
