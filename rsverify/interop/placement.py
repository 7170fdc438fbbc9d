"""What a LoRA config adapts in a model, as PEFT itself places it: names, kinds, ranks, scales, and what is trained beside.

PEFT puts its adapters on a twin of the model that has shapes only, so that every way of naming targets means what it means there.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rsverify.errors import InputError
from rsverify.interop.lora_config import LoraSettings

LINEAR, EMBEDDING, CONVOLUTION, PARAMETER = "linear", "embedding", "convolution", "parameter"


@dataclass(frozen=True)
class Adapted:
    """One adapted weight: its module's name, its kind (of a parameter also which), and the adapter's rank, alpha and scale."""

    name: str
    kind: str
    rank: int
    alpha: float
    scale: float
    parameter: str = ""


@dataclass(frozen=True)
class Placement:
    """All that PEFT would train: the adapted weights, the parameters of their adapters, and tensors trained beside by name and size."""

    adapted: tuple[Adapted, ...]
    parameters: int
    beside: tuple[tuple[str, int], ...] = ()

    @property
    def summary(self) -> str:
        """How many weights are adapted, and of which names."""
        kinds = Counter(it.name.rpartition(".")[2] + (f".{it.parameter}" if it.parameter else "") for it in self.adapted)
        return f"{len(self.adapted)} adapted: " + ", ".join(f"{count} {ending}" for ending, count in kinds.items())


def place(model: nn.Module, settings: LoraSettings) -> Placement:
    """What the settings adapt in a transformers model, which stays as it is.

    Raises: InputError where PEFT refuses the settings for this model, or they match nothing.
    """
    from rsverify.interop.peft.library import library

    peft = library()
    twin = shapes_of(model)
    targets = settings.target_modules
    keys = dict(settings.placing) | {"target_modules": list(targets) if isinstance(targets, tuple) else targets}
    alpha = int(settings.alpha) if float(settings.alpha).is_integer() else settings.alpha
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Where an adapter lies does not depend on its init; some inits need the weights, which are not there.
            config = peft.LoraConfig(**keys, r=settings.r, lora_alpha=alpha, use_rslora="sqrt" in settings.rule, init_lora_weights=False)
            adapted = peft.get_peft_model(twin, config)
    except Exception as error:  # a pattern that is none, layers that are not there: PEFT refuses in many ways
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"PEFT does not place these settings on {type(model).__name__}: {reason}; {_what_exists(model)}") from None
    found = tuple(_adapted(name, module) for name, module in adapted.base_model.model.named_modules() if _is_adapter(module))
    if not found:
        raise InputError(f"target_modules={settings.target_modules!r} matches nothing of {type(model).__name__}; {_what_exists(model)}")
    trained = [(name, parameter) for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    factors = sum(parameter.numel() for name, parameter in trained if "lora_" in name)
    beside = tuple((name.removeprefix("base_model.model."), parameter.numel()) for name, parameter in trained if "lora_" not in name)
    return Placement(found, factors, beside)


def shapes_of(model: nn.Module) -> nn.Module:
    """A model of the same class and config on the meta device: its shapes, without its weights."""
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))  # type: ignore[call-arg]


def linears_alone(placement: Placement) -> tuple[str, ...]:
    """The names of the adapted linears, where nothing else is adapted and all share rank and alpha.

    Raises: InputError for what the witness cannot put an adapter on, by name.
    """
    other = next((it for it in placement.adapted if it.kind != LINEAR), None)
    if other is not None:
        count = sum(it.kind != LINEAR for it in placement.adapted)
        what = f"{other.name}.{other.parameter}" if other.parameter else other.name
        raise InputError(
            f"PEFT adapts {count} weights here that are no linear, e.g. the {other.kind} {what!r}; verify measures linears: name"
            " target_modules that are linears"
        )
    first = placement.adapted[0]
    differs = next((it for it in placement.adapted if (it.rank, it.alpha) != (first.rank, first.alpha)), None)
    if differs is not None:
        raise InputError(
            f"rank_pattern or alpha_pattern gives {differs.name!r} rank {differs.rank} and alpha {differs.alpha:g}, {first.name!r} rank"
            f" {first.rank} and alpha {first.alpha:g}; verify asks one rank of all linears: judge each group with a config of its own"
        )
    return tuple(it.name for it in placement.adapted)


def _is_adapter(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") and isinstance(getattr(module, "scaling", None), dict)


def _adapted(name: str, module: Any) -> Adapted:
    key = next(iter(module.r))
    base = module.get_base_layer()
    parameter = getattr(module, "parameter_name", None) or ""
    if parameter:
        kind, name = PARAMETER, name.replace(".base_layer", "")
    elif isinstance(base, nn.Embedding):
        kind = EMBEDDING
    elif isinstance(base, nn.Linear) or type(base).__name__ == "Conv1D":
        kind = LINEAR
    else:
        kind = CONVOLUTION if "Conv" in type(base).__name__ else type(base).__name__
    return Adapted(name, kind, int(module.r[key]), float(module.lora_alpha[key]), float(module.scaling[key]), parameter)


def _what_exists(model: nn.Module) -> str:
    endings = dict.fromkeys(
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    )
    return f"this model's linears end in: {', '.join(endings) or 'none'}"
