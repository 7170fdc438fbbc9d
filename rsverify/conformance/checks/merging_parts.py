"""Merging a fused layer: every part's weight under its own scale, over its own rows."""

from __future__ import annotations

from rsverify.conformance.bench import LAYERS, Bench, close, ratio
from rsverify.conformance.diagnose import explain
from rsverify.conformance.parts import alone, parts_of, product, rows_of
from rsverify.conformance.registry import Wrong, check


@check("parts", "merge")
def check_parts_merge(bench: Bench) -> str | None:
    """Merging puts each part's scaled product over its own rows of the fused weight, and nothing over any others."""
    assert bench.subject.merge is not None
    for layer in LAYERS:
        for name in parts_of(bench, bench.trained(layer)):
            built = bench.trained(layer)
            parts = parts_of(bench, built)
            part = parts[name]
            first, last = rows_of(built, part)
            expected = built.W.double() * 0
            expected[first:last] = bench.subject.scaling.gamma(part.rank, part.alpha) * product(part)
            with alone(parts, name):
                bench.subject.merge(built.module)
                merged = built.added().double()
            if close(merged, expected, built):
                continue
            inside = ratio(merged[first:last], expected[first:last])
            elsewhere = float((merged - expected)[[k for k in range(layer.d_out) if not first <= k < last]].norm())
            if elsewhere > 1e-3 * float(expected.norm()):
                raise Wrong(f"on a {layer.text} layer merging puts part {name}, of rows {first} to {last}, over other rows")
            raise Wrong(
                f"on a {layer.text} layer merging adds {explain({(part.rank, part.alpha): inside[0]}, tolerance=1e-4)} times part {name}'s"
                " scaled product"
            )
    return None
