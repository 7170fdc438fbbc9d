"""The scale of each part of a fused layer: by its own rank and alpha, which its neighbours need not share."""

from __future__ import annotations

from rsverify.conformance.bench import TALL, Bench, ratio
from rsverify.conformance.checks.scaling import CLOSE, judge_scales
from rsverify.conformance.parts import alone, parts_of, product, rows_of
from rsverify.conformance.registry import Skip, check


@check("parts")
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
