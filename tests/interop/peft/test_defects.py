"""Every defect of PEFT 0.21.2 that we report is there: its minimal reproduction runs, and a check sees it and expects it."""

import ast
import contextlib
import importlib.util
import io
import json
import math
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from rsverify.conformance.xfails import expected_for, read_xfails
from rsverify.interop.peft.everything import every_target, known_checks
from rsverify.interop.peft.known import shipped
from rsverify.interop.peft.target import known_as

FOLDER = Path(__file__).parents[3] / "docs" / "peft_defects"
FILES = sorted(FOLDER.glob("*.py"))
SEEN = re.compile(r"# Seen by: (?P<target>\S+) (?P<check>check_\w+)\. Thread: (?P<thread>no thread found|https://\S+(?: \(.+\))?)\.")
PINNED = "0.21.2"

pytestmark = pytest.mark.skipif(version("peft") != PINNED, reason=f"the defects are those of PEFT {PINNED}")


def run(path):
    spec = importlib.util.spec_from_file_location(f"defect_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module.found, module.expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_reproduction_shows_the_defect(path):
    found, expected = run(path)
    assert found != expected
    if isinstance(found, float):
        assert not math.isclose(found, expected, rel_tol=1e-3), (found, expected)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_reproduction_is_minimal_and_says_who_sees_it(path):
    text = path.read_text()
    code = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) < 15
    used = {name.split(".")[0] for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])}  # fmt: skip
    assert used <= {"peft", "torch", "safetensors", "transformers", *sys.stdlib_module_names}  # the third and fourth come with PEFT
    title, seen = text.splitlines()[:2]
    assert title.startswith("# ") and title.endswith(".")
    match = SEEN.fullmatch(seen)
    assert match, seen
    assert match["target"] in every_target() and match["check"] in known_checks()
    reason = expected_for(known_as(match["target"]), read_xfails(shipped(), known_checks()))[match["check"]]
    assert path.stem.split("_")[0].upper() in re.findall(r"[A-Z]\d+B?", reason.upper()), reason


def test_the_index_lists_every_file():
    index = (FOLDER / "README.md").read_text()
    for path in FILES:
        title, seen = path.read_text().splitlines()[:2]
        assert f"[{path.stem.split('_')[0].upper()}]({path.name})" in index, path.name
        assert title[2:-1] in index and SEEN.fullmatch(seen)["check"] in index, path.name


def test_the_evidence_is_of_these_files_and_every_check_saw_its_defect():
    """Written by `python benchmarks/peft_defects.py`."""
    evidence = json.loads((FOLDER.parents[1] / "paper" / "evidence" / "peft_defects.json").read_text(encoding="utf-8"))
    assert {Path(d["file"]).name for d in evidence["defects"]} == {path.name for path in FILES}
    for defect in evidence["defects"]:
        title, seen = (FOLDER / Path(defect["file"]).name).read_text().splitlines()[:2]
        assert defect["sentence"] == title[2:] and defect["status"] == "xfailed" and defect["found"] != defect["expected"]
        assert {key: defect[key] for key in ("target", "check", "thread")} == {**SEEN.fullmatch(seen).groupdict()}
    assert evidence["not_as_listed"] == [] and evidence["peft"] == PINNED
