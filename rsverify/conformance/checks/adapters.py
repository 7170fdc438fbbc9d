"""Several adapters on one layer: each is itself, whoever else is there, scaled, merged and saved by itself."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import TALL, Bench, close, named
from rsverify.conformance.checks.merging import how_far_off, merge, unmerge
from rsverify.conformance.checks.saving import compare_loaded, load_saved
from rsverify.conformance.checks.scale import judge_scales
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.registry import check


@check("structure", "add_adapter", "set_adapter")
def check_adapter_added(bench: Bench) -> str | None:
    """Adding a second adapter leaves the first and the base layer as they were."""
    s = bench.subject
    assert s.add_adapter is not None and s.set_adapter is not None
    built = bench.trained()
    x = bench.x(TALL)
    before, W = built(x), built.base.weight.detach().clone()
    factors = {name: p for name, p in built.factors().items()}
    s.add_adapter(built.module, "second", bench.ranks[-1], bench.other_alpha)
    s.set_adapter(built.module, "default")
    if not torch.equal(built.base.weight, W):
        raise Wrong("adding a second adapter changes the base weight under the first")
    if not close(built(x), before, built):
        raise Wrong("with a second adapter added and the first one active again, the output is another")
    lost = [name for name, p in factors.items() if not p.requires_grad]
    if lost:
        raise Wrong(f"after adding a second adapter and returning to the first, its {named(lost)} no longer train")
    return None


@check("structure", "add_adapter", "set_adapter")
def check_adapter_switched(bench: Bench) -> str | None:
    """Only the active adapter acts and trains, and switching back and forth changes nothing."""
    s = bench.subject
    assert s.add_adapter is not None and s.set_adapter is not None
    built = bench.trained()
    x = bench.x(TALL)
    base, outputs, trained = built.base_output(x), {"default": built(x)}, {}
    s.add_adapter(built.module, "second", bench.ranks[-1], bench.other_alpha)
    s.set_adapter(built.module, "second")
    if bench.subject.claim == "identity" and not close(built(x), base, built):
        still = close(built(x), outputs["default"], built)
        why = "the first still acts" if still else "it does not start at nothing"
        raise Wrong(f"a fresh second adapter that is alone active adds something: {why}")
    bench.stir(built, "second")
    outputs["second"] = built(x)
    if close(outputs["second"], base, built):
        raise Wrong("the second adapter's factors have no effect: it was added, but never acts")
    for name in ("default", "second", "default", "second"):
        s.set_adapter(built.module, name)
        if not close(built(x), outputs[name], built):
            both = close(built(x), outputs["default"] + outputs["second"] - base, built)
            raise Wrong(f"after switching to {name!r} the output is not its own: {'both adapters act' if both else 'another function'}")
        trained[name] = set(built.factors())
    if trained["default"] & trained["second"]:
        raise Wrong(f"{named(sorted(trained['default'] & trained['second']))} train whichever adapter is active")
    return None


@check("scaling", "add_adapter", "set_adapter", "scale")
def check_scale_adapters(bench: Bench) -> str | None:
    """Two adapters of other rank and alpha on one layer each keep the scale of their own."""
    s = bench.subject
    assert s.add_adapter is not None and s.set_adapter is not None and s.scale is not None
    built = bench.build()
    rank, alpha = bench.ranks[-1], bench.other_alpha
    s.add_adapter(built.module, "second", rank, alpha)
    found, expected = {}, {}
    for name, key in (("second", (rank, alpha)), ("default", (bench.rank, bench.alpha))):
        s.set_adapter(built.module, name)
        found[key], expected[key] = float(s.scale(built.module)), bench.gamma(*key)
    judge_scales("beside another adapter, the reported scale", found, expected, str(s.scaling))
    return None


@check("merging", "merge", "unmerge", "add_adapter", "set_adapter")
def check_merge_adapters(bench: Bench) -> str | None:
    """With two adapters, merging and unmerging one leaves both as they were, and merges the active one alone."""
    s = bench.subject
    assert s.add_adapter is not None and s.set_adapter is not None
    built = bench.trained()
    x = bench.x(TALL)
    s.add_adapter(built.module, "second", bench.ranks[-1], bench.other_alpha)
    outputs = {}
    for name in ("second", "default"):
        s.set_adapter(built.module, name)
        if name == "second":
            bench.stir(built, "second")
        outputs[name] = built(x)
    for name in ("default", "second", "default"):
        s.set_adapter(built.module, name)
        merge(bench, built)
        if not close(built(x), outputs[name], built):
            other = "second" if name == "default" else "default"
            both = outputs[name] + outputs[other] - built.base_output(x)
            how = (
                "both are merged"
                if close(built(x), both, built)
                else how_far_off(bench, built, built(x), outputs[name], built.base_output(x))
            )
            raise Wrong(f"with two adapters, merging {name!r} computes another function: {how}")
        unmerge(bench, built)
        for again in outputs:
            s.set_adapter(built.module, again)
            if not close(built(x), outputs[again], built):
                raise Wrong(f"after merging and unmerging {name!r}, adapter {again!r} computes another function than before")
    return None


@check("merging", "merge", "unmerge", "add_adapter", "set_adapter")
def check_merge_add(bench: Bench) -> str | None:
    """An adapter added while another is merged starts from the pretrained weight, not from the merged one (or is refused)."""
    if bench.subject.claim == "random":
        raise Skip("it is declared to add something at init")
    s = bench.subject
    assert s.merge is not None and s.unmerge is not None and s.add_adapter is not None and s.set_adapter is not None
    built = bench.trained()
    x = bench.x(TALL)
    with torch.no_grad():
        s.merge(built.module)
        try:
            s.add_adapter(built.module, "second", bench.rank, bench.alpha)
        except Exception as error:
            return f"refused while merged: {type(error).__name__}"
        s.unmerge(built.module)
        s.set_adapter(built.module, "second")
    if not close(built(x), built.base_output(x), built):
        off = float((built(x) - built.base_output(x)).norm() / built.base_output(x).norm())
        raise Wrong(
            f"an adapter added while the first is merged is off the pretrained layer by {off:.2g} at its init: it saw the merged weight"
        )
    return None


@check("persistence", "save", "load", "add_adapter", "set_adapter")
def check_save_active(bench: Bench) -> str | None:
    """With the second of two adapters active, what is saved and loaded computes what the module computes."""
    s = bench.subject
    assert s.save is not None and s.add_adapter is not None and s.set_adapter is not None
    built = bench.trained()
    x = bench.x(TALL)
    s.add_adapter(built.module, "second", bench.rank, bench.alpha)
    s.set_adapter(built.module, "second")
    bench.stir(built, "second")
    expected = built(x)
    compare_loaded(load_saved(bench, s, s.save(built.module), built), expected, x, "with the second adapter active")
    return None
