"""The proofs hold, each of their steps can be refused, and they do not lean on what they vouch for."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from rsverify.cli import main
from rsverify.proving import LemmaResult, Step, library, prove
from rsverify.proving.index import index_text
from rsverify.proving.inequalities import Inequality

pytest.importorskip("z3", reason="z3 is not installed: pip install 'rsverify[proofs]'")
pytest.importorskip("flint", reason="python-flint is not installed: pip install 'rsverify[proofs]'")

ROOT = Path(__file__).parents[2]
STEPS = [(f"{name}-{number}", step) for name, lemma in library.lemmas().items() for number, step in enumerate(lemma.steps, start=1)]


@pytest.fixture(scope="module")
def results() -> dict[str, LemmaResult]:
    return {name: prove(lemma) for name, lemma in library.lemmas().items()}


@pytest.mark.parametrize("name", library.lemmas())
def test_every_step_is_proved_or_said_to_be_cited(results: dict[str, LemmaResult], name: str) -> None:
    for step, finding in zip(results[name].lemma.steps, results[name].findings, strict=True):
        assert finding.status == ("cited" if step.check.scope == "cited" else "proved"), (step.why, finding)


@pytest.mark.parametrize(
    "step", [step for _, step in STEPS if step.check.scope != "cited"], ids=[i for i, s in STEPS if s.check.scope != "cited"]
)
def test_corrupted_twins_are_refused_with_a_counterexample(step: Step) -> None:
    twins = step.check.twins()
    assert twins
    for twin in twins:
        assert type(twin.check) is type(step.check)
        finding = twin.check.run()
        assert finding.status == "refuted" and finding.counterexample, f"not refused ({twin.corruption}): {twin.check.text()}: {finding}"


def test_the_number_of_corrupted_twins(capsys: pytest.CaptureFixture[str]) -> None:
    """Every step that is decided has a twin, and all three kinds of corruption occur."""
    decided = [step for _, step in STEPS if step.check.scope != "cited"]
    kinds = Counter(twin.corruption for step in decided for twin in step.check.twins())
    with capsys.disabled():
        print(f"\ncorrupted twins of {len(decided)} steps: {dict(kinds)}, {kinds.total()} in all", end=" ")
    assert set(kinds) == {"coefficient", "sign", "exponent"} and all(step.check.twins() for step in decided)


@pytest.mark.parametrize(
    "step", [s for _, s in STEPS if isinstance(s.check, Inequality)], ids=[i for i, s in STEPS if isinstance(s.check, Inequality)]
)
def test_no_inequality_follows_from_a_contradiction(step: Step) -> None:
    assert isinstance(step.check, Inequality) and step.check.given_holds()


@pytest.mark.parametrize("path", sorted((ROOT / "proofs").glob("*.py")), ids=lambda path: path.stem)
def test_a_proof_imports_only_what_proofs_are_written_with(path: Path) -> None:
    allowed = {"sympy", "math", "collections", "rsverify.proving", "__future__"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert {name if str(name).startswith("rsverify") else str(name).split(".")[0] for name in names} <= allowed, names


def test_running_the_proofs_loads_no_witness() -> None:
    code = (
        "import sys; from rsverify.proving.library import prove_all; prove_all('merging');"
        "print(*[m for m in ('rsverify.symbolic', 'rsverify.montecarlo', 'rsverify.training', 'torch', 'z3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_index_is_current() -> None:
    written = (ROOT / "proofs" / "INDEX.md").read_text(encoding="utf-8")
    assert written == index_text(library.lemmas()), "stale: run rsverify prove --index proofs/INDEX.md"


def run(*tokens: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(tokens))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_verb_prints_statement_status_and_scope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prove", "merging", "--json", str(tmp_path / "proofs.json")) == 0
    shown = capsys.readouterr().out
    assert "merging: proved (all r)" in shown and "W x + gamma B (A x)" in shown and "normal form of matrix words" in shown
    told = json.loads((tmp_path / "proofs.json").read_text(encoding="utf-8"))
    assert (told["schema"], told["verdict"], told["complete"]) == ("rsverify/1", "holds", True)
    assert {step["status"] for step in told["lemmas"][0]["steps"]} == {"proved"}


def test_the_verb_shows_how_corrupted_steps_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prove", "merging", "--twins") == 0
    shown = capsys.readouterr().out
    assert (
        shown.count("corrupted ") == shown.count("       refuted: ") == sum(len(s.check.twins()) for s in library.lemmas()["merging"].steps)
    )


def test_a_proof_is_a_file_that_can_be_executed() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "proofs" / "merging.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("merging: proved (all r)")


def test_a_lemma_is_run_with_what_it_uses() -> None:
    known = library.lemmas()
    name = max(known, key=lambda name: len(library.needed(name, known)))
    assert [result.lemma.name for result in library.prove_all(name)] == [n for n in known if n in library.needed(name, known)]


def test_an_unknown_lemma_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prove", "mergin") == 2
    assert "did you mean 'merging'?" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prove", "--index", str(tmp_path / "nowhere" / "INDEX.md")) == 2
    assert run("prove", "--json", str(tmp_path / "nowhere" / "proofs.json")) == 2
    told = capsys.readouterr()
    assert "its folder does not exist" in told.err and told.out == ""
