"""Every part of a fused layer: rows, factors and a scale of its own, merged and saved as such."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import LAYERS, TALL, Bench, close, ratio
from rsverify.conformance.checks.saving import load_saved
from rsverify.conformance.checks.scale import CLOSE, judge_scales
from rsverify.conformance.diagnose import explain
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.parts import alone, parts_of, product, rows_of
from rsverify.conformance.registry import check


@check("structure", "parts")
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


@check("scaling", "parts")
def check_parts_scale(bench: Bench) -> str | None:
    """Each part of a fused layer, and each expert, has the scale that the rule gives its own rank and alpha."""
    found: dict[str, dict[tuple[int, float], float]] = {}
    for rank, alpha in ((bench.ranks[0], bench.alpha), (bench.ranks[-1], bench.other_alpha)):
        built = bench.trained(TALL, rank, alpha=alpha)
        parts = parts_of(bench, built)
        for name, part in parts.items():
            first, last = rows_of(built, part)
            with alone(parts, name):
                c, rest = ratio(built.added().double()[first:last], product(part))
            if rest > CLOSE * 10:
                raise Skip(f"part {name} does not add its own product: see check_parts_rows")
            found.setdefault(name, {})[part.rank, part.alpha] = c
    for name, at in found.items():
        expected = {key: bench.subject.scaling.gamma(*key) for key in at}
        judge_scales(f"the scale of part {name}", at, expected, str(bench.subject.scaling))
    return None


@check("merging", "parts", "merge")
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


@check("persistence", "parts", "save", "load")
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
