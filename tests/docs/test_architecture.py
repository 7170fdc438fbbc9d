"""The picture of the house is drawn from its imports: it is current, goes down only, and a circle is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import architecture  # noqa: E402

DELAYED = [["rsverify.definitions.registry", "rsverify.definitions.targets"]]
"""Circles of files that are closed by an import inside a function alone: none may be added."""


@pytest.fixture(scope="module")
def graph():
    return architecture.imports(ROOT)


def test_the_picture_is_current():
    text = architecture.PICTURE.read_text(encoding="utf-8")
    assert text == architecture.picture(ROOT), "stale: python docs/architecture.py"


def test_rooms_import_downwards_only(graph):
    rows = architecture.floors(architecture.rooms(graph))
    height = {room: number for number, row in enumerate(rows) for room in row}
    for room, targets in architecture.rooms(graph).items():
        assert all(height[other] < height[room] for other in targets)
    assert {"symbolic", "montecarlo", "training"} <= set(rows[height["symbolic"]])


def test_no_circle_of_files(graph):
    assert architecture.circles(architecture.imports(ROOT, delayed=False)) == []
    assert [part for part in architecture.circles(graph) if part not in DELAYED] == []


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / "rsverify" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_a_circle_is_seen_whatever_the_form_of_the_import(tmp_path):
    forms = ("import rsverify.b__x", "from rsverify.b import x", "from rsverify.b.x import y", "def f():\n    from rsverify.b import x")
    for number, form in enumerate(forms):
        root = write(
            tmp_path / str(number),
            a__one=form.replace("__", "."),
            b__x="from rsverify.a import one\ny = 1\n",
            c__z="import rsverify.a.one\n",
        )
        found = architecture.imports(root)
        assert architecture.circles(found) == [["rsverify.a.one", "rsverify.b.x"]]
        with pytest.raises(ValueError, match="a <-> b"):
            architecture.floors(architecture.rooms(found))


def test_imports_for_types_count_for_nothing_and_delayed_ones_by_choice(tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rsverify.b import x\ndef f():\n    import rsverify.c.z\n"
    root = write(tmp_path, a__one=text, b__x="", c__z="")
    assert architecture.imports(root)["rsverify.a.one"] == {"rsverify.c.z"}
    assert architecture.imports(root, delayed=False)["rsverify.a.one"] == set()


def test_floors_stand_on_what_they_import():
    assert architecture.floors({"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "a"}}) == [["a"], ["b", "c"], ["d"]]
