"""The paper, rebuilt from the evidence: numbers, pictures, PDF; offline.

python paper/build.py [--out paper/rsverify.pdf]     refuses where evidence is older than the rooms it depends on
python paper/build.py --gather                       first makes anew what is stale and quick to make
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from paper.figures import draw
from paper.naming import Load, Names, all_names, as_json, load
from paper.scan import computed_names, typed_numbers, unknown_names
from paper.sources import ROOT, SOURCES, stale

FOLDER = ROOT / "paper"
TEXT, PDF = FOLDER / "paper.typ", FOLDER / "rsverify.pdf"
LONG = ("calibration", "defects", "atlas")
"""Evidence that takes minutes to make anew; benchmarks of time and the reproduction are left to a quiet machine."""
LAYOUT = (FOLDER / "style.typ", FOLDER / "tables.typ")


def refuse_typed(names: Names) -> None:
    """Stop where the text holds a number that was typed or a name without evidence."""
    text = TEXT.read_text(encoding="utf-8")
    found = [f"{TEXT.name} {it}" for it in typed_numbers(text)]
    found += [f"{path.name} {it}" for path in LAYOUT for it in typed_numbers(path.read_text(encoding="utf-8"), layout=True)]
    whole = text + LAYOUT[1].read_text(encoding="utf-8")
    found += [f"no evidence for {it}" for it in unknown_names(whole, names)] + [
        f"name not written out: {it}" for it in computed_names(text)
    ]
    if found:
        raise SystemExit("the text has numbers without a source:\n" + "\n".join(found))


def gather(*, long: bool) -> None:
    """Make anew the evidence that is stale: the paper's own gatherers, and with `long` what takes minutes and times nothing."""
    for name in dict.fromkeys(it.source for it in stale()):
        program, *words = SOURCES[name].command.split()
        if not (words[0].startswith("paper/gather/") or (long and name in LONG)):
            continue
        print("stale:", name, "->", SOURCES[name].command, flush=True)
        here = [sys.executable] if program == "python" else [str(Path(sys.executable).with_name(program))]
        done = subprocess.run([*here, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
        if name in {it.source for it in stale()}:
            raise SystemExit(f"{SOURCES[name].command} ended with {done.returncode} and left {SOURCES[name].path} stale")


def build(out: Path = PDF, *, read: Load = load, folder: Path = FOLDER) -> Names:
    """The paper as PDF, from evidence that `read` gives.

    Numbers and pictures go into `_build/` of the folder; the text is typeset with typst's own fonts and no date, so that the same evidence
    gives the same bytes. A folder that is not the paper's own gets a copy of the text.
    """
    import typst

    names = all_names(read)
    refuse_typed(names)
    pieces = folder / "_build"
    pieces.mkdir(parents=True, exist_ok=True)
    (pieces / "numbers.json").write_text(as_json(names), encoding="utf-8")
    for name, picture in draw(read).items():
        (pieces / f"{name}.svg").write_text(picture, encoding="utf-8")
    if folder != FOLDER:
        for path in (TEXT, *LAYOUT, FOLDER / "references.json"):
            shutil.copy(path, folder)
    typst.compile(str(folder / TEXT.name), output=str(out), root=str(folder), ignore_system_fonts=True, timestamp=0)
    return names


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, default=PDF)
    options.add_argument("--gather", action="store_true")
    options.add_argument("--gather-long", action="store_true")
    asked = options.parse_args()
    if asked.gather or asked.gather_long:
        gather(long=asked.gather_long)
    if found := stale():
        raise SystemExit("evidence is older than the rooms it depends on (see paper/stamp.py):\n" + "\n".join(map(str, found)))
    names = build(asked.out)
    print(f"{asked.out}: {len(names.texts)} numbers, {len(names.tables)} tables from {len(SOURCES)} files of evidence")
    return 0


if __name__ == "__main__":
    sys.exit(main())
