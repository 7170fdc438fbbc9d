"""Which factors an optimizer's `lr_ratio` speaks of: one meaning, by what a factor is and not by what it is called."""

from __future__ import annotations

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer


def rate_ratio(optimizer: Optimizer, adapter: Adapter, name: str) -> float:
    """The learning rate of a factor over the base rate: `lr_ratio` for an up-factor (`Adapter.ups`), 1 for every other."""
    return optimizer.option("lr_ratio") if name in adapter.ups else 1.0


def ratio_note(optimizer: Optimizer, adapter: Adapter) -> str:
    """What the ratio does to an adapter, in words; empty where it is 1."""
    ratio = optimizer.option("lr_ratio")
    if ratio == 1.0:
        return ""
    names = [name for name in adapter.ups if name in adapter.trainable]
    rows = " and ".join(adapter.result[0])
    if not names:
        return f"lr_ratio = {ratio:g} moves nothing: no trained factor holds the output's axis {rows} and none of the input's"
    which = f"trained, with the output's axis {rows} and none of the input's"
    return f"lr_ratio = {ratio:g} multiplies the learning rate of {' and '.join(names)}: {which}"
