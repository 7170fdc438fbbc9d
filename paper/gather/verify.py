"""`rsverify verify` as a reader would run it: three witnesses on LoRA, the base transformer among them.

Run: python paper/gather/verify.py   (some two minutes on one core)
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import rsverify as rv
from paper.gather._rows import plain
from paper.gather._save import save

SEED = 0


def main() -> None:
    verdict = rv.verify(seed=SEED)
    data = {"verdict": verdict.verdict, "sentence": verdict.sentence, "rows": [plain(row) for row in verdict.rows]}
    save("verify", data, seed=SEED, **verdict.provenance.settings)


if __name__ == "__main__":
    main()
