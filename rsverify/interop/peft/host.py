"""PEFT's own operations on one linear layer, each through the interface that its users call, files included."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rsverify.errors import InputError
from rsverify.interop.peft.library import config_classes, library
from rsverify.interop.peft.refusals import refusable
from rsverify.interop.peft.target import Recipe

NAME = "layer"
"""What the adapted layer is called in its one-layer model: a name that holds no tuner's prefix."""

CONFIGS = {"eva_config": "EvaConfig", "corda_config": "CordaConfig", "lora_ga_config": "LoraGAConfig", "loftq_config": "LoftQConfig",
           "runtime_config": "LoraRuntimeConfig", "arrow_config": "ArrowConfig", "kasa_config": "KasaConfig"}  # fmt: skip
"""Settings that are configs of their own; in text and files they are objects."""


class Host(nn.Module):
    """A model of one linear layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.layer = base

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def make_config(recipe: Recipe, rank: int, alpha: float) -> Any:
    """PEFT's config at a rank and an alpha. Where the recipe holds patterns, rank and alpha come from patterns and the rest differs.

    Raises: InputError with PEFT's own reason where it refuses the settings.
    """
    method, options = recipe.method, {**recipe.method.needed, **recipe.options}
    peft: Any = library()
    for key, name in CONFIGS.items():
        if isinstance(options.get(key), dict) and hasattr(peft, name):
            options[key] = getattr(peft, name)(**options[key])
    options[method.rank] = rank
    if method.alpha and options.get(method.alpha, 0) is not None:
        options[method.alpha] = int(alpha) if float(alpha).is_integer() else alpha
    if options.get("rank_pattern") and method.name != "adalora":
        options["rank_pattern"], options[method.rank] = {NAME: rank}, rank + 2
    if options.get("alpha_pattern") and method.alpha:
        options["alpha_pattern"], options[method.alpha] = {NAME: options[method.alpha]}, 3 * options[method.alpha]
    where: dict[str, Any] = {"target_modules": [NAME]}
    if recipe.operation("on") == "parameter":
        where = {"target_modules": [], "target_parameters": [f"{NAME}.weight"]}
    try:
        return config_classes()[method.name](**options, **where)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"PEFT refuses these settings of {method.name}: {error}") from error


def build(recipe: Recipe, rank: int, base: nn.Linear, alpha: float) -> nn.Module:
    """The layer, adapted by get_peft_model."""
    with quiet():
        model = library().get_peft_model(Host(base), make_config(recipe, rank, alpha))
        if recipe.options.get("init_lora_weights") == "eva":
            give_directions(model, rank, base)
        if recipe.residual:
            model.first_saved = first_saved(model)
    return model


def first_saved(model: Any) -> dict[str, Any]:
    """The adapter at init, saved as PEFT's guide to converting PiSSA says: under a plain init."""
    saved = save(model)
    saved["config"]["init_lora_weights"] = True
    return saved


def give_directions(model: Any, rank: int, base: nn.Linear) -> None:
    """EVA's second step: directions of the layer's inputs, here of random ones, for A."""
    directions = nn.init.orthogonal_(torch.empty(rank, base.in_features))
    library().initialize_lora_eva_weights(model, eva_state_dict={f"base_model.model.{NAME}": directions})


def tuner_layer(model: Any) -> Any:
    """PEFT's own layer inside the model."""
    return model.base_model.model.layer


def delta(model: Any) -> Tensor:
    """What PEFT itself says is added."""
    found = tuner_layer(model).get_delta_weight(model.active_adapter)
    return found.to_dense() if found.is_sparse else found


def method_of(model: Any) -> str:
    """The method's name of the active adapter."""
    kind = model.peft_config[model.active_adapter].peft_type
    return str(getattr(kind, "value", kind)).lower()


def merge(model: Any) -> None:
    with refusable(method_of(model), "merge"), quiet():
        model.merge_adapter()


def unmerge(model: Any) -> None:
    with refusable(method_of(model), "unmerge"), quiet():
        model.unmerge_adapter()


def set_scale(model: Any, s: float) -> None:
    tuner_layer(model).set_scale(model.active_adapter, s)


def scale(model: Any) -> float:
    """`.scaling`, which is read to be compared with what is measured, and for nothing else."""
    layer, name = tuner_layer(model), model.active_adapter
    value = float(layer.scaling[name])
    held = getattr(layer, "ranknum", None)  # AdaLoRA's is the raw alpha, which its forward pass divides
    return value if held is None else value / (float(held[name].detach()) + 1e-5)


def add_adapter(recipe: Recipe, model: Any, name: str, rank: int, alpha: float) -> None:
    with refusable(recipe.method.name, "add_adapter"), quiet():
        model.add_adapter(name, make_config(recipe, rank, alpha))


def set_adapter(model: Any, name: str) -> None:
    model.set_adapter(name)


def combine(recipe: Recipe, model: Any, names: list[str], weights: list[float]) -> str:
    name = "combined"
    with refusable(recipe.method.name, "combine"), quiet():
        model.add_weighted_adapter(names, weights, name, combination_type=recipe.operation("combination_type"))
    return name


def save(model: Any) -> dict[str, Any]:
    """What save_pretrained writes for the active adapter: its config and its tensors."""
    name = model.active_adapter
    with quiet(), tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, selected_adapters=[name])
        return read_folder(Path(folder) if name == "default" else Path(folder) / name)


def read_folder(folder: Path) -> dict[str, Any]:
    """An adapter folder as plain data."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    return {"config": config, "tensors": {key: value.clone() for key, value in tensors.items()}}  # not a view of a file that goes


@contextmanager
def folder_of(saved: Mapping[str, Any]) -> Iterator[str]:
    """A folder as save_pretrained leaves it, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "adapter_config.json").write_text(json.dumps(saved["config"]), encoding="utf-8")
        save_file({key: value.contiguous() for key, value in saved["tensors"].items()}, Path(folder) / "adapter_model.safetensors")
        yield folder


def load(recipe: Recipe, saved: Mapping[str, Any], base: nn.Linear) -> nn.Module:
    """The saved adapter through PeftModel.from_pretrained, or hot-swapped into the place of another one of the same rank."""
    peft: Any = library()
    with quiet(), folder_of(saved) as folder:
        if recipe.operation("hotswap") and saved["config"]["peft_type"] == "LORA":
            from peft.utils.hotswap import hotswap_adapter

            config = peft.PeftConfig.from_pretrained(folder)
            config.inference_mode = False
            config.lora_alpha *= 3  # the one that is replaced has a scale of its own
            model = peft.get_peft_model(Host(base), config)
            hotswap_adapter(model, folder, "default", torch_device="cpu")
            return model
        low = bool(recipe.operation("low_cpu_mem_usage"))
        return peft.PeftModel.from_pretrained(Host(base), folder, is_trainable=True, low_cpu_mem_usage=low)


def convert_by_difference(model: Any) -> dict[str, Any]:
    """PiSSA's and OLoRA's way to a plain LoRA: save_pretrained against the adapter as it was saved at init."""
    with quiet(), folder_of(model.first_saved) as first, tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, path_initial_model_for_weight_conversion=first)
        return read_folder(Path(folder))


def convert_to_lora(model: Any) -> dict[str, Any]:
    """peft.convert_to_lora at full rank, where nothing is lost to the rank."""
    layer = tuner_layer(model)
    config, tensors = library().convert_to_lora(model, min(layer.get_base_layer().weight.shape))
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        held = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    return {"config": held, "tensors": {key: value.clone() for key, value in tensors.items()}}


@contextmanager
def quiet() -> Iterator[None]:
    """Without PEFT's warnings, which speak of the user's model and not of our one layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
