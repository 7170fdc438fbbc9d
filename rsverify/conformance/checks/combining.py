"""Adapters added up into one."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import TALL, Bench, close, ratio
from rsverify.conformance.diagnose import explain
from rsverify.conformance.outcomes import Wrong
from rsverify.conformance.registry import check


@check("persistence", "combine", "set_adapter")
def check_combine_one(bench: Bench) -> str | None:
    """Combining one adapter with weight w gives w times that adapter, for w = 1, 2 and -1."""
    s = bench.subject
    assert s.combine is not None and s.set_adapter is not None
    for weight in (1.0, 2.0, -1.0):
        for rank in bench.ranks:
            built = bench.trained(TALL, rank)
            x = bench.x(TALL)
            base, single = built.base_output(x), built(x) - built.base_output(x)
            name = s.combine(built.module, ["default"], [weight])
            s.set_adapter(built.module, name)
            found = built(x) - base
            if not close(found, weight * single, built):
                c, rest = ratio(found, single)
                how = explain({(rank, built.alpha): c / weight}, tolerance=1e-4) if rest < 1e-3 else "no multiple"
                raise Wrong(f"combining one adapter of rank {rank} with weight {weight:g}: combined/expected is {how}")
    return None


@check("persistence", "combine", "add_adapter", "set_adapter")
def check_combine_two(bench: Bench) -> str | None:
    """Combining two adapters of other ranks and alphas gives their weighted sum."""
    s = bench.subject
    assert s.combine is not None and s.add_adapter is not None and s.set_adapter is not None
    built = bench.trained()
    x = bench.x(TALL)
    base, one = built.base_output(x), built(x) - built.base_output(x)
    s.add_adapter(built.module, "second", bench.ranks[-1], bench.other_alpha)
    s.set_adapter(built.module, "second")
    bench.stir(built, "second")
    two = built(x) - base
    s.set_adapter(built.module, s.combine(built.module, ["default", "second"], [0.5, 2.0]))
    found = built(x) - base
    if not close(found, 0.5 * one + 2.0 * two, built):
        both = torch.stack([one.flatten(), two.flatten()], 1).double()
        fit = torch.linalg.lstsq(both, found.flatten().double()[:, None]).solution.flatten()
        raise Wrong(f"combined with weights 1/2 and 2, two adapters count {float(fit[0]):.4g} and {float(fit[1]):.4g} times")
    return None
