"""The evidence behind the paper: which file, made by which command, from which rooms, and whether those rooms are still the same.

A file is fresh where every room it depends on has the hash that the file's provenance recorded. Where a room has changed since, somebody
may have read the change and seen that it cannot touch the numbers: `paper/evidence/carried.json` then names file, room, both hashes and
why, and the paper prints it. For any further change that entry counts no more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "benchmarks")]

from _evidence import ROOMS as BENCHMARKS

from rsverify.report.rooms import recorded, room_hash
from rsverify.studies.atlas.study import ROOMS as ATLAS
from rsverify.studies.reproduce.writing import ROOMS as REPRODUCE

CARRIED = ROOT / "paper" / "evidence" / "carried.json"


@dataclass(frozen=True)
class Source:
    """One file of evidence: what made it and the rooms that decide its numbers.

    Args: `dated` says why the text speaks of it as of its own commit, not as of this code; then no later change makes it stale.
    """

    path: str
    command: str
    rooms: tuple[str, ...]
    dated: str = ""


_THEORY = ("rsverify/symbolic", "rsverify/definitions", "rsverify/expressions.py", "rsverify/powerlaw.py")
_SIMULATION = (*_THEORY, "rsverify/montecarlo", "rsverify/statistics", "rsverify/verdict.py", "rsverify/studies/verify.py")


def _gathered(name: str, *rooms: str) -> Source:
    """Evidence that a command of the paper's own writes."""
    script = f"paper/gather/{name}.py"
    return Source(f"paper/evidence/{name}.json", f"python {script}", (*rooms, script))


def _benchmark(name: str, *options: str, room: str | None = None, dated: str = "") -> Source:
    """Evidence that a benchmark wrote."""
    room = room or name.partition("-")[0]
    return Source(f"benchmarks/evidence/{name}.json", " ".join(["python", f"benchmarks/{room}.py", *options]), BENCHMARKS[room], dated)


_ALARMS = "the text tells what a run at that commit found"
_BEFORE = "made before 0.2.0, with other draws of simulation: told as of its commit until the long run is made anew (docs/roadmap.md)"
_TIMES = "times are told as those of the commit at which they were measured, alone on a machine"
SOURCES: dict[str, Source] = {
    "theory": _gathered("theory", *_THEORY, "rsverify/studies/transfer.py"),
    "proofs": _gathered("proofs", "proofs", "rsverify/proving"),
    "dichotomy": _gathered("dichotomy", *_SIMULATION),
    "verify": _gathered("verify", *_SIMULATION, "rsverify/training"),
    "atlas": Source("paper/evidence/atlas.json", "rsverify atlas --evidence paper/evidence/atlas.json", ATLAS, _BEFORE),
    "reproduce": Source("paper/evidence/reproduce.json", "rsverify reproduce --json paper/evidence/reproduce.json", REPRODUCE, _BEFORE),
    "again": Source(
        "paper/evidence/reproduce_again.json",
        "rsverify reproduce --seed 1 --against paper/evidence/reproduce.json --json paper/evidence/reproduce_again.json",
        REPRODUCE,
        _BEFORE,
    ),
    "defects": Source("paper/evidence/peft_defects.json", "python benchmarks/peft_defects.py", BENCHMARKS["peft_defects"], _BEFORE),
    "suite": _gathered("suite", "rsverify/conformance", "rsverify/testing/mutants", "rsverify/testing/matrix.py", "docs/mutants.md"),
    "calibration": _benchmark("calibration", dated=_BEFORE),
    "montecarlo": _benchmark("montecarlo", dated=_TIMES),
    **{
        f"training-{case}": _benchmark(f"training-{case}", case, dated=_TIMES) for case in ("d64-t64", "d128-t64", "d128-t512", "d256-t512")
    },
    "false_alarms": _benchmark("conformance_false_alarms", room="conformance_false_alarms", dated=_ALARMS),
}
"""Every file of evidence that the paper may take a number from, by the name that the text's names begin with."""
if (ROOT / "benchmarks/evidence/conformance_false_alarms_mended.json").exists():
    SOURCES["false_alarms_mended"] = _benchmark(
        "conformance_false_alarms_mended", "--only check_save_reader", room="conformance_false_alarms", dated=_ALARMS
    )


@dataclass(frozen=True)
class Stale:
    """A room that is no longer the one a file was made from; recorded is None where the file never said."""

    source: str
    room: str
    recorded: str | None
    now: str

    def __str__(self) -> str:
        was = f"was {self.recorded}, is {self.now}" if self.recorded else f"the file records no hash of it; it is {self.now}"
        return f"{self.source}: {self.room} {was}"


def load(source: Source, *, root: Path = ROOT) -> dict[str, Any]:
    """The evidence as data."""
    return json.loads((root / source.path).read_text(encoding="utf-8"))


def carried(*, root: Path = ROOT) -> list[dict[str, str]]:
    """Changes of rooms that were read and found not to touch the numbers."""
    path = root / CARRIED.relative_to(ROOT)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def changed(name: str, source: Source, *, root: Path = ROOT) -> Iterator[Stale]:
    """The rooms of a file of evidence that are not those it was made from, whether or not somebody vouches for the change."""
    if source.dated:
        return
    hashes: Mapping[str, str] = recorded(load(source, root=root)["provenance"]["hashes"])
    for room in source.rooms:
        if hashes.get(room) != (now := room_hash(room, root=root)):
            yield Stale(name, room, hashes.get(room), now)


def vouched(found: Stale, entries: list[dict[str, str]]) -> str | None:
    """Why a change of a room does not matter, where somebody said so of exactly this change."""
    for entry in entries:
        if (entry["source"], entry["room"], entry["recorded"], entry["now"]) == (found.source, found.room, found.recorded, found.now):
            return entry["because"]
    return None


def living(entries: list[dict[str, str]], sources: Mapping[str, Source] = SOURCES, *, root: Path = ROOT) -> list[dict[str, str]]:
    """The entries that vouch for a change that is there; the others are superseded, by evidence made anew or by a further change."""
    found = [it for name, source in sources.items() for it in changed(name, source, root=root)]
    return [entry for entry in entries if any(vouched(it, [entry]) for it in found)]


def stale(sources: Mapping[str, Source] = SOURCES, *, root: Path = ROOT) -> list[Stale]:
    """Every change of a room that nobody vouches for: empty where the evidence speaks of the code that is there."""
    entries = carried(root=root)
    return [found for name, source in sources.items() for found in changed(name, source, root=root) if vouched(found, entries) is None]
