"""Products of two factors put together and cut to another rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rsverify.testing.mutants.reference.slots import Adapted, Slot


@torch.no_grad()
def combined(m: Adapted, names: Sequence[str], weights: Sequence[float]) -> str:
    """Factors side by side; weights and old scales in the up-projection, the new scale divided out of it."""
    slots: list[Any] = [m.slots[name] for name in names]
    rank, alpha = sum(slot.rank for slot in slots), slots[0].alpha
    A = torch.cat([slot.A for slot in slots])
    B = torch.cat([w * m.kit.gamma(m, slot) * slot.B for w, slot in zip(weights, slots, strict=True)], dim=1)
    new = Slot({"B": B, "A": A}, {}, rank, alpha)
    new.get_parameter("B").div_(m.kit.gamma(m, new))
    m.slots["combined"] = new
    return "combined"


@torch.no_grad()
def redistributed(m: Adapted, rank: int) -> None:
    """The best product of the new rank, under the scale that the rule gives it."""
    old = m.slot
    A, B = truncated(m.kit.gamma(m, old) * old.B @ old.A, rank)
    new = Slot({"B": B, "A": A}, {}, rank, old.alpha)
    new.s = old.s
    new.get_parameter("B").div_(m.kit.gamma(m, new))
    m.slots[m.active] = new


def truncated(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (rank, d_in), B (d_out, rank) with B A nearest to the product; rows beyond its width are zero in B."""
    U, S, Vh = torch.linalg.svd(product, full_matrices=False)
    keep = min(rank, len(S))
    A, B = product.new_zeros(rank, product.shape[1]), product.new_zeros(product.shape[0], rank)
    A[:keep], B[:, :keep] = S[:keep, None].sqrt() * Vh[:keep], U[:, :keep] * S[:keep].sqrt()
    return A, B
