"""A PEFT config as a subject of the conformance suite: PEFT builds the layer, and its own operations are the capabilities."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from rsverify.conformance.subject import Subject
from rsverify.definitions.rules import ALPHA
from rsverify.errors import InputError, suggest
from rsverify.interop.peft import host
from rsverify.interop.peft.known import not_listed
from rsverify.interop.peft.library import config_fields
from rsverify.interop.peft.methods import METHODS
from rsverify.interop.peft.target import PREFIX, Recipe, parse_peft_target, recipe, recipe_from_file

WARNS_ONLY = ("miss", "hra", "deft")
"""Tuners whose scale cannot be changed, and which say so."""

NOT_ADDED = ("hira", "miss", "oft", "hra", "psoft", "osf")
"""Tuners whose get_delta_weight is not what is added to the weight, by design: a factor or a rotation of it, or a part of it."""


def subject_from_peft(config: Any, model: nn.Module | None = None) -> Subject:
    """A PEFT method as a subject of `check_adapter`: PEFT's module as a black box, PEFT's operations as its capabilities.

    Args:
        config: a PEFT config object, `peft:METHOD?key=value&...`, a path to an adapter_config.json, or a `Recipe`.
        model: where the config is meant for: refused where it does not hold the modules that the config names. The layers that are
            judged are the suite's own.
    Raises: InputError for an unknown method or key, a method without a rank, modules that the model lacks, PEFT not installed.
    """
    if isinstance(config, Recipe):
        found, targets = config, None
    elif isinstance(config, str) and config.startswith(PREFIX):
        found, targets = parse_peft_target(config), None
    elif hasattr(config, "peft_type"):
        found, targets = recipe_from_object(config), getattr(config, "target_modules", None)
    else:
        found, targets = recipe_from_file(config), _targets_in(config)
    if model is not None:
        require_modules(model, targets)
        for key in ("rank_pattern", "alpha_pattern"):
            require_patterns(model, found.options.get(key) or {}, key)
    try:
        return _subject(found)
    except (AttributeError, ImportError) as error:
        if reason := not_listed():
            raise InputError(f"{reason}: {type(error).__name__}: {error}") from error
        raise


def _subject(found: Recipe) -> Subject:
    method = found.method
    if method.cannot:
        raise InputError(f"peft:{method.name} cannot be judged on one linear layer: {method.cannot}")
    alpha = ALPHA if not method.alpha or found.options.get(method.alpha) is None else float(found.options[method.alpha])
    build = partial(host.build, found)
    able: dict[str, Any] = {"add_adapter": partial(host.add_adapter, found), "set_adapter": host.set_adapter}
    layer = _sample(found, alpha)
    if hasattr(layer, "get_delta_weight") and method.name not in NOT_ADDED and not (found.residual or found.options.get("use_dora")):
        able["delta"] = host.delta
    if hasattr(layer, "set_scale") and method.name not in WARNS_ONLY:
        able["set_scale"] = host.set_scale
    if method.alpha and isinstance(getattr(layer, "scaling", None), dict):
        able["scale"] = host.scale
    if method.name == "lora" and found.operation("on") == "linear":
        able["combine"] = partial(host.combine, found)
    if found.residual:
        able["convert"] = host.convert_by_difference
    elif method.name != "lora" and hasattr(layer, "supports_lora_conversion") and layer.supports_lora_conversion("default"):
        able["convert"] = host.convert_to_lora  # releases before 0.19 convert nothing
    return Subject(
        build, rule=method.rule_for(found.options), alpha=alpha, init=method.init_for(found.options), merge=host.merge,
        unmerge=host.unmerge, save=host.save, load=partial(host.load, found), **able,
    )  # fmt: skip


def _sample(found: Recipe, alpha: float) -> Any:
    """PEFT's layer of the recipe, to see which operations it has; None where building it breaks, which the checks will say.

    Raises: InputError where PEFT refuses to build it at any rank, with its own reason.
    """
    refused: Exception | None = None
    for rank in (4, 6, 3):
        try:
            return host.tuner_layer(host.build(found, rank, nn.Linear(12, 12, dtype=torch.float32), alpha))
        except InputError:
            raise
        except (ValueError, ImportError, NotImplementedError) as error:
            refused = error
        except Exception:
            return None
    raise InputError(f"PEFT refuses to build these settings of {found.method.name}: {refused}") from refused


def recipe_from_object(config: Any) -> Recipe:
    """A recipe from a PEFT config object."""
    name = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    fields = config_fields(name)
    method = METHODS.get(name)
    always = () if method is None else (method.rank, method.alpha)  # a config object says both, a target's text may leave them open
    held = {key: getattr(config, key, None) for key in fields}
    settings = {key: value for key, value in held.items() if value is not None and (key in always or value != fields[key])}
    return recipe(name, settings, where=f"config={type(config).__name__}")


def _targets_in(path: Any) -> Any:
    import json
    from pathlib import Path

    path = Path(path)
    return json.loads((path / "adapter_config.json" if path.is_dir() else path).read_text(encoding="utf-8")).get("target_modules")


def require_modules(model: nn.Module, targets: Iterable[str] | str | None) -> None:
    """Refuse targets that name no module of the model, with the nearest names that it has."""
    names = [name for name, _ in model.named_modules() if name]
    if targets is None or targets == "all-linear":
        return
    if isinstance(targets, str):
        try:
            if any(re.fullmatch(targets, name) for name in names):
                return
        except re.error as error:
            raise InputError(f"target_modules={targets!r} is no pattern ({error})") from None
        raise InputError(f"target_modules={targets!r} matches no module of the model; its modules end in: {_endings(names)}")
    for target in targets:
        if not any(name == target or name.endswith("." + target) for name in names):
            known = sorted({name.rpartition(".")[2] for name in names})
            raise InputError(f"target_modules: the model has no module {target!r}{suggest(target, known)}")


def require_patterns(model: nn.Module, pattern: dict[str, Any], key: str) -> None:
    """Refuse a rank or alpha pattern that matches no module: it would be ignored."""
    names = [name for name, _ in model.named_modules() if name]
    for part in pattern:
        if not any(re.match(rf"(.*\.)?({part})$", name) for name in names):
            raise InputError(f"{key}: {part!r} matches no module of the model; its modules end in: {_endings(names)}")


def _endings(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names)) or "nothing"
