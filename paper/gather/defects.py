"""Every reproduction of a defect in `docs/peft_defects/`, run: what it found and what was expected.

Run: python paper/gather/defects.py   (some half a minute on one core)
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import torch

from paper.gather._save import save
from paper.sources import ROOT

SEED = 0
SEEN = re.compile(
    r"# Seen by: (?P<target>\S+) (?P<check>check_\w+)\. Thread: (?P<thread>no thread found|https://\S+?)( \((?P<note>.+)\))?\."
)


def run(path: Path) -> tuple[Any, Any]:
    """What a reproduction found and what it expected."""
    spec = importlib.util.spec_from_file_location(f"defect_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    torch.manual_seed(SEED)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module.found, module.expected


def main() -> None:
    defects = []
    for path in sorted((ROOT / "docs" / "peft_defects").glob("*.py")):
        title, seen = path.read_text(encoding="utf-8").splitlines()[:2]
        told = SEEN.fullmatch(seen)
        assert told is not None, f"{path.name}: {seen}"
        found, expected = run(path)
        defects.append(
            {
                "id": path.stem.split("_")[0].upper(), "what": title.removeprefix("# ").removesuffix("."), "target": told["target"],
                "check": told["check"], "thread": None if told["thread"].startswith("no") else told["thread"], "note": told["note"],
                "found": _told(found), "expected": _told(expected), "reproduced": bool(found != expected),
            }
        )  # fmt: skip
        print(path.name, _told(found), "expected", _told(expected))
    save("defects", {"library": f"PEFT {version('peft')}", "defects": defects}, seed=SEED)


def _told(value: Any) -> Any:
    """As JSON has it: numbers to four figures, everything else as text."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    return float(f"{value:.4g}") if isinstance(value, float) and value == value else str(value)


if __name__ == "__main__":
    main()
