"""One cell of the atlas: what one witness says of one claim. Functions of plain data, run anywhere by `rsverify.sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Zero
from rsverify.definitions.rules import as_rule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import NotDerivable, RsverifyError
from rsverify.records import Estimate, to_json
from rsverify.statistics.intervals import level_for
from rsverify.studies.atlas.variants import Variant, as_variant

LEARNING_RATE = 1e-3
PRECISION = 0.09
"""Half-width of an exponent that is read from modules or fresh data: below the margin, and half of it is left to extrapolation."""
BETWEEN = 0.03
"""The same where theory is silent, so that two numeric witnesses are compared with each other: their widths add up."""
FRESH_DRAWS = 100_000
WORK = 2.4e9
"""Entries of factors in all draws of a cell at most: some twenty seconds."""
MODULE_DRAWS = 7000
"""Torch modules built for a cell at most: some forty seconds. What takes more says so, with its price."""


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
    """What simulation of the declaration shows, or why it is silent."""
    variant = as_variant(configuration["variant"])
    try:
        found = (_module if not isinstance(variant.declared, Adapter) else _fresh if variant.fresh_data else _drawn)(
            variant, configuration, seed
        )
    except RsverifyError as error:
        return {"silent": str(error)}
    return {"estimate": to_json(found)}


def library_cell(configuration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What PEFT's own layer does, as a black box, or why it is silent."""
    from rsverify.studies.atlas.libraries import builder

    try:
        build = builder(configuration["variant"], configuration["target"], rule=configuration["rule"])
        found = _modules(build, as_variant(configuration["variant"]), configuration, seed, **configuration["box"])
    except RsverifyError as error:
        return {"silent": str(error)}
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:  # another release of PEFT may refuse what this one builds
        return {"silent": f"PEFT's own layer raises {type(error).__name__}: {error}"}
    return {"estimate": to_json(found)}


def _common(configuration: Mapping[str, Any], sizes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return {
        **configuration["asked"], "ranks": sizes["ranks"], "d_in": sizes["d_in"], "d_out": sizes["d_out"], "lr": LEARNING_RATE,
        "seed": seed, "alpha": sizes["alpha"] or configuration["alpha"], "margin": configuration["margin"],
        "error_budget": configuration["error_budget"], "statements": configuration["statements"],
    }  # fmt: skip


def _drawn(variant: Variant, configuration: Mapping[str, Any], seed: int) -> Estimate:
    from rsverify.montecarlo import Budget, estimate
    from rsverify.symbolic import derive

    assert isinstance(variant.declared, Adapter)
    curve = None
    with suppress(RsverifyError):
        curve = derive(variant.declared, configuration["rule"], **configuration["asked"])
    near = _common(configuration, configuration["sizes"], seed)
    # An exact law at finite rank is taken out, and the draws testify to it: nothing is extrapolated, and nothing taken on trust.
    if curve is not None and curve.exact and curve.formula is not None and curve.exponent is not None:
        return estimate(variant.declared, configuration["rule"], **near, curve=curve)
    far = configuration["sizes"]["far"]
    there = near if far is None else _common(configuration, far, seed)
    return estimate(variant.declared, configuration["rule"], **there, budget=Budget(entries=WORK))


def _module(variant: Variant, configuration: Mapping[str, Any], seed: int) -> Estimate:
    """Our own module of a declaration that is not multilinear."""
    from rsverify.conformance.declared import Implementation

    declared = variant.declared
    if variant.fresh_data and isinstance(declared, WrappedAdapter):
        declared = replace(declared, core=Adapter("nothing", "o i -> o i", rank_axes=(), W=Zero()))  # nothing of it is drawn
    made = Implementation(declared, as_rule(configuration["rule"])).build
    return _modules(made, variant, configuration, seed, fresh=variant.fresh_data)


def _modules(
    build: Any, variant: Variant, configuration: Mapping[str, Any], seed: int, *, fresh: bool, precision: float | None = None
) -> Estimate:
    """A torch module a draw; on data and a base weight of its own where nothing else of it is drawn."""
    from rsverify.montecarlo import Budget, estimate

    return estimate(
        build, configuration["rule"], **_common(configuration, configuration["sizes"], seed), fresh=fresh,
        budget=Budget(draws=MODULE_DRAWS, entries=None), precision=precision or (BETWEEN if variant.theory is None else PRECISION),
    )  # fmt: skip


def _fresh(variant: Variant, configuration: Mapping[str, Any], seed: int) -> Estimate:
    from rsverify.definitions.claims import setting
    from rsverify.montecarlo.budget import Budget
    from rsverify.montecarlo.engines import sampler_for
    from rsverify.montecarlo.freshdata import FreshData
    from rsverify.montecarlo.problem import make_problem
    from rsverify.montecarlo.procedure import Question, answer
    from rsverify.montecarlo.samplers import Task

    rule, sizes = configuration["rule"], {key: configuration["sizes"][key] for key in ("d_in", "d_out")}
    assert isinstance(variant.declared, Adapter)
    asked = setting(variant.declared, rule, **configuration["asked"])
    problem = make_problem(seed, **sizes, cosine=asked.claim.cosine)
    task = Task(asked, problem, configuration["alpha"], LEARNING_RATE, seed, Budget(draws=FRESH_DRAWS))
    question = Question(
        ranks=tuple(configuration["sizes"]["ranks"]), level=level_for(configuration["error_budget"], configuration["statements"]),
        margin=configuration["margin"], precision=PRECISION, curve=None,
        data={**sizes, "alpha": configuration["alpha"], "lr": LEARNING_RATE}, samples=1,
        width=max(sizes.values()) if asked.claim.regime == "rank" else 1, sequential=False,
    )  # fmt: skip
    as_rule(rule).at(question.ranks, task.alpha)
    return answer(question, FreshData(task, sampler_for))
