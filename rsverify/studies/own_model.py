"""A user's own model with its LoRA settings, made into what `verify` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.devices import refuse_device
from rsverify.stages import Stages
from rsverify.training.model.problem import Problem


@dataclass(frozen=True)
class OwnModel:
    """The problem to measure on, and the adapter, rule and alpha that the configuration says."""

    problem: Problem
    adapter: Adapter
    rule: str
    alpha: float


def own_model(model: str, *, config: Path, text: Path, device: str = "cpu", seed: int = 0) -> OwnModel:
    """Load a Hugging Face model, PEFT-format LoRA settings and a text.

    Raises: InputError for anything missing or not understood, each with its cure.
    """
    from rsverify.interop.lora_config import read_lora_config
    from rsverify.interop.transformers import problem_from_pretrained

    refuse_device(device)
    settings = read_lora_config(config)
    Stages(__name__)(f"load {model}", 0, 1)
    problem = problem_from_pretrained(model, config=settings, text=text, device=device, seed=seed)
    return OwnModel(problem, settings.adapter, settings.rule, settings.alpha)
