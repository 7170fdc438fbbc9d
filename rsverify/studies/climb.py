"""From the rank in use to the highest that fits: what every rank on the way costs, and which alpha and learning rate it wants."""

from __future__ import annotations

from dataclasses import dataclass

from rsverify.definitions.rules import ScalingRule
from rsverify.errors import InputError
from rsverify.studies.budget import MemoryBudget
from rsverify.studies.transfer import Transfer, transfer

FACTOR = 4
"""From one rank of the way to the next."""


@dataclass(frozen=True)
class Stop:
    """One rank on the way, with what `transfer` says of it under each rule.

    Args: beyond: the rank exceeds the smallest width of an adapted layer, so that it adds effective learning rate and no function.
    """

    rank: int
    beyond: bool
    transfers: tuple[Transfer, ...]


def climb(found: MemoryBudget, *, rank: int, alpha: float, lr: float, rules: tuple[ScalingRule | str, ...]) -> tuple[Stop, ...]:
    """Alpha and learning rate of LoRA at each rank from the one in use to the highest that fits, under each rule.

    Every step goes from the rank in use under the first rule to the new rank under each of the rules; alpha at a change of rule is such
    that an adapter of the rank in use computes what it did.

    Args:
        rank, alpha, lr: as they are now, under the first of the rules.
        rules: the rule in use, then those to compare it with.
    Raises: InputError for a rank in use that itself does not fit; NotDerivable where theory is silent on the optimizer; RuleError.
    """
    if rank > found.rank:
        raise InputError(
            f"rank={rank} is in use, but {found.rank} is the highest that fits into this memory; give a smaller --rank, or let a step take"
            " less (checkpointing, fewer tokens)"
        )
    ways = [
        [
            transfer("lora", rank=rank, alpha=alpha, lr=lr, to_rank=to, rule=rules[0], to_rule=rule, optimizer=found.optimizer)
            for rule in rules
        ]
        for to in _ranks(rank, found)
    ]
    return tuple(Stop(stop[0].to_rank, stop[0].to_rank > found.width, tuple(stop)) for stop in ways)


def _ranks(rank: int, found: MemoryBudget) -> list[int]:
    """Powers of the factor from the rank in use, the smallest width where it is passed, and the highest rank that fits."""
    climbing = {rank * FACTOR**k for k in range(1, 16) if rank * FACTOR**k < min(found.rank, found.width)}
    return sorted({rank, *climbing, found.rank, *({found.width} if rank < found.width < found.rank else ())})
