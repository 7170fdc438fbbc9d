"""Reads the LoRA settings of an adapter_config.json: every key is honoured, told or refused; none is passed over.

The list of keys and their types is that of the installed PEFT's own config class, so that a key of another version is not known here.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian
from rsverify.definitions.registry import as_adapter
from rsverify.errors import InputError, brief, suggest
from rsverify.files.reading import read_object

BOOKKEEPING = (
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "runtime_config",
    "megatron_core",
)  # fmt: skip
"""Keys that say where a file comes from or how it is loaded; no number depends on them."""

PLACING = (
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "target_parameters",
    "fan_in_fan_out",
)  # fmt: skip
"""Keys that say which weights get an adapter, and of which rank and alpha: PEFT itself reads them (`placement`)."""

BESIDE = ("modules_to_save", "bias", "trainable_token_indices", "ensure_weight_tying")
"""Keys that train something beside the adapters: told, with its parameters; no claim is about it."""

SCALING = ("r", "lora_alpha", "use_rslora", "init_lora_weights", "lora_dropout")
"""Keys that say what an adapter is."""

INERT = ("qalora_group_size",)
"""Keys that act only together with another, which is refused."""


@dataclass(frozen=True)
class LoraSettings:
    """What an adapter_config.json says of LoRA: rank, alpha, rule and init, and the keys with which PEFT places it.

    `notes` are sentences on what the file asks for and the witness leaves out, for the verdict to repeat.
    """

    r: int
    alpha: float
    rule: str
    adapter: Adapter
    target_modules: tuple[str, ...] | str
    placing: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def read_lora_config(path: Path) -> LoraSettings:
    """The LoRA settings of a file.

    Raises: InputError where the file is missing, is not JSON, is not LoRA, holds a key that the installed PEFT does not have or a value
    of another type than PEFT declares, or asks for what is not modelled here; each by name, with what was expected.
    """
    data = _read(Path(path))
    where = f"config={str(path)!r}"
    usual, declared = _lora_keys()
    for key, value in data.items():
        if key not in usual:
            raise InputError(
                f"{where}: {key}={brief(value)} is not known here: the LoRA settings of PEFT {_version()} have no such key"
                f"{suggest(key, usual)}; install the PEFT that wrote the file, or take the key out if it changes nothing"
            )
        _refuse_type(where, key, value, declared[key])
    chosen = {key: value for key, value in data.items() if value != usual[key] and value is not None}
    for key in chosen:
        if key not in (*BOOKKEEPING, *PLACING, *BESIDE, *SCALING, *INERT):
            raise InputError(f"{where}: {key}={brief(chosen[key])} is not modelled by verify; take it out to judge the plain LoRA part")
    targets = data.get("target_modules")
    if isinstance(targets, list) and targets:
        target_modules: tuple[str, ...] | str = tuple(sorted(targets))
    elif isinstance(targets, str) and targets:
        target_modules = targets
    elif chosen.get("target_parameters"):
        target_modules = ()
    else:
        raise InputError(f"{where}: target_modules={targets!r}; expected a list of names, a pattern, or 'all-linear'")
    rule = "alpha/sqrt(r)" if data.get("use_rslora") else "alpha/r"
    placing = {key: chosen[key] for key in (*PLACING, *BESIDE) if key in chosen}
    r, alpha = int(_positive(where, data, "r")), _positive(where, data, "lora_alpha")
    return LoraSettings(r, alpha, rule, _init(where, data), target_modules, placing, _notes(where, chosen))


def _read(path: Path) -> dict[str, Any]:
    """The file's object, seen to be of LoRA."""
    data = read_object(path, name="config", expected="an adapter_config.json")
    if str(data.get("peft_type", "")).upper() != "LORA":
        raise InputError(f"config={str(path)!r}: peft_type={brief(data.get('peft_type'))}; expected LORA")
    return data


def _lora_keys() -> tuple[dict[str, Any], dict[str, Any]]:
    """Each key of PEFT's LoRA config with its default, and with its declared type."""
    from rsverify.interop.peft.library import config_classes, config_fields

    return config_fields("lora"), typing.get_type_hints(config_classes()["lora"])


def _version() -> str:
    from importlib.metadata import version

    return version("peft")


def _refuse_type(where: str, key: str, value: Any, hint: Any) -> None:
    if key == "lora_alpha" and isinstance(value, float):  # declared whole, and used as a number
        return
    if not _fits(value, hint):
        shown = str(hint).replace("typing.", "").replace("<class '", "").replace("'>", "")
        raise InputError(f"{where}: {key}={brief(value)} is of type {type(value).__name__}; PEFT declares {shown[:120]}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether JSON's value can stand for a declared type; what is a class of PEFT's is written as an object."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts or (isinstance(value, str) and any("[" in str(part) for part in parts))  # "pissa_niter_[number of iters]"
    if hint is None or hint is type(None):
        return value is None
    if origin in (list, tuple):
        inner = parts[:1] if origin is list else ()
        return isinstance(value, list) and all(_fits(item, part) for item in value for part in inner)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is dict or origin is dict:
        return isinstance(value, dict)
    if isinstance(hint, type):
        return isinstance(value, str | dict)
    return True


def _positive(where: str, data: dict[str, Any], key: str) -> float:
    value = data.get(key, 8)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{where}: {key}={brief(value)}; expected a positive number")
    return float(value)


def _init(where: str, data: dict[str, Any]) -> Adapter:
    init = data.get("init_lora_weights", True)
    lora = as_adapter("lora")
    if init is True:
        return lora
    if init == "gaussian":
        return lora.with_init(A=Gaussian(std="1/r"))  # PEFT draws with std 1/r
    raise InputError(f"{where}: init_lora_weights={brief(init)}; verify models true (Kaiming uniform) and 'gaussian'")


def _notes(where: str, chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """What the file asks for that the witness leaves out."""
    notes = []
    if "lora_dropout" in chosen:
        dropout = float(chosen["lora_dropout"])
        if not 0 <= dropout < 1:
            raise InputError(f"{where}: lora_dropout={dropout}; expected a probability from 0 to below 1")
        notes.append(f"lora_dropout={dropout:g} does not act: the model is measured in eval mode")
    return tuple(notes)
