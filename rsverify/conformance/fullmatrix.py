"""Ranks at which an implementation keeps full matrices instead of a product: told by tensors whose shapes no longer follow the rank."""

from __future__ import annotations

from dataclasses import replace

from rsverify.conformance.bench import TALL, Bench
from rsverify.conformance.outcomes import Skip

RANKS = (24, 48)
"""Above both widths of the layer, where no product has fewer entries than the matrix."""


def full_bench(bench: Bench) -> Bench | None:
    """The bench on which full matrices stand in at RANKS; None where the subject keeps a product there, or cannot be built."""
    found: Bench | str = bench.remember("full matrices", lambda: _find(bench))
    return found if isinstance(found, Bench) else None


def require_full(bench: Bench) -> Bench:
    """The bench on which full matrices stand in at RANKS.

    Raises: Skip where there are none, with the reason.
    """
    found: Bench | str = bench.remember("full matrices", lambda: _find(bench))
    if isinstance(found, str):
        raise Skip(found)
    return found


def _find(bench: Bench) -> Bench | str:
    full = bench.subject.with_full_matrices()
    held = bench if full is bench.subject else replace(bench, subject=full)
    where = f"of a {TALL.text} layer"
    shapes = []
    for rank in (1, *RANKS):
        try:
            built = held.build(TALL, rank)
            built(held.x(TALL))
        except Exception as error:
            return f"rank {rank} {where} cannot be built ({type(error).__name__}): no full matrix stands in"
        shapes.append([(name, tuple(value.shape)) for name, value in built.own().items()])
    if shapes[1] != shapes[2]:
        return f"at rank {RANKS[0]} {where} it keeps a product whose size follows the rank: no full matrix stands in"
    if shapes[0] == shapes[1]:
        return "no tensor follows the rank at all: see check_rank_used"
    return held
