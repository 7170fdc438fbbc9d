"""Say of which source a file of evidence speaks, where it was made before files said so themselves, or where a room has changed since.

python paper/stamp.py                               which files are stale, and why
python paper/stamp.py NAME                          record the rooms as they were at the commit in the file's provenance
python paper/stamp.py NAME --as-of COMMIT --because TEXT    the same for another commit: where files of evidence alone differed from it
python paper/stamp.py NAME --carry --because TEXT   the change since was read, and cannot touch the numbers: TEXT says why
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from paper.sources import CARRIED, ROOT, SOURCES, carried, changed, living, load, stale, vouched
from rsverify.report.rooms import KINDS, PREFIX, hash_of, recorded


def git(*words: str) -> bytes:
    """What git prints, in the checkout."""
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True).stdout


def room_hash_at(commit: str, room: str) -> str:
    """The hash of a room as a commit holds it: what `room_hash` gives in a checkout of that commit."""
    names = git("ls-tree", "-r", "-z", "--name-only", commit, "--", room).decode().split("\0")
    names = [name for name in names if name == room or name.endswith(KINDS)]
    if not [name for name in names if name]:
        raise SystemExit(f"commit {commit[:9]} has no room {room!r}: the file is older than the room, make the evidence anew")
    return hash_of((name, git("show", f"{commit}:{name}")) for name in names if name)


def stamp(name: str, *, as_of: str | None, because: str | None, missing: bool = False) -> None:
    """Write the hashes of a commit's rooms into the provenance of a file; with `missing`, only of rooms that it does not record."""
    source = SOURCES[name]
    data = load(source)
    made = data["provenance"]
    if as_of is None and "+changes" in (made["commit"] or "+changes"):
        raise SystemExit(
            f"{source.path} was made at commit={made['commit']!r}, from files that no commit holds; if what differed was evidence or text"
            " alone, say so with --as-of COMMIT --because TEXT, else make it anew"
        )
    commit = git("rev-parse", as_of or made["commit"]).decode().strip()
    known = recorded(made["hashes"]) if missing else {}
    made["hashes"].update({PREFIX + room: room_hash_at(commit, room) for room in source.rooms if room not in known})
    if as_of is not None:
        made["settings"] = {**made.get("settings", {}), "rooms": f"as of {commit}: {because}"}
    (ROOT / source.path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def carry(name: str, because: str) -> None:
    """Vouch for every change of the file's rooms as it stands now; entries that vouch for nothing any more are dropped."""
    found = list(changed(name, SOURCES[name]))
    kept = [entry for entry in living(carried()) if entry["source"] != name]
    kept += [{"source": name, "room": it.room, "recorded": it.recorded, "now": it.now, "because": because} for it in found if it.recorded]
    CARRIED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("name", nargs="?", choices=sorted(SOURCES))
    options.add_argument("--as-of", metavar="COMMIT")
    options.add_argument("--missing", action="store_true")
    options.add_argument("--carry", action="store_true")
    options.add_argument("--because", metavar="TEXT")
    asked = options.parse_args()
    if (asked.as_of or asked.carry) and not asked.because:
        raise SystemExit("--as-of and --carry need --because TEXT: a reader must be able to judge it")
    if asked.name and asked.carry:
        carry(asked.name, asked.because)
    elif asked.name:
        stamp(asked.name, as_of=asked.as_of, because=asked.because, missing=asked.missing)
    entries = carried()
    for name, source in SOURCES.items():
        for it in changed(name, source):
            print(it, "-- carried: " + why if (why := vouched(it, entries)) else "-- STALE")
    return int(bool(stale()))


if __name__ == "__main__":
    sys.exit(main())
