"""Whether merging puts the adapter, and only it, into the base weight, and unmerging takes it out again."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from rsverify.conformance.bench import LAYERS, TALL, Bench, Built, close, ratio
from rsverify.conformance.diagnose import explain
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import check
from rsverify.statistics.rounding import gamma_n

ROUNDS = 8
"""Merges and unmerges in a row: enough for a residue of every round to add up, few enough to be quick."""


def merge(bench: Bench, built: Built) -> None:
    assert bench.subject.merge is not None
    with torch.no_grad():
        bench.subject.merge(built.module)


def unmerge(bench: Bench, built: Built) -> None:
    assert bench.subject.unmerge is not None
    with torch.no_grad():
        bench.subject.unmerge(built.module)


def base_weight(built: Built) -> Tensor:
    """The base layer's weight where the module now keeps it.

    Raises: Skip where the module holds no base layer that can be told.
    """
    held = dict(built.module.named_parameters())
    if any(value is built.base.weight for value in held.values()) or built.module is built.base:
        return built.base.weight.detach()
    linears = [m for m in built.module.modules() if isinstance(m, torch.nn.Linear) and m.weight.shape == built.W.shape]
    if len(linears) == 1:
        return linears[0].weight.detach()
    raise Skip("the module keeps no base layer whose weight could be looked at")


def how_far_off(bench: Bench, built: Built, found: Tensor, expected: Tensor, neutral: Tensor) -> str:
    """How what is added compares with what should be: a factor that is named, or a part."""
    c, rest = ratio(found - neutral, expected - neutral)
    return (
        f"merged/unmerged is {explain({(built.rank, built.alpha): c}, tolerance=1e-4)}" if rest < 1e-3 else f"off by {rest:.2g} of itself"
    )


@check("merging", "merge")
def check_merge_function(bench: Bench) -> str | None:
    """The merged layer computes what the unmerged one did, and both what the declaration says."""
    held = None
    with suppress(Skip):
        held = algebra(bench)
    for layer in LAYERS:
        for rank in bench.ranks:
            built = bench.trained(layer, rank)
            x = bench.x(layer)
            base, before = built.base_output(x), built(x)
            expected = None if held is None or not held.claimed else held.added(built, bench.gamma(rank))
            merge(bench, built)
            after = built(x)
            if not close(after, before, built):
                how = how_far_off(bench, built, after, before, base)
                raise Wrong(f"on a {layer.text} layer at rank {rank} merging changes what is added: {how}")
            if expected is not None and not close(built.added().double(), expected, built):
                c, _ = ratio(built.added().double(), expected)
                raise Wrong(f"merged and unmerged agree on a {layer.text} layer, and both add {c:.4g} times the declared product")
    return None if held is not None and held.claimed else "compared with the unmerged layer; no declared algebra to compare both with"


@check("merging", "merge")
def check_merge_weight(bench: Bench) -> str | None:
    """After merging the base layer's weight holds the pretrained weight plus what was added."""
    for layer in LAYERS:
        built = bench.trained(layer)
        bench.require_linear(built)
        base_weight(built)
        expected = built.read()[0]
        merge(bench, built)
        found = base_weight(built)
        if found.shape == expected.shape and not close(found, expected, built):
            c, rest = ratio(found - built.W, expected - built.W)
            held = explain({(built.rank, built.alpha): c}, tolerance=1e-4) if rest < 1e-3 else f"off by {rest:.2g} of itself"
            raise Wrong(f"after merging the weight of the {layer.text} base layer holds of what was added: {held}")
        if found.dtype != built.W.dtype:
            raise Wrong(f"merging turned a weight of {built.W.dtype} into {found.dtype}")
    return None


@check("merging", "merge")
def check_merge_twice(bench: Bench) -> str | None:
    """Merging a second time is refused or changes nothing."""
    built = bench.trained()
    x = bench.x(TALL)
    merge(bench, built)
    before = built(x)
    try:
        merge(bench, built)
    except Exception as error:
        return f"a second merge is refused: {type(error).__name__}"
    after = built(x)
    if not close(after, before, built):
        c, _ = ratio(after - built.base_output(x), before - built.base_output(x))
        raise Wrong(f"merging twice adds {c:.4g} times what merging once adds")
    return None


@check("merging", "merge")
def check_merge_factors(bench: Bench) -> str | None:
    """Merging leaves the trained factors as they are: the same parameters, values, types and devices."""
    built = bench.trained()
    before = {name: (p, p.detach().clone(), p.requires_grad) for name, p in built.factors().items()}
    merge(bench, built)
    if bench.subject.unmerge is not None:
        unmerge(bench, built)
    now = dict(built.module.named_parameters())
    for name, (parameter, value, trained) in before.items():
        if now.get(name) is not parameter:
            raise Wrong(f"merging replaces the parameter {name}: an optimizer would go on training the old one")
        if parameter.dtype != value.dtype or not torch.equal(parameter, value):
            raise Wrong(f"merging changes the values of {name}")
        if bench.subject.unmerge is not None and parameter.requires_grad != trained:
            raise Wrong(f"after merging and unmerging {name} no longer requires gradients")
    return None


@check("merging", "merge")
def check_merge_modes(bench: Bench) -> str | None:
    """A merged layer stays merged in training mode and back in evaluation mode."""
    built = bench.trained()
    x = bench.x(TALL)
    before = built(x)
    merge(bench, built)
    for mode in (True, False, True):
        built.module.train(mode)
        with torch.no_grad():
            found = built.module(x)
        if not close(found, before, built):
            how = how_far_off(bench, built, found, before, built.base_output(x))
            raise Wrong(f"a merged layer put into {'training' if mode else 'evaluation'} mode computes another function: {how}")
    return None


@check("merging", "merge", "unmerge")
def check_unmerge_restores(bench: Bench) -> str | None:
    """Unmerging brings back the base weight, the function, and the factors' say in it, once and after several rounds."""
    remark = None
    for layer in LAYERS:
        built = bench.trained(layer)
        x = bench.x(layer)
        before, W = built(x), built.base.weight.detach().clone()
        for rounds in (1, ROUNDS):
            for _ in range(rounds):
                merge(bench, built)
                unmerge(bench, built)
            found = base_weight(built)
            # Adding and subtracting rounds twice a round, each by half a unit of the larger of the weights.
            allowed = 2 * rounds * gamma_n(2, str(built.dtype).removeprefix("torch.")) * float((W.abs() + built.product().abs()).max())
            if found.shape == W.shape:
                left = float((found - W).abs().max())
                if left > allowed:
                    raise Wrong(
                        f"after {rounds} round(s) of merging and unmerging the base weight is off by {left:.3g};"
                        f" rounding explains {allowed:.2g}"
                    )
                remark = None if left == 0 else f"unmerging leaves rounding behind ({left:.2g}): it subtracts, and keeps no copy"
            if not close(built(x), before, built):
                how = how_far_off(bench, built, built(x), before, built.base_output(x))
                raise Wrong(f"after {rounds} round(s) of merging and unmerging the function is another: {how}")
        bench.stir(built, "again")
        if close(built(x), before, built):
            raise Wrong("after merging and unmerging the factors have no say in the output any more")
    return remark


@check("merging", "merge")
def check_merge_bfloat16(bench: Bench) -> str | None:
    """A bfloat16 weight stays bfloat16 and takes the adapter with no more rounding than its own type has; what it loses is said."""
    try:
        built = bench.trained(dtype=torch.bfloat16)
        built(bench.x(TALL, dtype=torch.bfloat16))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise Skip(f"it does not compute in bfloat16: {str(error).splitlines()[0]}") from error
    if built.residual:
        raise Skip("the base weight is a residual: nothing that is added could be merged by itself")

    def added() -> Tensor:
        try:
            return algebra(bench).added(built, bench.gamma(built.rank))
        except Skip:
            # Read off in float64: read off in bfloat16 it would carry the rounding of the whole weight.
            b = None if built.b is None else built.b.double()
            return replace(built, module=copy.deepcopy(built.module).double(), W=built.W.double(), b=b).added()

    with torch.no_grad():  # a small added weight, as after a short training: a hundredth of the base's size
        size = float(added().norm() / built.W.double().norm())
        next(iter(built.factors().values())).mul_(0.01 / max(size, 1e-30))
    delta = added()
    share = float(delta.norm() / built.W.double().norm())
    merge(bench, built)
    found = base_weight(built)
    if found.dtype != torch.bfloat16:
        raise Wrong(f"merging turned a weight of bfloat16 into {found.dtype}")
    if bool((found == built.W).all()):
        raise Wrong(f"merging an adapter of {share:.1%} of a bfloat16 weight changes no entry of it: is the merge applied?")
    exact = built.W.double() + delta
    unit = float(torch.finfo(torch.bfloat16).eps) / 2
    # One rounding of the sum is u |W + d|; a delta that was itself computed in bfloat16 may bring some roundings of d.
    allowed = 1.01 * unit * exact.abs() + 8 * unit * delta.abs().max()
    worst = float(((found.double() - exact).abs() / allowed).max())
    if worst > 1:
        raise Wrong(f"the merged bfloat16 weight is off by up to {worst:.2g} times what one rounding of the sum and delta's own explain")
    lost = float((found.double() - exact).norm() / delta.norm())
    return (
        f"an adapter of {share:.1%} of the weight is merged into bfloat16 with an error of {lost:.0%} of itself: half a unit in the last"
        " place of the weight; keep it unmerged, or merge in float32, where that matters"
    )


@check("merging", "merge")
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
        if close(found, built.base_output(x), built):
            raise Wrong("after merging, the layer that was adapted still holds the pretrained weight: merge wrote to a copy")
        c, rest = ratio(found - built.base_output(x), expected - built.base_output(x))
        how = explain({(built.rank, built.alpha): c}, tolerance=1e-4) if rest < 1e-3 else f"off by {rest:.2g} of itself"
        raise Wrong(f"after merging, the layer that was adapted adds other than the adapter did before merging: merged/before is {how}")
    return None
