"""What is asked: the objects behind a claim, the data it speaks of, and which claims decide a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.errors import InputError, UnknownName
from rsverify.records import Claim

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Setting:
    """A claim together with the adapter, rule and optimizer that its names stand for."""

    adapter: Adapter
    rule: ScalingRule
    optimizer: Optimizer
    claim: Claim


def setting(
    adapter: Adapter | str,
    rule: ScalingRule | str | Callable[[float, float], float],
    *,
    optimizer: Optimizer | str = "sgd",
    quantity: str = "update",
    statistic: str = "rms",
    probe: str = "aligned",
    steps: int = 1,
    regime: str = "rank",
) -> Setting:
    """The setting that the common arguments of the package describe.

    Raises: UnknownName, RuleError, InputError for anything that cannot be meant.
    """
    adapter, rule, optimizer = as_adapter(adapter), as_rule(rule), as_optimizer(optimizer)
    claim = Claim(adapter.name, adapter.init, rule.text, optimizer.text, quantity, statistic, probe, regime, steps)
    if claim.factor is not None and claim.factor not in adapter.laws:
        raise UnknownName("factor", claim.factor, adapter.laws)
    if quantity in ("update", "loss_decrease") and steps == 0:
        raise InputError(f"quantity={quantity!r} at steps=0 is nothing by definition; ask for steps=1 or more")
    return Setting(adapter, rule, optimizer, claim)


def data_quantities(x: np.ndarray, x_probe: np.ndarray, v: np.ndarray) -> dict[str, float]:
    """The quantities of the data that exact formulas name, from a sample, a probe and a signal.

    In words: x_norm2 = |x|**2, v_norm2 = |v|**2, v_norm1 = sum |v_j|, cosine = x.x' / (|x| |x'|), and the power sums
    Sab = sum over i of x_i**a x'_i**b that meet a law's excess kurtosis. |x'| = |x| throughout.
    """
    import numpy as np

    found = {
        "x_norm2": float(x @ x),
        "v_norm2": float(v @ v),
        "v_norm1": float(np.abs(v).sum()),
        "cosine": float(x @ x_probe / np.sqrt((x @ x) * (x_probe @ x_probe))),
    }
    found.update({f"S{a}{4 - a}": float((x**a * x_probe ** (4 - a)).sum()) for a in range(5)})
    return found


HEADLINES: tuple[dict[str, str | int], ...] = (
    {"quantity": "update", "statistic": "rms", "steps": 1},
    {"quantity": "update", "statistic": "projection", "steps": 1},
    {"quantity": "gradient_norm", "statistic": "frobenius", "steps": 0},
    {"quantity": "loss_decrease", "statistic": "rms", "steps": 1},
)
"""The claims that decide `verify`: all others are context."""


def is_headline(claim: Claim) -> bool:
    """Whether a row with this claim decides the verdict."""
    return claim.probe == "aligned" and any(
        (claim.quantity, claim.statistic, claim.steps) == (h["quantity"], h["statistic"], h["steps"]) for h in HEADLINES
    )
