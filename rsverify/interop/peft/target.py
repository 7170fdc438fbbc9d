"""Reads what a user names: `peft:METHOD?key=value&...`, or an adapter_config.json, checked against PEFT's own config classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rsverify.errors import InputError, suggest
from rsverify.files.reading import read_object
from rsverify.interop.peft.library import config_classes, config_fields
from rsverify.interop.peft.methods import METHODS, WITHOUT_RANK, Method

PREFIX = "peft:"

OPERATIONS: dict[str, tuple[Any, ...]] = {
    "on": ("linear", "parameter"),
    "combination_type": ("cat", "linear", "svd"),
    "low_cpu_mem_usage": (False, True),
    "hotswap": (False, True),
}
"""Keys that are no settings of the config but choices among PEFT's operations, and their values, the usual one first: `on` a layer or
its parameter (target_parameters), how adapters are combined, how an adapter is loaded."""

OURS = ("target_modules", "target_parameters", "peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision")
"""Settings that say where the adapter goes and not what it is: we put it on layers of our own."""


class NotApplicable(InputError):
    """A PEFT method that takes no rank: there is nothing to say of how it behaves as its rank grows."""


@dataclass(frozen=True)
class Recipe:
    """A PEFT method with settings, and a choice among its operations."""

    method: Method
    options: Mapping[str, Any] = field(default_factory=dict)
    operations: Mapping[str, Any] = field(default_factory=dict)

    def operation(self, name: str) -> Any:
        """The choice made, or the usual one."""
        return self.operations.get(name, OPERATIONS[name][0])

    @property
    def text(self) -> str:
        """The recipe as a target, without its rank and alpha and what PEFT does anyway: under this name its failures are known."""
        usual = config_fields(self.method.name)
        said = {k: v for k, v in self.options.items() if k not in (self.method.rank, self.method.alpha) and v != usual[k]}
        said |= {key: value for key, value in self.operations.items() if value != OPERATIONS[key][0]}
        parts = [f"{k}={v if isinstance(v, str) else json.dumps(v, separators=(',', ':'), default=str)}" for k, v in said.items()]
        return f"{PREFIX}{self.method.name}" + (f"?{'&'.join(parts)}" if parts else "")

    @property
    def residual(self) -> bool:
        """Whether it is a LoRA that takes its first product off the base weight, which save_pretrained can convert to a plain one."""
        init = self.options.get("init_lora_weights")
        return self.method.name == "lora" and isinstance(init, str) and init.startswith(("pissa", "olora"))


def parse_peft_target(text: str) -> Recipe:
    """A recipe from `peft:METHOD` or `peft:METHOD?key=value&...`.

    Values are JSON where they can be read as such (`true`, `8`, `{"layer": 4}`), else text. Besides the settings of PEFT's config
    a key may be one of `OPERATIONS`.

    Raises: InputError for another form, an unknown method or key (with the nearest names); NotApplicable for a method without a rank.
    """
    if not text.startswith(PREFIX):
        raise InputError(f"target={text!r}; expected peft:METHOD?key=value&..., e.g. peft:lora?use_rslora=true&r=8&lora_alpha=20")
    name, _, query = text[len(PREFIX) :].partition("?")
    settings: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise InputError(f"target={text!r}: {part!r}; expected key=value, parts joined by &")
        if key in settings:
            raise InputError(f"target={text!r}: {key} is given twice")
        settings[key] = _value(unquote(value))
    return recipe(name.lower(), settings, where=f"target={text!r}")


def known_as(target: str) -> str:
    """The name under which a target's failures are known: that of its recipe, or itself for a case or operations."""
    if "@" in target:
        return target
    return (parse_peft_target(target) if target.startswith(PREFIX) else recipe_from_file(target)).text


def recipe_from_file(path: Path | str) -> Recipe:
    """A recipe from an adapter_config.json, or a folder that holds one.

    Raises: InputError where it is missing, is no JSON or no PEFT config; NotApplicable for a method without a rank.
    """
    path = Path(path)
    path = path / "adapter_config.json" if path.is_dir() else path
    where = f"config={str(path)!r}"
    data = read_object(path, name="config", expected="an adapter_config.json")
    kind = data.get("peft_type")
    if not isinstance(kind, str):
        raise InputError(f"{where} has no peft_type; expected an adapter_config.json as PEFT's save_pretrained writes it")
    return recipe(kind.lower(), {key: value for key, value in data.items() if key not in OURS}, where=where, file=True)


def recipe(name: str, settings: Mapping[str, Any], *, where: str, file: bool = False) -> Recipe:
    """A recipe from a method's name and settings, refused before anything is built where they do not fit.

    Args:
        file: the settings come from a file, which may hold bookkeeping of another PEFT version: what is None there is left out.
    """
    known = config_classes()
    if name not in known:
        raise InputError(f"{where}: PEFT has no method {name!r}{suggest(name, known)}")
    if name in WITHOUT_RANK:
        raise NotApplicable(f"{where}: not applicable: {name} takes no rank ({WITHOUT_RANK[name]})")
    if name not in METHODS:
        raise InputError(f"{where}: {name} is a method of this PEFT that we know no recipe for; use rv.Subject with a build function")
    method, fields = METHODS[name], config_fields(name)
    options, operations = {}, {}
    for key, value in settings.items():
        if key in OURS or (file and key not in fields and (value is None or key.endswith("_version"))):
            continue
        if key in OPERATIONS and key not in fields:
            if value not in OPERATIONS[key]:
                raise InputError(f"{where}: {key}={value!r}; expected one of {', '.join(map(str, OPERATIONS[key]))}")
            operations[key] = value
        elif key in fields:
            if not file or value is not None:
                options[key] = value
        else:
            raise InputError(f"{where}: {name} has no setting {key!r}{suggest(key, [*fields, *OPERATIONS])}")
    for key in (method.rank, method.alpha):
        value = options.get(key) if key else None
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise InputError(f"{where}: {key}={value!r}; expected a positive number")
    return Recipe(method, options, operations)


def _value(text: str) -> Any:
    if text.lower() in ("true", "false", "none", "null"):
        return {"true": True, "false": False}.get(text.lower())
    try:
        return json.loads(text)
    except ValueError:
        return text
