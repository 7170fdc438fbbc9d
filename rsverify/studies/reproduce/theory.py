"""The exponents that theory gives for a family of runs; none is typed here."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import KaimingUniform, rescaled
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import as_rule
from rsverify.studies.reproduce.runs import Family
from rsverify.symbolic import derive, solve


def adapter_of(family: Family) -> Adapter:
    """LoRA with the family's init."""
    lora = as_adapter("lora")
    return lora if family.init == "1" else lora.with_init(A=rescaled(KaimingUniform("i"), family.init))


def exponent(family: Family, quantity: str) -> Fraction:
    """The power of r of the gradient norm at init, or of the first step's update.

    Raises: NotDerivable, with the reason.
    """
    if quantity == "gradient_norm":
        found = derive(adapter_of(family), family.rule, optimizer=family.optimizer, quantity=quantity, statistic="frobenius", steps=0)
    else:
        found = derive(adapter_of(family), family.rule, optimizer=family.optimizer, quantity=quantity)
    assert found.exponent is not None, f"{quantity} of {family} vanishes or has a range"
    return found.exponent


def lr_exponent(family: Family) -> Fraction | None:
    """q of lr ~ r**q at which the update keeps its size, None where no learning rate does it."""
    return solve(adapter_of(family), optimizer=family.optimizer).lr_exponent(family.rule)


def says(family: Family) -> dict[str, Any]:
    """The three exponents of a family as texts, for records."""
    return {
        "rule": family.rule, "optimizer": family.optimizer, "init": family.init,
        "gradient_norm": str(exponent(family, "gradient_norm")), "update": str(exponent(family, "update")),
        "lr": str(lr_exponent(family)),
    }  # fmt: skip


def in_words(family: Family, *, low: int, high: int) -> str:
    """One sentence: what theory expects of a family from one rank to another."""
    update, gradient = exponent(family, "update"), exponent(family, "gradient_norm")
    kind = "keeps its size" if update == 0 else f"{'shrinks' if update < 0 else 'grows'} {(high / low) ** abs(float(update)):.3g}-fold"
    init = "" if family.init == "1" else f", A's init times {family.init}"
    return (
        f"{family.rule}{init}, {family.optimizer}: the gradient norm at init goes as r**({gradient}), the first step's update as"
        f" r**({update}): at one learning rate it {kind} from rank {low} to {high}."
    )


def stable_rule(optimizer: str) -> Fraction | None:
    """p of gamma = r**-p at which LoRA's update keeps its size at a learning rate free of the rank."""
    return solve("lora", optimizer=optimizer).rule_exponent


def gamma(rule: str, rank: int, alpha: float) -> float:
    """The scaling factor of a rule at a rank."""
    return as_rule(rule).gamma(rank, alpha)
