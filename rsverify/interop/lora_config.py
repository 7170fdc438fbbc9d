"""Reads an adapter_config.json of the PEFT format, without PEFT."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian
from rsverify.definitions.registry import as_adapter
from rsverify.errors import InputError


@dataclass(frozen=True)
class LoraSettings:
    """What an adapter_config.json says of LoRA: rank, alpha, rule, init and the modules it goes on."""

    r: int
    alpha: float
    rule: str
    adapter: Adapter
    target_modules: tuple[str, ...] | str


def read_lora_config(path: Path) -> LoraSettings:
    """The LoRA settings of a file.

    Raises: InputError where the file is missing, is not JSON, is not LoRA, or asks for what is not modelled here, by name.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config={str(path)!r} cannot be read ({error.strerror}); expected an adapter_config.json") from None
    except ValueError as error:
        raise InputError(f"config={str(path)!r} is not JSON ({error})") from None
    if not isinstance(data, dict) or str(data.get("peft_type", "")).upper() != "LORA":
        kind = data.get("peft_type") if isinstance(data, dict) else type(data).__name__
        raise InputError(f"config={str(path)!r}: peft_type={kind!r}; expected LORA")
    for key in ("use_dora", "use_qalora", "rank_pattern", "alpha_pattern", "layer_replication"):
        if data.get(key):
            raise InputError(f"config={str(path)!r}: {key}={data[key]!r} is not modelled by verify; remove it to judge the plain LoRA part")
    targets = data.get("target_modules")
    if isinstance(targets, list) and all(isinstance(name, str) for name in targets) and targets:
        target_modules: tuple[str, ...] | str = tuple(sorted(targets))
    elif isinstance(targets, str) and targets:
        target_modules = targets
    else:
        raise InputError(f"config={str(path)!r}: target_modules={targets!r}; expected a list of names, a pattern, or 'all-linear'")
    rule = "alpha/sqrt(r)" if data.get("use_rslora") else "alpha/r"
    return LoraSettings(int(_positive(path, data, "r")), _positive(path, data, "lora_alpha"), rule, _init(path, data), target_modules)


def _positive(path: Path, data: dict[str, Any], key: str) -> float:
    value = data.get(key, 8)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise InputError(f"config={str(path)!r}: {key}={value!r}; expected a positive number")
    return float(value)


def _init(path: Path, data: dict[str, Any]) -> Adapter:
    init = data.get("init_lora_weights", True)
    lora = as_adapter("lora")
    if init is True:
        return lora
    if init == "gaussian":
        return lora.with_init(A=Gaussian(std="1/r"))  # PEFT draws with std 1/r
    raise InputError(f"config={str(path)!r}: init_lora_weights={init!r}; verify models true (Kaiming uniform) and 'gaussian'")
