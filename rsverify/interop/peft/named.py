"""A PEFT method as a target of every verb: the declaration that theory speaks of, and PEFT's own layer for the numeric witnesses."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rsverify.definitions.laws import Constant
from rsverify.definitions.registry import Declared, as_declared
from rsverify.definitions.targets import Target
from rsverify.errors import InputError
from rsverify.interop.peft.library import config_fields
from rsverify.interop.peft.target import Recipe, parse_peft_target, recipe_from_file

UNDECLARED = ("identity", "random", "residual")
"""Claims at init that name no declaration."""


def target_from_text(text: str) -> Target:
    """The target that `peft:METHOD?key=value&...` names.

    Raises: InputError for an unknown method or key, PEFT not installed; NotApplicable for a method without a rank.
    """
    return target_from_recipe(parse_peft_target(text), text, source=text)


def target_from_config(config: Any) -> Target:
    """The target that an adapter_config.json, a folder that holds one, or a PEFT config object stands for.

    A plain LoRA file is read without PEFT, whose layer then cannot be built.
    """
    if not isinstance(config, str | Path):
        from rsverify.interop.peft.subject import recipe_from_object

        return target_from_recipe(recipe_from_object(config), type(config).__name__, source=config)
    from importlib.util import find_spec

    if find_spec("peft") is not None:
        return target_from_recipe(recipe_from_file(config), str(config), source=config)
    from rsverify.interop.lora_config import read_lora_config

    path = Path(config)
    settings = read_lora_config(path / "adapter_config.json" if path.is_dir() else path)
    return Target(str(config), settings.adapter, rule=settings.rule, alpha=settings.alpha, rank=settings.r)


def target_from_recipe(recipe: Recipe, name: str, *, source: Any) -> Target:
    """The target of a recipe.

    Raises: InputError for a method that cannot be judged on one linear layer, with the reason.
    """
    method, options = recipe.method, recipe.options
    if method.cannot:
        raise InputError(f"peft:{method.name} cannot be judged on one linear layer: {method.cannot}")
    declared = declaration(recipe)
    alpha = options.get(method.alpha) if method.alpha else None
    rank = options.get(method.rank)
    return Target(
        name, declared, partial(build_drawn, recipe), rule=_rule(recipe, declared), alpha=None if alpha is None else float(alpha),
        rank=None if rank is None else int(rank), subject=partial(_subject, source),
    )  # fmt: skip


def _subject(source: Any) -> Any:
    from rsverify.interop.peft.subject import subject_from_peft

    return subject_from_peft(source)


def _rule(recipe: Recipe, declared: Declared | None) -> str:
    """The rule that PEFT applies, in the declaration's terms: what a declaration calls alpha may be a setting without a rank here."""
    if recipe.method.name == "delora" and declared is not None:  # the declared strength starts at 1, PEFT's at lambda
        return f"{recipe.options.get('delora_lambda', config_fields('delora')['delora_lambda']):g}/r"
    return recipe.method.rule_for(recipe.options)


def declaration(recipe: Recipe) -> Declared | None:
    """The declared adapter that PEFT's layer follows under these settings; None where it is none of ours."""
    method = recipe.method
    claim = method.init_for(recipe.options)
    if claim not in UNDECLARED:
        return as_declared(claim)
    other = set(_changed(recipe))
    if not method.follows or other - {"d_initial", "delora_lambda"}:
        return None
    declared = as_declared(method.follows)
    if "d_initial" in other:
        return declared.with_init(d=Constant(str(recipe.options["d_initial"])))
    return declared


def _changed(recipe: Recipe) -> list[str]:
    """Settings that are not as PEFT has them, but for rank, alpha, seeds and dropout."""
    method, usual = recipe.method, config_fields(recipe.method.name)
    bookkeeping = {method.rank, method.alpha, method.seeded, *method.needed}
    return [
        key for key, value in recipe.options.items() if value != usual[key] and key not in bookkeeping and not key.endswith("dropout")
    ]  # fmt: skip


def build_drawn(recipe: Recipe, rank: int, base: Any, alpha: float) -> Any:
    """PEFT's layer for one draw: what PEFT draws once, from a seed of its own, is drawn from torch's generator; no dropout.

    Otherwise one set of frozen matrices would be judged, and the noise of dropout with it.
    """
    import torch

    from rsverify.interop.peft import host

    options = {key: 0.0 if key.endswith("dropout") else value for key, value in recipe.options.items()}
    if recipe.method.seeded:
        options[recipe.method.seeded] = int(torch.randint(2**31, ()))
    recipe = replace(recipe, options=options)
    if recipe.residual:
        base = base.float()  # PEFT takes no singular vectors of a float64 weight
    return host.build(recipe, rank, base, alpha)
