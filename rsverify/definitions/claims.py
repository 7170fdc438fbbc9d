"""What is asked: the objects behind a claim, the data it speaks of, and which claims decide a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsverify.definitions import invariants
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
    rule: ScalingRule | str | Callable[[int, float], float],
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


def data_quantities(
    x: np.ndarray,
    x_probe: np.ndarray,
    v: np.ndarray,
    *,
    adapter: Adapter | None = None,
    r: int | Sequence[int] | None = None,
    names: Iterable[str] = (),
) -> dict[str, float]:
    """The quantities of the data that exact formulas name, from a sample, a probe and a signal.

    In words: x_norm2 = |x|**2, v_norm2 = |v|**2, v_norm1 = sum |v_j|, x_norm1 = sum |x_i|, x_sign = sum sign(x_i) x'_i,
    cosine = x.x' / (|x| |x'|), the power sums Sab = sum over i of x_i**a x'_i**b and Vk = sum over j of v_j**k to order 4; with an
    adapter and a rank also the sizes n_<axis> of its axes, and, where its result groups axes, contractions of the reshaped data of
    order 2 and 4 (`definitions.invariants`). |x'| = |x| throughout.

    Args: r is a rank, or several: then only what is the same at all of them is given; names are further invariants, of any order.
    """
    import numpy as np

    found = {
        "x_norm2": float(x @ x),
        "v_norm2": float(v @ v),
        "v_norm1": float(np.abs(v).sum()),
        "x_norm1": float(np.abs(x).sum()),
        "x_sign": float(np.sign(x) @ x_probe),
        "cosine": float(x @ x_probe / np.sqrt((x @ x) * (x_probe @ x_probe))),
    }
    asked = {invariants.power_sum(a, order - a) for order in (1, 3, 4) for a in range(order + 1)}
    asked |= {invariants.signal_sum(order) for order in (1, 3, 4)} | set(names)
    groups: dict[str, tuple[int, ...]] = {}
    if adapter is not None and r is not None:
        every = [adapter.axis_sizes(rank, len(x), len(v)) for rank in ([r] if isinstance(r, int) else r)]
        same = {axis: size for axis, size in every[0].items() if all(sizes[axis] == size for sizes in every)}
        found.update({f"n_{axis}": float(size) for axis, size in same.items()})
        rows, columns = adapter.result
        # Data reshaped over an axis that changes with the rank has another invariant at every rank: none is the invariant.
        if set(rows) | set(columns) <= same.keys():
            groups = {"rows": tuple(same[axis] for axis in rows), "columns": tuple(same[axis] for axis in columns)}
            asked |= set(invariants.common_names(len(columns), ("x", "x'"))) | set(invariants.common_names(len(rows), ("v",)))
    found.update({name: invariants.value(name, x, x_probe, v, **groups) for name in sorted(asked)})
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
