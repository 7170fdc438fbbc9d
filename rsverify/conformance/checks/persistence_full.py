"""Saving and loading where a full matrix stands in for a product: rank and alpha have another meaning there, or none."""

from __future__ import annotations

from rsverify.conformance.bench import TALL, Bench
from rsverify.conformance.checks.persistence import compare_loaded, load_saved
from rsverify.conformance.fullmatrix import RANKS, require_full
from rsverify.conformance.registry import check


@check("save", "load")
def check_full_load(bench: Bench) -> str | None:
    """Where a full matrix stands in, a saved and loaded adapter computes the same function."""
    held = require_full(bench)
    assert held.subject.save is not None
    for rank, alpha in ((RANKS[0], held.alpha), (RANKS[1], held.other_alpha)):
        built = held.trained(TALL, rank, alpha=alpha)
        x = held.x(TALL)
        expected = built(x)
        loaded = load_saved(held, held.subject, held.subject.save(built.module), built)
        compare_loaded(loaded, expected, x, f"where a full matrix stands in, r={rank}, alpha={alpha:g}")
    return None
