"""Whether every part of a fused layer acts on rows of its own, and through factors of its own."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import LAYERS, Bench, close, ratio
from rsverify.conformance.parts import alone, parts_of, product, rows_of
from rsverify.conformance.registry import Wrong, check


@check("parts")
def check_parts_rows(bench: Bench) -> str | None:
    """Each part of a fused layer adds its own product to its own rows, and to no others: order and factors are its own."""
    for layer in LAYERS:
        built = bench.trained(layer)
        parts = parts_of(bench, built)
        with alone(parts, None):
            if not close(built.added(), torch.zeros_like(built.W), built):
                raise Wrong(
                    f"on a {layer.text} layer something is added with every part's up-projection zero: parts() returns copies, or not all"
                )
        for name, part in parts.items():
            first, last = rows_of(built, part)
            with alone(parts, name):
                added, unit = built.added().double(), product(part)
            outside = torch.cat([added[:first], added[last:]])
            inside = added[first:last]
            if outside.numel() and not close(outside, torch.zeros_like(outside), built):
                rows = (outside.abs().amax(1) > 0).nonzero().flatten()
                where = [int(k) if k < first else int(k) + last - first for k in rows]
                raise Wrong(f"on a {layer.text} layer part {name}, of rows {first} to {last}, adds to row {where[0]}: rows are exchanged")
            c, _ = ratio(inside, unit)
            if not close(inside, c * unit, built):
                raise Wrong(f"on a {layer.text} layer part {name} does not add its own product to its rows: another part's factor is used?")
    return None
