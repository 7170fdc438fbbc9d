"""The conformance suite in numbers: checks, mutants by family, what catches them; from the registries and the generated matrix.

Run: python paper/gather/suite.py   (seconds: the matrix itself is made by `python -m rsverify.testing.matrix`)
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from paper.gather._save import save
from paper.sources import ROOT
from rsverify.conformance.registry import checks
from rsverify.testing.matrix import read
from rsverify.testing.mutants import mutants


def main() -> None:
    lines = read((ROOT / "docs" / "mutants.md").read_text(encoding="utf-8"))
    known = mutants()
    if set(lines) != set(known):
        raise SystemExit(f"docs/mutants.md is stale ({sorted(set(lines) ^ set(known))}): python -m rsverify.testing.matrix")
    caught = {name: line.caught_by for name, line in lines.items()}
    families = Counter(mutant.family for mutant in known.values())
    data = {
        "checks": len(checks()), "mutants": len(known),
        "families": [
            {
                "family": family, "mutants": count,
                "caught": sum(bool(caught[name]) for name, mutant in known.items() if mutant.family == family),
                "threads": sum("http" in mutant.source for mutant in known.values() if mutant.family == family),
            }
            for family, count in families.items()
        ],
        "not_caught": sorted(name for name, by in caught.items() if not by),
        "checks_that_catch_nothing": sorted(set(checks()) - {check for by in caught.values() for check in by}),
        "caught_by_one_check_only": sum(len(by) == 1 for by in caught.values()),
    }  # fmt: skip
    save("suite", data)


if __name__ == "__main__":
    main()
