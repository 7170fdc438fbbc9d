"""The paper's evidence speaks of the code that is there; evidence that does not is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from paper.sources import ROOT, SOURCES, Source, changed, living, load, stale
from rsverify.report.rooms import room_hashes


def test_no_evidence_is_older_than_its_rooms():
    found = stale()
    assert not found, "make it anew, or see paper/stamp.py:\n" + "\n".join(map(str, found))


@pytest.mark.parametrize("name", SOURCES)
def test_evidence_is_small_and_says_how_it_was_made(name):
    source = SOURCES[name]
    assert (ROOT / source.path).stat().st_size < 1_000_000
    made = load(source)["provenance"]
    assert made["created"] and made["packages"] and "seed" in made
    assert not {"user", "host"} & set(made)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Source]:
    """A house with one room and one file of evidence made from it."""
    (tmp_path / "paper" / "evidence").mkdir(parents=True)
    (tmp_path / "room.py").write_text("x = 1\n")
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    source = Source("paper/evidence/e.json", "made", ("room.py",))
    made = {"provenance": {"hashes": room_hashes(["room.py"], root=tmp_path)}}
    (tmp_path / source.path).write_text(json.dumps(made))
    return tmp_path, source


def test_planted_stale_evidence_is_seen(small):
    root, source = small
    assert stale({"e": source}, root=root) == []
    (root / "room.py").write_text("x = 2\n")
    (found,) = stale({"e": source}, root=root)
    assert (found.source, found.room) == ("e", "room.py") and found.recorded != found.now


def test_a_changed_header_makes_evidence_stale(tmp_path):
    """A room holds its kernels too: what a compiler reads decides numbers as what Python reads."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "program.py").write_text("x = 1\n")
    (tmp_path / "room" / "sizes.h").write_text("#define LANES 8\n")
    (tmp_path / "e.json").write_text(json.dumps({"provenance": {"hashes": room_hashes(["room"], root=tmp_path)}}))
    sources = {"e": Source("e.json", "made", ("room",))}
    assert stale(sources, root=tmp_path) == []
    (tmp_path / "room" / "sizes.h").write_text("#define LANES 16\n")
    (found,) = stale(sources, root=tmp_path)
    assert found.room == "room"


def test_evidence_that_never_said_is_stale(small):
    root, source = small
    (root / source.path).write_text(json.dumps({"provenance": {"hashes": {}}}))
    (found,) = stale({"e": source}, root=root)
    assert found.recorded is None and "records no hash" in str(found)


def test_a_change_is_carried_only_as_it_was_read(small):
    root, source = small
    (root / "room.py").write_text("x = 1  # one\n")
    (found,) = changed("e", source, root=root)
    entry = {"source": "e", "room": "room.py", "recorded": found.recorded, "now": found.now, "because": "a comment"}
    (root / "paper" / "evidence" / "carried.json").write_text(json.dumps([entry]))
    assert stale({"e": source}, root=root) == []
    assert living([entry], {"e": source}, root=root) == [entry]
    (root / "room.py").write_text("x = 2  # one\n")
    assert len(stale({"e": source}, root=root)) == 1
    assert living([entry], {"e": source}, root=root) == [], "the paper would print a reason for a change that is no more"
