"""Whether the configured rule is the one in force: its value at alpha != r, its power of the rank, whatever other layers have."""

from __future__ import annotations

import math

import torch

from rsverify.conformance.bench import TALL, Bench, close, ratio, transplant
from rsverify.conformance.diagnose import RULES, explain, name_factor
from rsverify.conformance.fullmatrix import full_bench
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import check
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


@check("scaling", "scale")
def check_scale_reported(bench: Bench) -> str | None:
    """The scale that the implementation reports is the rule's, at two ranks and two alphas."""
    assert bench.subject.scale is not None
    found = {(r, a): float(bench.subject.scale(bench.build(TALL, r, alpha=a).module)) for r, a in _points(bench)}
    judge_scales("the reported scale", found, {(r, a): bench.gamma(r, a) for r, a in found}, str(bench.subject.scaling))
    return None


@check("scaling")
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


@check("scaling")
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


@check("scaling")
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


@check("scaling")
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
