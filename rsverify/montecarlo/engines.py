"""Which engine speaks for a setting: the cheapest that is exact for it, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable

from rsverify.definitions.claims import Setting
from rsverify.errors import InputError, UnknownName
from rsverify.montecarlo.channels import sampler as channel_sampler
from rsverify.montecarlo.channels.sampler import ChannelSampler
from rsverify.montecarlo.dense.sampler import DenseSampler
from rsverify.montecarlo.gram import sampler as gram_sampler
from rsverify.montecarlo.gram.sampler import GramSampler
from rsverify.montecarlo.samplers import Sample, Sampler, Task

__all__ = ["ENGINES", "Sample", "Sampler", "Task", "sampler_for", "silent_engines"]

ENGINES: dict[str, tuple[Callable[[Task], Sampler], Callable[[Setting], str | None]]] = {
    "gram": (GramSampler, gram_sampler.silence),
    "channels": (ChannelSampler, channel_sampler.silence),
    "dense": (DenseSampler, lambda setting: None),
}
"""How each engine is made, and why it would be silent about a setting; the cheapest first."""


def silent_engines(setting: Setting) -> dict[str, str]:
    """The engines that cannot speak for a setting, each with its reason."""
    reasons = {name: reason(setting) for name, (_, reason) in ENGINES.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def sampler_for(task: Task, engine: str = "auto") -> Sampler:
    """The engine asked for, at work on the task; `auto` takes the cheapest that can speak.

    Raises: UnknownName, or InputError with the reason where the engine cannot speak.
    """
    if engine not in (*ENGINES, "auto"):
        raise UnknownName("engine", engine, (*ENGINES, "auto"))
    silent = silent_engines(task.setting)
    if engine in silent:
        speaking = ", ".join(name for name in ENGINES if name not in silent)
        raise InputError(f"engine={engine!r} cannot speak: {silent[engine]}; can speak: {speaking}")
    return ENGINES[next(name for name in ENGINES if name not in silent) if engine == "auto" else engine][0](task)
