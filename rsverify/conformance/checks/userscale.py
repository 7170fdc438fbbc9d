"""A scale that the user sets on top of the configured one: what it multiplies, and what merging and saving make of it."""

from __future__ import annotations

import math

import torch

from rsverify.conformance.bench import TALL, Bench, close, ratio, tolerance
from rsverify.conformance.checks.merging import base_weight, how_far_off, merge, unmerge
from rsverify.conformance.checks.saving import load_saved, require_loaded
from rsverify.conformance.checks.scale import CLOSE
from rsverify.conformance.diagnose import explain
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.registry import check

SCALE = 1.7
"""A user's scale that is no power of 2 or of a rank in use."""


@check("scaling", "set_scale")
def check_set_scale_one(bench: Bench) -> str | None:
    """Setting the scale to 1 changes nothing."""
    assert bench.subject.set_scale is not None
    for rank in bench.ranks:
        built = bench.trained(TALL, rank)
        before = built.product()
        bench.subject.set_scale(built.module, 1.0)
        after = built.product()
        if not close(after, before, built):
            c, rest = ratio(after, before)
            why = explain({(rank, built.alpha): c}, tolerance=CLOSE) if rest < 1e-3 else "no multiple"
            raise Wrong(f"set_scale(1) at rank {rank} multiplies the added weight by {why} (rule {bench.subject.scaling})")
    return None


@check("scaling", "set_scale")
def check_set_scale_relative(bench: Bench) -> str | None:
    """Setting the scale to 2, once or twice, doubles what is added; 0 takes it away; 1 brings it back."""
    set_scale = bench.subject.set_scale
    assert set_scale is not None
    built = bench.trained()
    before = built.product()
    set_scale(built.module, 2.0)
    once = built.product()
    set_scale(built.module, 2.0)
    twice = built.product()
    if not close(twice, once, built):
        raise Wrong(f"set_scale(2) a second time multiplies the added weight by {ratio(twice, once)[0]:.4g}: the calls compound")
    c, rest = ratio(once, before)
    if rest < CLOSE * 10 and not math.isclose(c, 2.0, rel_tol=CLOSE):
        gamma = bench.gamma(built.rank)
        absolute = math.isclose(c, 2 / gamma, rel_tol=CLOSE)
        why = "the user's scale replaces the configured one" if absolute else explain({(built.rank, built.alpha): c / 2}, tolerance=CLOSE)
        raise Wrong(f"set_scale(2) multiplies the added weight by {c:.4g}; expected 2: {why}")
    set_scale(built.module, 0.0)
    if rest < CLOSE * 10 and not close(built.product(), torch.zeros_like(before), built):
        raise Wrong("set_scale(0) leaves something of the adapter in the output")
    set_scale(built.module, 1.0)
    if not close(built.product(), before, built):
        raise Wrong("after set_scale(0), set_scale(1) does not bring the adapter back: zero was folded into a factor or divided by")
    return None


@check("scaling", "set_scale")
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


@check("scaling", "set_scale", "scale")
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


@check("scaling", "add_adapter", "set_adapter", "set_scale")
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


@check("scaling", "merge", "set_scale")
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


@check("merging", "merge", "unmerge", "set_scale")
def check_unmerge_scaled(bench: Bench) -> str | None:
    """A scale set before merging is merged, and one set while merged does not disturb unmerging."""
    set_scale = bench.subject.set_scale
    assert set_scale is not None
    x = bench.x(TALL)
    built = bench.trained()
    W, base = built.base.weight.detach().clone(), built.base_output(x)
    set_scale(built.module, 0.5)
    before = built(x)
    merge(bench, built)
    if not close(built(x), before, built):
        raise Wrong(f"with the scale set to 1/2 before merging, {how_far_off(bench, built, built(x), before, base)}")
    try:
        set_scale(built.module, 2.0)
    except Exception as error:
        return f"a scale cannot be set while merged: {type(error).__name__}"
    unmerge(bench, built)
    left = base_weight(built) - W
    if float(left.abs().max()) > tolerance(built, W):
        c, rest = ratio(left, before.new_tensor((built.product() / 2).tolist()))
        how = f"{c:.3g} times what the adapter adds" if rest < 1e-3 else f"up to {float(left.abs().max()):.3g}"
        raise Wrong(f"a scale set while merged leaves {how} in the base weight after unmerging: it subtracts with the new scale")
    set_scale(built.module, 0.5)
    if not close(built(x), before, built):
        raise Wrong("after merging, a change of scale and unmerging, the same scale gives another function")
    return None


@check("persistence", "save", "load", "set_scale")
def check_load_scale(bench: Bench) -> str | None:
    """After loading, set_scale(1) changes nothing and set_scale(2) doubles: rank, alpha and rule were restored with the tensors."""
    s = bench.subject
    assert s.save is not None and s.set_scale is not None
    for rank in bench.ranks:
        built = bench.trained(TALL, rank, alpha=bench.other_alpha)
        x = bench.x(TALL)
        loaded = load_saved(bench, s, s.save(built.module), built)
        before = loaded(x)
        s.set_scale(loaded.module, 1.0)
        after = loaded(x)
        if not close(after, before, loaded):
            c, _ = ratio(after - loaded.base_output(x), before - loaded.base_output(x))
            why = explain({(rank, loaded.alpha): c}, tolerance=1e-4)
            raise Wrong(f"after loading, set_scale(1) multiplies what is added by {why}: another rank, alpha or rule is kept")
    return None


@check("persistence", "save", "load", "set_scale")
def check_save_scaled(bench: Bench) -> str | None:
    """A scale set before saving is kept or left out, but not applied twice or by half."""
    s = bench.subject
    assert s.save is not None and s.set_scale is not None
    require_loaded(bench)
    built = bench.trained()
    x = bench.x(TALL)
    s.set_scale(built.module, 3.0)
    scaled = built(x)
    loaded = load_saved(bench, s, s.save(built.module), built)(x)
    s.set_scale(built.module, 1.0)
    plain = built(x)
    if close(loaded, scaled, built):
        return "a scale set by the user is saved"
    if close(loaded, plain, built):
        return "a scale set by the user is not saved"
    c, _ = ratio(loaded - built.base_output(x), plain - built.base_output(x))
    raise Wrong(f"saved under set_scale(3), the loaded adapter adds {c:.4g} times what it adds at scale 1; expected 3 or 1")
