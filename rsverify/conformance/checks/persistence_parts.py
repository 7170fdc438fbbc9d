"""Saving and loading a fused layer: every part keeps its rank, its alpha and its rows."""

from __future__ import annotations

from rsverify.conformance.bench import TALL, Bench, close, ratio
from rsverify.conformance.checks.persistence import load_saved
from rsverify.conformance.parts import alone, parts_of, rows_of
from rsverify.conformance.registry import Wrong, check


@check("parts", "save", "load")
def check_parts_load(bench: Bench) -> str | None:
    """After loading, each part of a fused layer has the rank and alpha it had, and adds to its rows what it added."""
    s = bench.subject
    assert s.save is not None
    built = bench.trained()
    loaded = load_saved(bench, s, s.save(built.module), built)
    before, after = parts_of(bench, built), parts_of(bench, loaded)
    if list(before) != list(after):
        raise Wrong(f"saved with parts {', '.join(before)}, loaded with parts {', '.join(after)}")
    for name, part in before.items():
        if (part.rank, part.alpha) != (after[name].rank, after[name].alpha):
            raise Wrong(
                f"part {name} had rank {part.rank} and alpha {part.alpha:g}; loaded it has {after[name].rank} and {after[name].alpha:g}"
            )
        first, last = rows_of(built, part)
        with alone(before, name), alone(after, name):
            expected, found = built.added()[first:last], loaded.added()[first:last]
        if not close(found, expected, loaded):
            c, rest = ratio(found, expected)
            how = f"{c:.4g} times what it added" if rest < 1e-3 else "another part's weight, or none"
            raise Wrong(f"after loading, part {name} adds {how} to rows {first} to {last} of a {TALL.text} layer")
    return None
