"""What the symbolic witness says of LoRA: formulas, slopes at finite rank beside limits, regimes, inits, the limit, transfers.

Run: python paper/gather/theory.py   (seconds)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import numpy as np

import rsverify as rv
from paper.gather._save import save
from rsverify.studies.transfer import transfer

RULES = ("alpha/r", "alpha/sqrt(r)")
RANKS = (4, 8, 16, 32, 64)
D_IN = D_OUT = 512
FROM, TO, ALPHA, LR = 16, 128, 32.0, 2e-4


def finite(optimizer: str, rule: str) -> dict[str, Any]:
    """A formula, its limit exponent, and the least-squares slope of its noise-free curve over ranks that people train."""
    found = rv.derive("lora", rule, optimizer=optimizer)
    curve = found.at(RANKS, d_in=D_IN, d_out=D_OUT)
    slope, _ = np.polyfit(np.log(RANKS), np.log(curve), 1)
    return {"formula": found.formula.text, "exact": found.exact, "exponent": found.exponent, "slope": float(slope)}


def fourth_moment() -> dict[str, Any]:
    """The slope over the same ranks of E|A x|^4 for normal A, r (r + 2) up to a constant: exact, and yet not its limit."""
    ranks = np.array(RANKS, dtype=float)
    slope, _ = np.polyfit(np.log(ranks), np.log(ranks * (ranks + 2)), 1)
    return {"slope": float(slope), "exponent": 2}


def stable(optimizer: str, *, init: str = "", **more: Any) -> dict[str, Any]:
    """The stable power of the rule under other laws of A, probes or regimes."""
    lora = rv.adapters()["lora"]
    adapter = lora.with_init(A=rv.Gaussian(init)) if init else lora
    found = rv.solve(adapter, optimizer=optimizer, **more)
    return {"status": found.status, "rule_exponent": found.rule_exponent, "terms": found.terms}


def moved(optimizer: str, rule: str, to_rule: str | None = None) -> dict[str, Any]:
    """What `rsverify transfer` says from one rank to another."""
    found = transfer("lora", rank=FROM, alpha=ALPHA, lr=LR, to_rank=TO, rule=rule, to_rule=to_rule, optimizer=optimizer)
    return {
        "rule": found.rule, "to_rule": found.to_rule, "optimizer": optimizer, "to_alpha": found.to_alpha, "gamma": found.gamma,
        "to_gamma": found.to_gamma, "to_lr": found.to_lr, "range": found.to_lr_range, "alpha_at_same_lr": found.alpha_at_same_lr,
        "ways": [{"regime": way.regime, "law": way.law, "lr": way.lr} for way in found.ways],
    }  # fmt: skip


def main() -> None:
    limits = {rule: rv.limit_of_rank("lora", rule) for rule in RULES}
    data = {
        "counts": {"adapters": len(rv.adapters()), "optimizers": len(rv.optimizers())},
        "ranks": RANKS, "d_in": D_IN, "d_out": D_OUT,
        "finite": {optimizer: {rule: finite(optimizer, rule) for rule in RULES} for optimizer in ("sgd", "adamw")},
        "fourth_moment": fourth_moment(),
        "gradient_norm": {
            rule: rv.derive("lora", rule, quantity="gradient_norm", statistic="frobenius", steps=0).exponent for rule in RULES
        },
        "input_gradient": {
            regime: rv.solve("lora", optimizer="sgd", quantity="input_gradient", regime=regime).rule_exponent
            for regime in ("rank", "width")
        },
        "orthogonal": stable("sgd", probe="orthogonal"),
        "std 1/r": {optimizer: stable(optimizer, init="1/r") for optimizer in ("sgd", "adamw")},
        "limit": {
            rule: {
                "kind": it.kind, "rate": it.rate.text, "exponent": it.exponent, "limit": None if it.limit is None else it.limit.text,
                "distance": it.distance.text, "approach": it.approach,
            }
            for rule, it in limits.items()
        },
        "transfer": {
            "from": FROM, "to": TO, "alpha": ALPHA, "lr": LR,
            "cases": [moved(o, rule) for o in ("sgd", "adamw") for rule in RULES] + [moved("adamw", RULES[0], RULES[1])],
        },
    }  # fmt: skip
    save("theory", data)


if __name__ == "__main__":
    main()
