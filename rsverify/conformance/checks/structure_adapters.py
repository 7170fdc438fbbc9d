"""Several adapters on one layer: each is itself, whoever else is there."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import TALL, Bench, close, named
from rsverify.conformance.registry import Wrong, check


@check("add_adapter", "set_adapter")
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


@check("add_adapter", "set_adapter")
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
