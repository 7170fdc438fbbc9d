"""The course runs, each notebook in a kernel of its own, and what is stored is what its text form says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

COURSE = Path(__file__).parents[2] / "notebooks"
FOUND = importlib.util.spec_from_file_location("course_build", COURSE / "build.py")
assert FOUND and FOUND.loader
build = importlib.util.module_from_spec(FOUND)
FOUND.loader.exec_module(build)

SOURCES = build.sources()
PARTS = ("Question", "Prediction on paper", "Experiment", "What would have refuted it", "Exercises", "Lesson")


def test_there_are_seven_each_with_its_text_form() -> None:
    assert [source.stem[0] for source in SOURCES] == list("1234567")
    assert {path.stem for path in COURSE.glob("*.ipynb")} == {source.stem for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_it_runs_and_its_lesson_holds(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    stored, fresh = nbformat.read(source.with_suffix(".ipynb"), as_version=4), build.run(source)
    assert [cell.source for cell in stored.cells] == [cell.source for cell in fresh.cells], f"run notebooks/build.py {source.stem}"
    for old, new in zip(stored.cells, fresh.cells, strict=True):
        kinds = [[output.output_type for output in cell.get("outputs", [])] for cell in (old, new)]
        assert kinds[0] == kinds[1], f"run notebooks/build.py {source.stem}: a cell's outputs are not those stored"
        for before, after in zip(said(old), said(new), strict=True):
            assert same(before, after), f"run notebooks/build.py {source.stem}: stored is\n{before}\nand a fresh run says\n{after}"


def said(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell prints or shows as text; pictures are left to the eye."""
    return [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]


NUMBER = re.compile(r"-?\d+(?:\.(\d+))?(?:e([+-]?\d+))?")


def same(stored: str, fresh: str) -> bool:
    """Whether two texts say the same: word for word, and number for number to one unit in the last place printed.

    The same number on another machine may differ in its last bits, and so be rounded to the neighbouring print.
    """
    if NUMBER.sub("#", stored) != NUMBER.sub("#", fresh):
        return False

    def unit(match: re.Match[str]) -> float:
        return 10.0 ** (int(match[2] or 0) - len(match[1])) if match[1] else 0.0

    return all(
        abs(float(a[0]) - float(b[0])) <= 1.001 * max(unit(a), unit(b))
        for a, b in zip(NUMBER.finditer(stored), NUMBER.finditer(fresh), strict=True)
    )


@pytest.mark.parametrize(
    ("stored", "fresh", "alike"),
    [
        ("exponent -1.003 in [-1.02, -0.98], 5068 draws", "exponent -1.004 in [-1.02, -0.98], 5068 draws", True),
        ("exponent -1.003", "exponent -1.005", False),
        ("5068 draws", "5069 draws", False),
        ("lr 7.07e-05", "lr 7.08e-05", True),
        ("lr 7.07e-05", "lr 7.07e-04", False),
        ("holds", "does not hold", False),
        ("r**-1/2", "r**1/2", False),
    ],
)
def test_texts_are_compared_to_the_last_place_printed(stored: str, fresh: str, alike: bool) -> None:
    assert same(stored, fresh) is alike


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_it_is_built_as_the_others(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    for part in PARTS:
        assert re.search(rf"\*\*{part}", text), part
    assert "assert" in text.rpartition("# %%\n")[2], "the last cell asserts the lesson"
    assert not re.search(r"(import|from) rsverify\.[\w.]*_\w+|\._\w+\(", text), "only the public API"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_what_is_stored_names_no_machine(source: Path) -> None:
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    pictures = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source
            shown = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            assert not re.search(r"/(home|root|tmp|Users|work)\b|[A-Z]:\\|0x[0-9a-f]{6}", shown), shown
            pictures += "image/png" in output.get("data", {})
    assert pictures >= 1
