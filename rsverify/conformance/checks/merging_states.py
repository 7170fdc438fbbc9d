"""Merging beside other things: into the layer that was handed over, with an adapter added in between."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import TALL, Bench, close
from rsverify.conformance.registry import Skip, Wrong, check


@check("merge")
def check_merge_in_place(bench: Bench) -> str | None:
    """The layer that was handed over holds the merged weight: whoever exports it does not export the base."""
    s = bench.subject
    assert s.merge is not None
    built = bench.trained()
    if all(p is not built.base.weight for p in built.module.parameters()):
        raise Skip("the module keeps a weight of its own, not that of the layer it was given")
    x = bench.x(TALL)
    expected = built(x)
    with torch.no_grad():
        s.merge(built.module)
        found = built.base(x)
    if not close(found, expected, built):
        same = close(found, built.base_output(x), built)
        raise Wrong(
            "after merging, the layer that was adapted still holds "
            + ("the pretrained weight: merge wrote to a copy" if same else "another weight than the one with which the module computes")
        )
    return None


@check("merge", "unmerge", "add_adapter", "set_adapter")
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
