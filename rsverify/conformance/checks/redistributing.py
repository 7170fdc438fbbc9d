"""A change of rank: the scale that follows it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from rsverify.conformance.bench import TALL, Bench, Built, close, ratio
from rsverify.conformance.checks.saving import compare_loaded, load_saved, require_loaded
from rsverify.conformance.checks.scale import CLOSE
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import check
from rsverify.definitions.adapter import Adapter


@check("scaling", "redistribute")
def check_redistribute_scale(bench: Bench) -> str | None:
    """After a change of rank the scale is the rule's at the new rank, and growing the rank keeps the function."""
    redistribute = bench.subject.redistribute
    assert redistribute is not None
    if len(bench.ranks) < 2:
        raise Skip(f"it can be built at rank {bench.rank} only")
    for old, new in (bench.ranks[:2], bench.ranks[1::-1]):
        built = bench.trained(TALL, old)
        before = built(bench.x(TALL))
        redistribute(built.module, new)
        now = replace(built, rank=new)
        found, expected = _scale_in_force(bench, now), bench.gamma(new)
        if found is not None and not math.isclose(found, expected, rel_tol=CLOSE):
            kept = math.isclose(found, bench.gamma(old), rel_tol=CLOSE)
            power = _power(found / expected, new / old)
            why = "the old scale was kept" if kept else f"found/expected is {found / expected:.4g} = (new/old)**{power}"
            raise Wrong(f"from rank {old} to {new} the scale becomes {found:.6g}; {bench.subject.scaling} says {expected:.6g}: {why}")
        if new > old and not close(built(bench.x(TALL)), before, now):
            base = built.base_output(bench.x(TALL))
            c = ratio(built(bench.x(TALL)) - base, before - base)[0]
            raise Wrong(f"growing the rank from {old} to {new} multiplies what is added by about {c:.4g}; expected the same function")
    return None


def _power(factor: float, base: float) -> str:
    return f"{math.log(factor) / math.log(base):.3g}" if factor > 0 else "?"


def _scale_in_force(bench: Bench, built: Built) -> float | None:
    """What the implementation reports, or else what the forward pass applies to its factors; None where neither can be told."""
    if bench.subject.scale is not None:
        return float(bench.subject.scale(built.module))
    try:
        held = algebra(bench)
        c, rest = ratio(built.added().double(), held.unit_weight(built)) if isinstance(held.adapter, Adapter) else (math.nan, 1.0)
    except (Skip, KeyError, RuntimeError):
        return None
    return c if rest < CLOSE * 10 else None


@check("scaling", "redistribute", "set_scale")
def check_redistribute_set_scale(bench: Bench) -> str | None:
    """After a change of rank set_scale(1) changes nothing: rank, alpha and scale were changed together."""
    s = bench.subject
    assert s.redistribute is not None and s.set_scale is not None
    built = bench.trained()
    x = bench.x(TALL)
    s.redistribute(built.module, 2 * bench.rank)
    before = built(x)
    s.set_scale(built.module, 1.0)
    after = built(x)
    if not close(after, before, built):
        c, _ = ratio(after - built.base_output(x), before - built.base_output(x))
        raise Wrong(
            f"after redistribute({2 * bench.rank}) set_scale(1) multiplies what is added by {c:.4g}: it goes by the old rank or scale"
        )
    return None


@check("scaling", "redistribute")
def check_redistribute_keeps(bench: Bench) -> str | None:
    """A smaller rank keeps the component that matters, wherever it stands."""
    s = bench.subject
    assert s.redistribute is not None
    if bench.rank < 2:
        raise Skip("it can be built at rank 1 only")
    held = algebra(bench)
    x = bench.x(TALL)
    for place in (0, bench.rank - 1):
        built = bench.trained()
        factors = held.factors(built)
        if set(factors) != {"A", "B"}:
            raise Skip("components are known of two-factor adapters only")
        with torch.no_grad():
            for other in range(bench.rank):
                if other != place:
                    factors["B"][:, other] = 0
        before = built(x)
        s.redistribute(built.module, bench.rank - 1)
        if not close(built(x), before, built):
            lost = float((built(x) - before).norm() / (before - built.base_output(x)).norm())
            raise Wrong(
                f"all but component {place + 1} of {bench.rank} are zero, and redistribute({bench.rank - 1}) loses {lost:.0%} of what is"
                " added: components are dropped by place, not by importance"
            )
    return None


@check("persistence", "redistribute", "save", "load")
def check_redistribute_saved(bench: Bench) -> str | None:
    """Saved after a change of rank, the adapter is loaded as what it is: the file says the new rank, its alpha and its scale."""
    s = bench.subject
    assert s.redistribute is not None and s.save is not None
    require_loaded(bench)
    if len(bench.ranks) < 2:
        raise Skip(f"it can be built at rank {bench.rank} only")
    for old, new in (bench.ranks[:2], bench.ranks[1::-1]):
        built = bench.trained(TALL, old)
        s.redistribute(built.module, new)
        now = replace(built, rank=new)
        x = bench.x(TALL)
        expected = now(x)
        compare_loaded(load_saved(bench, s, s.save(now.module), now), expected, x, f"saved after a change of rank from {old} to {new}")
    return None
