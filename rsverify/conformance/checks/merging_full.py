"""Merging where a full matrix stands in for a product."""

from __future__ import annotations

from rsverify.conformance.bench import TALL, Bench, close, ratio
from rsverify.conformance.diagnose import explain
from rsverify.conformance.fullmatrix import RANKS, require_full
from rsverify.conformance.registry import Wrong, check


@check("merge")
def check_full_merge(bench: Bench) -> str | None:
    """Where a full matrix stands in, the merged layer computes what the unmerged one did."""
    held = require_full(bench)
    assert held.subject.merge is not None
    for rank, alpha in ((RANKS[0], held.alpha), (RANKS[1], held.other_alpha)):
        built = held.trained(TALL, rank, alpha=alpha)
        x = held.x(TALL)
        before = built(x)
        held.subject.merge(built.module)
        after = built(x)
        if not close(after, before, built):
            c, rest = ratio(after - built.base_output(x), before - built.base_output(x))
            how = f"merged/unmerged is {explain({(rank, alpha): c}, tolerance=1e-4)}" if rest < 1e-3 else f"off by {rest:.2g} of itself"
            raise Wrong(f"at rank {rank}, where a full matrix stands in, merging changes what is added: {how}")
    return None
