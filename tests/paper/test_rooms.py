"""A room's hash: what it sees, what it does not, and that the rooms of each file of evidence are all that its numbers pass through."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from paper.sources import SOURCES
from paper.stamp import git, room_hash_at
from rsverify.errors import InputError
from rsverify.report.rooms import KINDS, ROOT, hash_of, recorded, room_hash, room_hashes

CHECKOUT = (ROOT / ".git").exists()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    (tmp_path / "room" / "inner").mkdir(parents=True)
    (tmp_path / "room" / "a.py").write_bytes(b"x = 1\n")
    (tmp_path / "room" / "inner" / "b.json").write_bytes(b'{"x": 2}\n')
    (tmp_path / "room" / "inner" / "kernel.c").write_bytes(b'#include "sizes.h"\n')
    (tmp_path / "room" / "inner" / "sizes.h").write_bytes(b"#define LANES 8\n")
    (tmp_path / "room" / "__pycache__").mkdir()
    (tmp_path / "room" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"1")
    return tmp_path


def test_what_is_no_change(house):
    before = room_hash("room", root=house)
    os.utime(house / "room" / "a.py", (1, 1))
    (house / "room" / "a.py").write_bytes(b"x = 1\r\n")
    (house / "room" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"2")
    (house / "room" / "notes.md").write_text("words")
    (house / "other.py").write_text("y = 1\n")
    assert room_hash("room", root=house) == before
    assert room_hash("room", root=house.parent / house.name) == before


@pytest.mark.parametrize("change", ["content", "data", "kernel", "header", "new", "gone", "moved", "between"])
def test_what_is_a_change(house, change):
    before, room = room_hash("room", root=house), house / "room"
    if change == "content":
        (room / "a.py").write_text("x = 2\n")
    elif change == "data":
        (room / "inner" / "b.json").write_text('{"x": 3}\n')
    elif change == "kernel":
        (room / "inner" / "kernel.c").write_text('#include "other.h"\n')
    elif change == "header":
        (room / "inner" / "sizes.h").write_text("#define LANES 16\n")
    elif change == "new":
        (room / "c.py").write_text("")
    elif change == "gone":
        (room / "a.py").unlink()
    elif change == "moved":
        (room / "a.py").rename(room / "inner" / "a.py")
    else:  # a line that goes from one file to the next
        (room / "a.py").write_text("")
        (room / "inner" / "b.json").write_text('x = 1\n{"x": 2}\n')
    assert room_hash("room", root=house) != before


NO_SOURCE = {
    "docs/peft_defects/README.md": "words about the reproductions",
    "proofs/INDEX.md": "written from the proofs; a test compares them",
    "rsverify/interop/peft/known/peft-0.21.2.txt": "which failures are expected; the numbers are of what was found",
    "rsverify/training/model/data/base.safetensors": "weights, whose hash stands in base.json beside them",
}
"""The files of rooms that no hash covers, each with the reason."""


@pytest.mark.skipif(not CHECKOUT, reason="not a checkout: there is no list of its files")
def test_every_file_of_a_room_is_hashed_or_said_to_decide_nothing():
    rooms = {room for source in SOURCES.values() for room in source.rooms}
    held = git("ls-files", "-z", "--", *sorted(rooms)).decode().split("\0")
    assert {name for name in held if name and name not in rooms and not name.endswith(KINDS)} == set(NO_SOURCE)


def test_order_of_files_is_nothing():
    files = [("b", b"2"), ("a", b"1")]
    assert hash_of(files) == hash_of(reversed(files)) != hash_of([("a", b"2"), ("b", b"1")])


def test_a_room_that_is_not_there_is_refused(house):
    with pytest.raises(InputError, match="has no source.*name it anew"):
        room_hash("attic", root=house)


def test_hashes_travel_among_others():
    hashes = {"text": "f00", **room_hashes(["rsverify/powerlaw.py"])}
    assert recorded(hashes) == {"rsverify/powerlaw.py": room_hash("rsverify/powerlaw.py")}


@pytest.mark.skipif(not CHECKOUT, reason="not a checkout: there is no commit to read a room from")
def test_a_commit_gives_the_hash_of_its_checkout():
    """Of a room without changes; git may hold other line ends than the folder does."""
    for room in ("rsverify/training", "rsverify/powerlaw.py"):
        if not subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain", "--", room], capture_output=True, check=True).stdout:
            assert room_hash_at("HEAD", room) == room_hash(room)


CARRIERS = (
    "rsverify", "rsverify.errors", "rsverify.files", "rsverify.records", "rsverify.stages", "rsverify.report", "rsverify.sweep",
    "rsverify.cli",
)  # fmt: skip
"""What carries, words or writes a number without deciding it: not among any evidence's rooms."""
ENTRANCES = {"reproduce": ("rsverify.studies.reproduce",), "atlas": ("rsverify.studies.atlas",)}
"""The modules in which a study begins."""
WRITERS = ("rsverify.studies.reproduce.drawing", "rsverify.studies.reproduce.figure", "rsverify.studies.reproduce.study")
WRITERS += ("rsverify.studies.reproduce.writing", "rsverify.studies.reproduce.comparing", "rsverify.studies.reproduce")


@pytest.fixture(scope="module")
def graph():
    grimp = pytest.importorskip("grimp")
    return grimp.build_graph("rsverify")


def missing(graph, entrances, rooms) -> list[str]:
    """The modules that a study imports, directly or not, and that are in no room."""
    found: set[str] = set()
    for module in [m for m in graph.modules for e in entrances if m == e or m.startswith(e + ".")]:
        found |= {module} | graph.find_upstream_modules(module)
    places = [room.removesuffix(".py").replace("/", ".") for room in rooms]

    def within(module: str, folders) -> bool:
        return any(module == folder or (module.startswith(folder + ".") and folder != "rsverify") for folder in folders)

    return sorted(m for m in found if not within(m, places) and not within(m, CARRIERS) and m not in WRITERS)


@pytest.mark.parametrize("name", [name for name in ENTRANCES if name in SOURCES])
def test_rooms_are_all_that_the_numbers_pass_through(graph, name):
    assert missing(graph, ENTRANCES[name], SOURCES[name].rooms) == []


def test_a_forgotten_room_is_seen(graph):
    rooms = [room for room in SOURCES["reproduce"].rooms if room != "rsverify/statistics"]
    assert "rsverify.statistics.wishart" in missing(graph, ENTRANCES["reproduce"], rooms)
