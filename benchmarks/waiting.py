"""What a user waits for: each command as a whole process, beside `python -c "import torch"` in the same run.

Run: python benchmarks/waiting.py [COMMAND...]   (some six minutes, alone on the machine). Commands and the import take turns, so that
a slower minute slows both; the ratio is that of the medians of five. Where commands are named, only they are timed and nothing is written.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _evidence import line, write

REPEATS = 5
TABLE: dict[str, tuple[str, float]] = {
    "verify": ("verify --out {out}", 10.0),
    "verify --quick": ("verify --quick --out {out}", 1.5),
    "estimate": ('estimate lora --rule "alpha/sqrt(r)" --ranks 4:65536 --precision 0.005', 0.4),
    "check": ("check lora", 2.0),
    "transfer": ("transfer --rank 16 --alpha 32 --lr 2e-4 --to-rank 128", 0.3),
    "derive": ("derive lora", 0.3),
    "solve": ("solve lora --optimizer adamw", 0.3),
    "atlas --quick": ("atlas --quick", 12.0),
}
"""Command lines, each with the most that it may take in times of `import torch`."""
IMPORT = [sys.executable, "-c", "import torch"]


def spent(command: list[str], *, codes: tuple[int, ...] = (0,)) -> float:
    """Seconds of a whole process. Raises: RuntimeError with what it wrote, where it ends with another exit code."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode not in codes:
        raise RuntimeError(f"{shlex.join(command)} ended with exit code {done.returncode}, expected one of {codes}: {done.stderr[-2000:]}")
    return seconds


def features() -> dict[str, Any]:
    """The processor's name, the vectors that it has, and its number of cores."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    fields = {key.strip(): value.strip() for key, _, value in (row.partition(":") for row in text.splitlines())}
    flags = set(fields.get("flags", "").split())
    known = ("sse2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")
    return {
        "processor": fields.get("model name", "unknown"),
        "features": [flag for flag in known if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Times each command beside an import of torch.")
    parser.add_argument("commands", nargs="*", help="Rows of the table; all by default.")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    chosen = given.commands or list(TABLE)
    program = str(Path(sys.executable).with_name("rsverify"))
    times: dict[str, list[float]] = {name: [] for name in chosen}
    imports: dict[str, list[float]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        spent(IMPORT)  # whatever the disk has to read is read once, unseen
        for name in chosen:
            words = shlex.split(TABLE[name][0].format(out=Path(folder) / "out"))
            for _ in range(given.repeats):
                imports[name].append(spent(IMPORT))
                times[name].append(spent([program, *words]))
    lines = []
    for name in chosen:
        ratio = statistics.median(times[name]) / statistics.median(imports[name])
        most = TABLE[name][1]
        shown = {
            "command": TABLE[name][0].replace(" --out {out}", ""), "seconds": [round(t, 3) for t in times[name]],
            "import torch": [round(t, 3) for t in imports[name]],
        }  # fmt: skip
        lines.append(
            line(
                f"{name} over `import torch`, {statistics.median(imports[name]):.2f} s", round(ratio, 2), f"at most {most:g}", ratio <= most
            )
            | shown
        )
    if given.commands:
        for row in lines:
            print(f"{'kept  ' if row['kept'] else 'BROKEN'}  {row['what']}: {row['value']}  (asked: {row['asked']})")
        return 0 if all(row["kept"] for row in lines) else 1
    return 0 if write("waiting", lines, repeats=given.repeats, **features()) else 1


if __name__ == "__main__":
    sys.exit(main())
