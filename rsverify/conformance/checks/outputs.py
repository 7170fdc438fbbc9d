"""Which function is computed: the declared product, on every shape of layer and input, the same at every call."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import LAYERS, TALL, Bench, close, ratio, seed_torch, transplant
from rsverify.conformance.diagnose import explain
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import check
from rsverify.definitions.adapter import Adapter


@check("structure")
def check_delta_reference(bench: Bench) -> str | None:
    """On tall, wide and square layers the added weight is the declared product of the factors, up to a factor."""
    held = algebra(bench)
    for layer in LAYERS:
        for rank in bench.ranks:
            built = bench.trained(layer, rank)
            bench.require_linear(built)
            added, expected = built.added().double(), held.added(built, bench.gamma(rank))
            c, _ = ratio(added, expected)
            if close(added, c * expected if isinstance(held.adapter, Adapter) else expected, built):
                continue
            if not held.claimed:
                raise Skip("its factors have LoRA's shapes but it does not add their product; declare what it is with init=")
            off = float((added - expected).norm() / expected.norm())
            raise Wrong(
                f"on a {layer.text} layer at rank {rank} the added weight is not {held.adapter.name}'s: off by {off:.2g} of itself."
                + (" Only the square layer is wrong: a transpose?" if layer.d_in == layer.d_out else "")
            )
    return None if held.claimed else "read as LoRA by the shapes of its factors"


@check("structure", "delta")
def check_delta_forward(bench: Bench) -> str | None:
    """What `delta` returns is what the forward pass adds."""
    assert bench.subject.delta is not None
    for layer in LAYERS:
        for rank in bench.ranks:
            built = bench.trained(layer, rank)
            bench.require_linear(built)
            found, expected = bench.subject.delta(built.module).detach(), built.added()
            if found.shape != expected.shape:
                raise Wrong(f"delta has shape {tuple(found.shape)} on a {layer.text} layer; expected {tuple(expected.shape)}")
            if not close(found.to(expected.dtype), expected, built):
                c, rest = ratio(found.to(expected.dtype), expected)
                off = f"off by {rest:.2g} of itself" if rest > 1e-3 else f"delta/forward is {explain({(rank, built.alpha): c})}"
                raise Wrong(f"delta is not what the forward pass adds on a {layer.text} layer at rank {rank}: {off}")
    return None


@check("structure")
def check_output_shapes(bench: Bench) -> str | None:
    """One vector, a batch, a batch of sequences and an empty batch: the same function row by row, the bias once."""
    for layer in LAYERS:
        built = bench.trained(layer)
        x = bench.x(layer, 6)
        rows = built(x)
        for shape in ((), (2, 3), (3, 1, 2), (0,), (2, 0)):
            given = x[0] if shape == () else x.reshape(*shape, layer.d_in) if 0 not in shape else x.new_zeros(*shape, layer.d_in)
            found = built(given)
            expected = (
                rows[0] if shape == () else rows.reshape(*shape, layer.d_out) if 0 not in shape else rows.new_zeros(*shape, layer.d_out)
            )
            if found.shape != expected.shape:
                raise Wrong(f"input of shape {tuple(given.shape)} gives {tuple(found.shape)}; expected {tuple(expected.shape)}")
            if found.numel() and not close(found, expected, built):
                raise Wrong(f"input of shape {tuple(given.shape)} gives other values than the same rows in one batch")
        fresh = bench.build(layer)
        offset, b = fresh(x.new_zeros(1, layer.d_in))[0], fresh.b
        if not close(offset, offset.new_zeros(offset.shape) if b is None else b, fresh):
            raise Wrong(f"at zero input the {layer.text} layer {'with' if layer.bias else 'without'} bias does not return the bias once")
    return None


@check("structure")
def check_output_repeatable(bench: Bench) -> str | None:
    """Calling twice gives the same output, training mode computes the same function, and the input is left as it was."""
    built = bench.trained()
    x = bench.x(TALL)
    kept = x.clone()
    if bench.draws_in_evaluation:
        raise Wrong(
            "in evaluation mode the same input gives another output under another seed: the forward pass draws (a rank, dropout) where it"
            " must not; draw in training mode only"
        )
    first = built(x)
    built(3 * x)
    for _ in range(2):
        again = built(x)
        if not torch.equal(again, first):
            c, rest = ratio(again - built.base_output(x), first - built.base_output(x))
            how = f"the adapter's part becomes {c:.4g} times what it was" if rest < 1e-3 else "other values"
            raise Wrong(f"the same input gives another output the next time: {how}; a call changes the state")
    if not torch.equal(x, kept):
        raise Wrong("the forward pass writes to its input")
    built.module.train()
    with torch.no_grad():
        seed_torch(0)
        one = built.module(x)
        seed_torch(1)
        two = built.module(x)
    if not torch.equal(one, two):
        return "training mode is random (dropout): not compared with evaluation mode"
    if not close(one, first, built):
        raise Wrong("training and evaluation mode compute different functions, and no dropout explains it")
    return None


@check("structure")
def check_output_fresh(bench: Bench) -> str | None:
    """After its factors have moved the layer computes what a fresh layer with these factors computes: nothing stale is kept."""
    built, fresh = bench.build(), bench.build()
    x = bench.x(TALL)
    built(x)
    bench.stir(built)
    transplant(built, fresh)
    if not close(built(x), fresh(x), built):
        raise Wrong("after a first call the factors were moved and the output is not theirs: a cached weight or norm is kept")
    return None
