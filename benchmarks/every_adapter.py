"""Does `verify` settle every shipped adapter, by two witnesses or three, in how long and how much memory?

Each is asked as a user would, `rsverify verify --adapter NAME`, with all defaults, in a process of its own.
Run: python benchmarks/every_adapter.py [NAME ...]   (some minutes; alone on the machine). With names nothing is written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _evidence import line, write

import rsverify as rv

IMPORTS = 3
"""Times that torch is imported to know what an import costs: the fastest counts."""
TIMES = 15
MEMORY = 2e9
WITNESSES = ("predicted", "estimated", "measured")
ASKED = f"exit 0 or 1, two witnesses on every headline row, {TIMES} times `import torch`, 2 GB"


def main(names: list[str]) -> None:
    unit = min(_run([sys.executable, "-c", "import torch"])[0] for _ in range(IMPORTS))
    lines = [_line(name, unit) for name in names or sorted(rv.adapters())]
    if names:
        print(json.dumps(lines, indent=1))
    else:
        write("every_adapter", lines, import_torch_seconds=round(unit, 3))


def _line(name: str, unit: float) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("rsverify")), "verify", "--adapter", name]
    with tempfile.TemporaryDirectory() as folder:
        seconds, code, peak = _run([*command, "--out", folder])
        path = Path(folder) / "results.json"
        rows = [row for row in json.loads(path.read_text())["rows"] if row["headline"]] if path.exists() else []
    speaking = [sum(row[witness] is not None for witness in WITNESSES) for row in rows]
    value = {
        "exit": code, "headline_rows": len(rows), "confirmed": sum(row["agreement"] == "confirmed" for row in rows),
        "fewest_witnesses": min(speaking, default=0), "most_witnesses": max(speaking, default=0),
        "times_import_torch": round(seconds / unit, 1), "peak_gb": round(peak / 1e9, 2),
    }  # fmt: skip
    kept = code in (0, 1) and value["fewest_witnesses"] >= 2 and seconds <= TIMES * unit and peak <= MEMORY
    return line(f"verify --adapter {name}", value, ASKED, kept)


def _run(command: list[str]) -> tuple[float, int, float]:
    """Wall seconds, exit code and peak memory in bytes of a command."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    return time.perf_counter() - began, os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024.0


if __name__ == "__main__":
    main(sys.argv[1:])
