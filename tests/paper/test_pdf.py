"""The committed PDF is what the committed evidence gives; whatever the evidence says, the paper can be built."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from paper import build as building
from paper.build import PDF, build
from paper.naming import load

pypdf = pytest.importorskip("pypdf", reason="the paper's extra is not installed: pip install -e '.[paper]'")
pytest.importorskip("typst", reason="the paper's extra is not installed: pip install -e '.[paper]'")


def pages(path: Path) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(path).pages]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    build(folder / "paper.pdf", folder=folder)
    return folder / "paper.pdf"


def test_the_committed_paper_is_what_the_evidence_gives(fresh):
    assert pages(PDF) == pages(fresh), "rebuild it: python paper/build.py"
    assert PDF.stat().st_size < 1_500_000


def test_the_paper_has_its_length(fresh):
    assert 8 <= len(pages(fresh)) <= 12


def altered(**changes: Any):
    """Evidence with some files changed by a function of their data."""

    def read(name: str) -> dict[str, Any]:
        data = copy.deepcopy(load(name))
        if name in changes:
            changes[name](data)
        return data

    return read


def answers(outcome: str, answer: str):
    """Every figure of the reproduction with one answer, and every question with one."""

    def change(data: dict[str, Any]) -> None:
        data["kind"] = "full" if answer == "yes" else "quick"
        for figure in data["figures"]:
            figure["answer"] = outcome
            for part in figure["parts"]:
                part["answer"] = answer

    return change


@pytest.mark.parametrize(
    ("outcome", "answer", "word"),
    [("holds", "yes", "holds"), ("holds only for", "no", "holds"), ("does not hold here", "no", "not"), ("inconclusive", "open", "open")],
)
def test_every_outcome_of_the_reproduction_has_its_sentences(tmp_path, outcome, answer, word):
    del word
    build(tmp_path / "paper.pdf", read=altered(reproduce=answers(outcome, answer)), folder=tmp_path)
    assert 8 <= len(pages(tmp_path / "paper.pdf")) <= 12


def test_other_witnesses_may_disagree_and_tables_may_grow(tmp_path):
    def more_variants(data: dict[str, Any]) -> None:
        data["answers"] += [{**answer, "variant": answer["variant"] + "-other"} for answer in data["answers"][:8]]
        for entry in data["entries"]:
            if entry["row"]["predicted"] and entry["row"]["estimated"]:
                entry["row"]["agreement"] = "refuted"

    def refuted(data: dict[str, Any]) -> None:
        data["verdict"] = "does_not_hold"
        for row in data["rows"]:
            row["agreement"], row["estimated"] = "refuted", None

    def uncaught(data: dict[str, Any]) -> None:
        data["families"][0]["caught"] -= 1

    def broken(data: dict[str, Any]) -> None:
        data["lines"][0]["kept"] = False

    read = altered(atlas=more_variants, dichotomy=refuted, verify=refuted, suite=uncaught, calibration=broken)
    build(tmp_path / "paper.pdf", read=read, folder=tmp_path)


def test_a_figure_with_other_ranks(tmp_path):
    def change(data: dict[str, Any]) -> None:
        for figure in data["figures"]:
            if figure["name"] in ("perplexity", "gradient-norm"):
                for table in figure["tables"]:
                    table["rows"] = [*table["rows"], ["2048 (above the width)", "diverged", *table["rows"][-1][2:]]]

    build(tmp_path / "paper.pdf", read=altered(reproduce=change), folder=tmp_path)


def test_a_planted_number_stops_the_build(tmp_path, monkeypatch):
    planted = tmp_path / "paper.typ"
    planted.write_text(building.TEXT.read_text(encoding="utf-8") + "\nAnd 61 more.\n", encoding="utf-8")
    monkeypatch.setattr(building, "TEXT", planted)
    with pytest.raises(SystemExit, match="without a source"):
        build(tmp_path / "paper.pdf", folder=tmp_path)


def test_stale_evidence_stops_the_command(monkeypatch, tmp_path):
    from paper.sources import Stale

    monkeypatch.setattr(building, "stale", lambda: [Stale("reproduce", "rsverify/training", "a", "b")])
    monkeypatch.setattr("sys.argv", ["build.py", "--out", str(tmp_path / "paper.pdf")])
    with pytest.raises(SystemExit, match="reproduce: rsverify/training was a, is b"):
        building.main()
