"""Scales after something was done to them: set on a second adapter, told to the user, set after a change of rank or while merged."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import TALL, Bench, close, ratio
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import Skip, Wrong, check

SCALE = 1.7
"""A user's scale that is no power of 2 or of a rank in use."""


@check("set_scale", "scale")
def check_scale_told(bench: Bench) -> str | None:
    """The scale that users are told is the one in force, theirs included."""
    s = bench.subject
    assert s.scale is not None and s.set_scale is not None
    built = bench.trained()
    before = float(s.scale(built.module))
    s.set_scale(built.module, SCALE)
    after = float(s.scale(built.module))
    if abs(after - SCALE * before) > 1e-6 * abs(SCALE * before):
        raise Wrong(f"after set_scale({SCALE}) scale() says {after:.6g}, before it {before:.6g}; expected {SCALE * before:.6g}")
    return None


@check("add_adapter", "set_adapter", "set_scale")
def check_set_scale_active(bench: Bench) -> str | None:
    """set_scale acts on the active adapter and on no other."""
    s = bench.subject
    assert s.add_adapter is not None and s.set_adapter is not None and s.set_scale is not None
    built = bench.trained()
    x = bench.x(TALL)
    s.set_adapter(built.module, "default")
    first = built(x)
    s.add_adapter(built.module, "second", bench.rank, bench.alpha)
    s.set_adapter(built.module, "second")
    bench.stir(built, "second")
    second = built(x) - built.base_output(x)
    s.set_scale(built.module, SCALE)
    found = built(x) - built.base_output(x)
    s.set_adapter(built.module, "default")
    if not close(built(x), first, built):
        c, _ = ratio(built(x) - built.base_output(x), first - built.base_output(x))
        raise Wrong(f"set_scale({SCALE}) with the second adapter active multiplies what the first one adds by {c:.4g}")
    if not close(found, SCALE * second, built):
        # An adapter that is not linear in its scale (a norm) may do something else, but it must do something.
        if close(found, second, built):
            raise Wrong(f"set_scale({SCALE}) with the second adapter active does nothing to it: whose scale was set?")
        return "what is added is not linear in the scale"
    return None


@check("set_scale")
def check_set_scale_zero(bench: Bench) -> str | None:
    """At scale 0 the layer is the pretrained one, and at scale 1 the adapter is back."""
    s = bench.subject
    assert s.set_scale is not None
    if bench.subject.claim == "residual":
        raise Skip("the base weight is a residual: without its adapter the layer is not the pretrained one")
    built = bench.trained()
    x = bench.x(TALL)
    at = {}
    for scale in (1.0, 2.0, 3.0, 0.0):
        s.set_scale(built.module, scale)
        at[scale] = built(x)
    if not close(at[3.0] - at[2.0], at[2.0] - at[1.0], built):
        raise Skip("what is added is not linear in the scale: scale 0 need not be the pretrained layer")
    if not close(at[0.0], built.base_output(x), built):
        left = float((at[0.0] - built.base_output(x)).norm() / (at[1.0] - built.base_output(x)).norm())
        raise Wrong(f"at scale 0 the layer still adds {left:.1%} of what it adds at scale 1: a part of the adapter is not scaled")
    s.set_scale(built.module, 1.0)
    if not close(built(x), at[1.0], built):
        raise Wrong("set to 0 and back to 1 the adapter does not return")
    return None


@check("redistribute", "set_scale")
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


@check("redistribute")
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


@check("merge", "set_scale")
def check_set_scale_merged(bench: Bench) -> str | None:
    """set_scale(1) on a merged layer changes nothing (or is refused)."""
    s = bench.subject
    assert s.merge is not None and s.set_scale is not None
    built = bench.trained()
    x = bench.x(TALL)
    s.merge(built.module)
    before = built(x)
    try:
        s.set_scale(built.module, 1.0)
    except Exception as error:
        return f"refused while merged: {type(error).__name__}"
    if not close(built(x), before, built):
        raise Wrong("set_scale(1) on a merged layer changes what it computes: refuse it, or merge again at the new scale")
    return None
