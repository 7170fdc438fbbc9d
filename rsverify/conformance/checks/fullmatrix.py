"""Where a full matrix stands in for a product: rank and alpha have another meaning there, or none, and libraries disagree about it."""

from __future__ import annotations

import math

from rsverify.conformance.bench import TALL, Bench, close, ratio, transplant
from rsverify.conformance.checks.saving import compare_loaded, load_saved
from rsverify.conformance.checks.scale import CLOSE, judge_scales
from rsverify.conformance.diagnose import explain
from rsverify.conformance.fullmatrix import RANKS, require_full
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.reference import full_algebra
from rsverify.conformance.registry import check


@check("scaling")
def check_full_scale(bench: Bench) -> str | None:
    """Where a full matrix stands in, its scale is the declared one, or else goes by the rule or by neither rank nor alpha."""
    held = require_full(bench)
    full = held.full_at(RANKS[0])
    points = [(RANKS[0], held.alpha), (RANKS[1], held.alpha), (RANKS[0], held.other_alpha)]
    found, told = {}, {}
    first = held.trained(TALL, RANKS[0])
    unit = first.product() if full is None else full_algebra(held, full, RANKS[0]).unit_weight(first)
    for rank, alpha in points:
        built = held.build(TALL, rank, alpha=alpha)
        transplant(first, built)
        c, rest = ratio(built.product().double(), unit.double())
        if rest > CLOSE * 10 and full is not None:
            raise Wrong(f"at rank {rank} the added weight is not {full.adapter.expression}: off by {rest:.2g} of itself")
        if rest > CLOSE * 10:
            raise Skip("the same full matrix under another rank or alpha adds no multiple: it is not linear in its scale")
        found[rank, alpha] = c
        if held.subject.scale is not None:
            told[rank, alpha] = float(held.subject.scale(built.module))
    if full is not None:
        rule = full.rule or str(held.subject.scaling)
        expected = {key: held.gamma(*key) for key in points}
        judge_scales(f"where a full matrix stands in ({full.source}) the scale", found, expected, f"the rule {rule}")
        judge_scales("where a full matrix stands in the reported scale", told, {key: expected[key] for key in told}, f"the rule {rule}")
        return f"scale {rule}: {full.source}"
    by_rule = {key: held.gamma(*key) / held.gamma(*points[0]) for key in points}
    goes_on = f"the scale goes on by {held.subject.scaling}, though a full matrix has no rank"
    for expected, remark in ((by_rule, goes_on), (dict.fromkeys(points, 1.0), "the scale depends on neither rank nor alpha")):
        if all(math.isclose(found[key], expected[key], rel_tol=CLOSE) for key in points):
            wrong = [key for key in told if not math.isclose(told[key], told[points[0]] * expected[key], rel_tol=CLOSE)]
            if wrong:
                raise Wrong(
                    f"where a full matrix stands in, the scale reported at r={wrong[0][0]}, alpha={wrong[0][1]:g} is {told[wrong[0]]:.4g},"
                    f" and the one in force is {told[points[0]] * expected[wrong[0]]:.4g}"
                )
            return remark
    by_rank, by_alpha = found[points[1]], found[points[2]]
    raise Wrong(
        f"the same full matrix adds {by_rank:.4g} times as much at rank {RANKS[1]} as at {RANKS[0]}, and {by_alpha:.4g} times as much at"
        f" alpha {held.other_alpha:g} as at {held.alpha:g}; {held.subject.scaling} says {by_rule[points[1]]:.4g} and"
        f" {by_rule[points[2]]:.4g}, a scale that is free of both 1 and 1"
    )


@check("merging", "merge")
def check_full_merge(bench: Bench) -> str | None:
    """Where a full matrix stands in, the merged layer computes what the unmerged one did."""
    held = require_full(bench)
    assert held.subject.merge is not None
    for rank, alpha in ((RANKS[0], held.alpha), (RANKS[1], held.other_alpha)):
        built = held.trained(TALL, rank, alpha=alpha)
        x = held.x(TALL)
        before = built(x)
        held.subject.merge(built.module)
        after = built(x)
        if not close(after, before, built):
            c, rest = ratio(after - built.base_output(x), before - built.base_output(x))
            how = f"merged/unmerged is {explain({(rank, alpha): c}, tolerance=1e-4)}" if rest < 1e-3 else f"off by {rest:.2g} of itself"
            raise Wrong(f"at rank {rank}, where a full matrix stands in, merging changes what is added: {how}")
    return None


@check("persistence", "save", "load")
def check_full_load(bench: Bench) -> str | None:
    """Where a full matrix stands in, a saved and loaded adapter computes the same function."""
    held = require_full(bench)
    assert held.subject.save is not None
    for rank, alpha in ((RANKS[0], held.alpha), (RANKS[1], held.other_alpha)):
        built = held.trained(TALL, rank, alpha=alpha)
        x = held.x(TALL)
        expected = built(x)
        loaded = load_saved(held, held.subject, held.subject.save(built.module), built)
        compare_loaded(loaded, expected, x, f"where a full matrix stands in, r={rank}, alpha={alpha:g}")
    return None
