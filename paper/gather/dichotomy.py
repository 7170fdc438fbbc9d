"""Every optimizer's stable rule for LoRA, derived, and every number simulated beside it.

Run: python paper/gather/dichotomy.py   (some half a minute on one core)
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import rsverify as rv
from paper.gather._rows import plain
from paper.gather._save import save
from rsverify.errors import NotDerivable

RULES, SEED = ("alpha/r", "alpha/sqrt(r)"), 0


def solved(optimizer: str, regime: str) -> dict[str, object]:
    """What theory says of LoRA's update under an optimizer: terms gamma^a r^b lr^c, the stable power, the powers of lr for each rule."""
    try:
        found = rv.solve("lora", optimizer=optimizer, regime=regime)
    except NotDerivable as silence:
        return {"silent": silence.reason}
    return {
        "status": found.status, "rule_exponent": found.rule_exponent, "terms": found.terms,
        "lr_exponents": {rule: found.lr_exponent(rule) for rule in RULES}, "exponents": {rule: found.exponent(rule) for rule in RULES},
    }  # fmt: skip


def main() -> None:
    names = list(rv.optimizers())
    verdict = rv.verify("lora", RULES, optimizers=names, quick=True, seed=SEED)
    table = {name: {regime: solved(name, regime) for regime in ("rank", "width")} for name in names}
    data = {"verdict": verdict.verdict, "rules": RULES, "optimizers": table, "rows": [plain(row) for row in verdict.rows]}
    save("dichotomy", data, seed=SEED, **verdict.provenance.settings)


if __name__ == "__main__":
    main()
