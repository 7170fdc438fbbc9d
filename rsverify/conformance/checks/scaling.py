"""Whether the configured rule is the one in force: its value at alpha != r, its power of the rank, and what a user's scale does to it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from rsverify.conformance.bench import TALL, Bench, Built, close, ratio, transplant
from rsverify.conformance.diagnose import RULES, explain, name_factor
from rsverify.conformance.fullmatrix import full_bench
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import Skip, Wrong, check
from rsverify.definitions.adapter import Adapter

CLOSE = 1e-5
"""Relative error of a factor read off a product of float32 numbers: some hundred roundings of 6e-8."""


def judge_scales(what: str, found: dict[tuple[int, float], float], expected: dict[tuple[int, float], float], rule: str) -> None:
    """Raise where a scale is not the rule's at some (rank, alpha), saying which rule or factor it is instead."""
    wrong = [key for key, value in found.items() if not math.isclose(value, expected[key], rel_tol=CLOSE, abs_tol=1e-9)]
    if not wrong:
        return
    (rank, alpha) = wrong[0]
    off = {key: found[key] / expected[key] for key in wrong}
    other = name_factor(found, tolerance=CLOSE, suspects=RULES) if len(found) > 1 else None
    why = f"it is {other.text} throughout: {other.cause}" if other else f"found/expected is {explain(off, tolerance=CLOSE)}"
    raise Wrong(f"{what} is {found[rank, alpha]:.6g} at r={rank}, alpha={alpha:g}; {rule} says {expected[rank, alpha]:.6g}; {why}")


def _points(bench: Bench) -> list[tuple[int, float]]:
    return [(rank, alpha) for rank in bench.ranks for alpha in (bench.alpha, bench.other_alpha)]


@check("scale")
def check_scale_reported(bench: Bench) -> str | None:
    """The scale that the implementation reports is the rule's, at two ranks and two alphas."""
    assert bench.subject.scale is not None
    found = {(r, a): float(bench.subject.scale(bench.build(TALL, r, alpha=a).module)) for r, a in _points(bench)}
    judge_scales("the reported scale", found, {(r, a): bench.gamma(r, a) for r, a in found}, str(bench.subject.scaling))
    return None


@check()
def check_scale_measured(bench: Bench) -> str | None:
    """The scale that the forward pass applies to the product of the factors is the rule's, at two ranks and two alphas."""
    held = algebra(bench)
    found, expected = {}, {}
    for rank, alpha in _points(bench):
        built = bench.trained(TALL, rank, alpha=alpha)
        bench.require_linear(built)
        gamma = bench.gamma(rank, alpha)
        expected[rank, alpha] = gamma
        if isinstance(held.adapter, Adapter):
            c, rest = ratio(built.added().double(), held.unit_weight(built))
            if rest > CLOSE * 10:
                raise Skip("the added weight is not the product of the factors: see check_delta_reference")
            found[rank, alpha] = c
        else:
            added = built.added().double()
            candidates = {gamma: "", **{suspect.factor(rank, alpha): suspect.text for suspect in RULES}}
            best = min(candidates, key=lambda g: float((held.added(built, g) - added).norm()))
            if not close(held.added(built, best), added, built):
                raise Skip("the added weight follows the declaration under no known scale: see check_delta_reference")
            found[rank, alpha] = gamma if close(held.added(built, gamma), added, built) else best
    judge_scales("the scale of the forward pass", found, expected, str(bench.subject.scaling))
    return None


@check()
def check_scale_alpha(bench: Bench) -> str | None:
    """The same factors under another alpha add what the rule says, relative to the first: also where rank exceeds the widths."""
    for rank in (bench.rank, 24):
        try:
            one, two = bench.trained(TALL, rank), bench.build(TALL, rank, alpha=bench.other_alpha)
            one(bench.x(TALL))
        except Exception as error:
            if rank == bench.rank:
                raise
            return f"rank {rank} cannot be built or called on a {TALL.text} layer ({type(error).__name__}): not checked there"
        transplant(one, two)
        c, rest = ratio(two.product(), one.product())
        if rest > CLOSE * 10:
            raise Skip("the added weight under another alpha is not a multiple of the first: it is not linear in its scale")
        expected = bench.gamma(rank, bench.other_alpha) / bench.gamma(rank)
        if rank > TALL.d_in and bench.subject.declared is None and math.isclose(c, 1.0, rel_tol=CLOSE) and full_bench(bench) is not None:
            return f"at rank {rank} a full matrix stands in, and alpha no longer counts: see check_full_scale"
        if not math.isclose(c, expected, rel_tol=CLOSE):
            why = "alpha is ignored" if math.isclose(c, 1.0, rel_tol=CLOSE) else f"found/expected is {c / expected:.4g}"
            where = " (above both widths, where a full matrix may stand in)" if rank > TALL.d_in else ""
            raise Wrong(
                f"at rank {rank}{where}, alpha {bench.other_alpha:g} instead of {bench.alpha:g} multiplies the added weight by {c:.4g};"
                f" {bench.subject.scaling} says {expected:.4g}: {why}"
            )
    return None


@check()
def check_scale_rank(bench: Bench) -> str | None:
    """The same factors with zeros up to a larger rank add what the rule says, relative to the smaller: its power of the rank, exactly."""
    if len(bench.ranks) < 2:
        raise Skip(f"it can be built at rank {bench.rank} only")
    small, large = sorted(bench.ranks)
    one, two = bench.trained(TALL, small), bench.build(TALL, large)
    ours, theirs = two.own(), one.own()
    if set(ours) != set(theirs):
        raise Skip("two ranks hold tensors of other names")
    with torch.no_grad():
        for name, value in ours.items():
            source = theirs[name]
            if value.ndim != source.ndim or any(n < m for n, m in zip(value.shape, source.shape, strict=True)):
                raise Skip(f"{name} does not grow with the rank: {tuple(source.shape)} and {tuple(value.shape)}")
            value.zero_()
            value[tuple(slice(0, n) for n in source.shape)] = source
        if one.residual:
            two.base.weight.copy_(one.base.weight)
    c, rest = ratio(two.product(), one.product())
    if not (rest < CLOSE * 10):
        raise Skip(f"zeros beside the factors of rank {small} do not make the same adapter of rank {large}")
    expected = bench.gamma(large) / bench.gamma(small)
    if not math.isclose(c, expected, rel_tol=CLOSE):
        power = math.log(c) / math.log(large / small) if c > 0 else math.nan
        said = math.log(expected) / math.log(large / small)
        raise Wrong(
            f"from rank {small} to {large} the scale changes by {c:.4g}, a power of r of {power:+.3f};"
            f" {bench.subject.scaling} says {expected:.4g}, a power of {said:+.3f}"
        )
    return None


@check()
def check_scale_modules(bench: Bench) -> str | None:
    """Layers of other ranks and alphas beside it leave a layer's scale alone, as rank and alpha patterns need."""
    one = bench.trained()
    x = bench.x(TALL)
    before = one(x)
    for rank, alpha in _points(bench)[1:]:
        bench.trained(TALL, rank, alpha=alpha)(x)
    after = one(x)
    if not close(after, before, one):
        c, rest = ratio(after - one.base_output(x), before - one.base_output(x))
        how = f"multiplied by {c:.4g}" if rest < 1e-3 else "changed"
        raise Wrong(f"building layers of other ranks and alphas {how} what this one adds: rank, alpha or scale are shared by all layers")
    return None


@check("add_adapter", "set_adapter", "scale")
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


@check("set_scale")
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


@check("set_scale")
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


@check("redistribute")
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
