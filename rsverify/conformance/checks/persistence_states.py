"""Saving and loading beside other things: on square and wide layers, with a second adapter active, after a move of dtype."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import LAYERS, TALL, Bench, close
from rsverify.conformance.checks.persistence import compare_loaded, load_saved
from rsverify.conformance.registry import Skip, Wrong, check


@check("save", "load")
def check_load_shapes(bench: Bench) -> str | None:
    """Saved and loaded on layers of every shape: a square one loads transposed factors without complaint."""
    s = bench.subject
    assert s.save is not None
    for layer in LAYERS:
        built = bench.trained(layer)
        x = bench.x(layer)
        expected = built(x)
        compare_loaded(load_saved(bench, s, s.save(built.module), built), expected, x, f"layer {layer.text}")
    return None


@check("save", "load", "add_adapter", "set_adapter")
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


@check()
def check_dtype_moves(bench: Bench) -> str | None:
    """Moving the module to another dtype moves all that it computes with."""
    if bench.dtype is not torch.float64:
        raise Skip("it cannot compute in float64: there is no dtype to move from")
    x = bench.x(TALL, dtype=torch.float32)
    bench.trained(dtype=torch.float32)(x)
    built = bench.trained()
    expected = built(bench.x(TALL))
    built.module.to(torch.float32)
    try:
        found = built(x)
    except RuntimeError as error:
        raise Wrong(
            f"after .to(float32) it still computes with a float64 tensor, one that is neither parameter nor buffer: {error}"
        ) from error
    if not close(found.double(), expected, built, dtype=torch.float32):
        raise Wrong("after .to(float32) it computes another function")
    return None
