"""The defects of the installed PEFT as evidence: each reproduction run, each check that sees it run, and the whole list held to all checks.

Run: `python benchmarks/peft_defects.py [--seed N]`; some five minutes. It writes `paper/evidence/peft_defects.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import runpy
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _evidence import rooms

from rsverify.interop.peft.everything import check_everything
from rsverify.interop.peft.known import shipped
from rsverify.interop.peft.target import known_as
from rsverify.records import SCHEMA, to_json
from rsverify.report.provenance import provenance

ROOT = Path(__file__).parents[1]
DEFECTS = ROOT / "docs" / "peft_defects"
OUT = ROOT / "paper" / "evidence" / "peft_defects.json"
SEEN = re.compile(r"# Seen by: (?P<target>\S+) (?P<check>check_\w+)\. Thread: (?P<thread>.+)\.")


def reproduced(path: Path) -> dict[str, Any]:
    """What a reproduction found and what was expected, with its own words of it."""
    title, seen = path.read_text(encoding="utf-8").splitlines()[:2]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        made = runpy.run_path(str(path))
    match = SEEN.fullmatch(seen)
    assert match, seen
    return {
        "id": path.stem.split("_")[0].upper(), "file": f"docs/peft_defects/{path.name}", "sentence": title.removeprefix("# "),
        **match.groupdict(), "found": str(made["found"]), "expected": str(made["expected"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    defects = [reproduced(path) for path in sorted(DEFECTS.glob("*.py"))]
    began = time.perf_counter()
    rows = check_everything(shipped(), seed=seed, callback=print)
    seconds = time.perf_counter() - began
    said = {(row.target if "@" in row.target else known_as(row.target), r.name): r for row in rows for r in row.results}
    for defect in defects:
        result = said[known_as(defect["target"]), defect["check"]]
        defect["status"], defect["said"] = result.status, result.reason
    counts = Counter(result.status for row in rows for result in row.results)
    unlisted = [{"target": row.target, "check": r.name, "status": r.status, "reason": r.reason}
                for row in rows for r in row.results if r.status in ("failed", "xpassed", "inconclusive")]  # fmt: skip
    data = {
        "schema": SCHEMA, "peft": version("peft"), "targets": sum(not row.reason for row in rows),
        "not_judged": sum(bool(row.reason) for row in rows),
        "counts": dict(sorted(counts.items())), "not_as_listed": unlisted, "defects": defects,
        "with_thread": sum(defect["thread"] != "no thread found" for defect in defects),
        "provenance": to_json(provenance(seed=seed, hashes=rooms("peft_defects"))),
    }  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(defects)} defects, {sum(defect['status'] == 'xfailed' for defect in defects)} seen by their checks; {dict(counts)}; "
          f"{len(unlisted)} answers not as listed; {seconds:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
