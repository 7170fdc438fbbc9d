"""One cell of the atlas: what one witness says of one claim. Functions of plain data, run anywhere by `rsverify.sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.rules import as_rule
from rsverify.errors import NotDerivable, RsverifyError
from rsverify.records import Estimate, to_json
from rsverify.statistics.intervals import level_for
from rsverify.studies.atlas.variants import Variant, as_variant

LEARNING_RATE = 1e-3
MODULE_SILENCE = "no declaration to draw from: it would take a torch module for every draw, thousands of them; `rsverify check` judges it"
FRESH_PRECISION = 0.09
"""Half-width of an exponent from fresh data: below the margin, and half of it is left to extrapolation."""


def derive_cell(configuration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What theory says: the prediction under a rule and the stable rule, or why it is silent."""
    from rsverify.symbolic import derive, solve

    variant, asked = as_variant(configuration["variant"]), dict(configuration["asked"])
    if variant.theory is None:
        return {"silent": variant.silent}
    try:
        found = derive(variant.theory, configuration["rule"], **asked)
        solved = solve(variant.theory, **asked)
    except NotDerivable as error:
        return {"silent": error.reason}
    except RsverifyError as error:
        return {"silent": str(error)}
    return {"prediction": to_json(found), "solved": {**to_json(solved), "explanation": []}}


def simulate_cell(configuration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What simulation shows, or why it is silent."""
    variant = as_variant(configuration["variant"])
    if not isinstance(variant.declared, Adapter):
        return {"silent": MODULE_SILENCE}
    try:
        found = (_fresh if variant.fresh_data else _drawn)(variant, configuration, seed)
    except RsverifyError as error:
        return {"silent": str(error)}
    return {"estimate": to_json(found)}


def _drawn(variant: Variant, configuration: Mapping[str, Any], seed: int) -> Estimate:
    from rsverify.montecarlo import estimate
    from rsverify.symbolic import derive

    assert isinstance(variant.declared, Adapter)
    curve = None
    with suppress(RsverifyError):
        curve = derive(variant.declared, configuration["rule"], **configuration["asked"])
    # An exact law at finite rank is taken out, and the draws testify to it: nothing is extrapolated, and nothing taken on trust.
    usable = curve is not None and curve.exact and curve.formula is not None and curve.exponent is not None
    return estimate(
        variant.declared, configuration["rule"], **configuration["asked"], ranks=configuration["ranks"], d_in=configuration["d_in"],
        d_out=configuration["d_out"], alpha=configuration["alpha"], lr=LEARNING_RATE, seed=seed, margin=configuration["margin"],
        error_budget=configuration["error_budget"], statements=configuration["statements"], curve=curve if usable else None,
    )  # fmt: skip


def _fresh(variant: Variant, configuration: Mapping[str, Any], seed: int) -> Estimate:
    from rsverify.definitions.claims import setting
    from rsverify.montecarlo.budget import Budget
    from rsverify.montecarlo.engines import sampler_for
    from rsverify.montecarlo.procedure import Question, answer
    from rsverify.montecarlo.samplers import Task
    from rsverify.montecarlo.sampling import make_problem
    from rsverify.studies.atlas.fresh import FreshData

    rule, sizes = configuration["rule"], {"d_in": configuration["d_in"], "d_out": configuration["d_out"]}
    assert isinstance(variant.declared, Adapter)
    asked = setting(variant.declared, rule, **configuration["asked"])
    problem = make_problem(seed, **sizes, cosine=asked.claim.cosine)
    task = Task(asked, problem, configuration["alpha"], LEARNING_RATE, seed, Budget(draws=40_000))
    question = Question(
        ranks=tuple(configuration["ranks"]), level=level_for(configuration["error_budget"], configuration["statements"]),
        margin=configuration["margin"], precision=FRESH_PRECISION, curve=None,
        data={**sizes, "alpha": configuration["alpha"], "lr": LEARNING_RATE}, samples=1,
        width=max(sizes.values()) if asked.claim.regime == "rank" else 1, sequential=False,
    )  # fmt: skip
    as_rule(rule).at(question.ranks, task.alpha)
    return answer(question, FreshData(task, sampler_for))
