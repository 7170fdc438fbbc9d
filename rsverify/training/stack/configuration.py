"""One of the many configurations that are trained together: rank, scaling factor, learning rate, optimizer, init, seeds, targets."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.registry import Declared
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.errors import InputError
from rsverify.training.adapters.called import ModuleAdapter
from rsverify.training.adapters.trainable import as_trainable


@dataclass(frozen=True, init=False)
class Configuration:
    """What one training run is made of; many of them share a frozen base.

    Args:
        rank: r. rule: scaling rule, by name, text or object, read at `alpha`; gamma: the factor itself, in the rule's place.
        lr: learning rate of this configuration. optimizer: by name, text or object.
        adapter: a declaration by object or name, multilinear with its init laws, e.g.
            `as_adapter("lora").with_init(A=Gaussian(std="1/r"))`, or not (DoRA); or what builds a module: a function
            build(rank, base, alpha), or an object that has one as `build`. A module applies a rule of its own to alpha; `rule` is then the
            one that it is said to follow.
        seed, draw: name the stream of the factors at init. data: names the stream of the batches; configurations of one
            `data` see the same batches.
        targets: which of the task's linears are adapted, None = all of them.
    Raises: InputError, RuleError or UnknownName before any work.
    """

    rank: int
    gamma: float
    lr: float
    optimizer: Optimizer
    adapter: Declared | ModuleAdapter
    rule: str
    alpha: float
    seed: int
    draw: int
    data: int
    targets: tuple[str, ...] | None

    def __init__(
        self,
        rank: int,
        rule: ScalingRule | str | None = None,
        *,
        gamma: float | None = None,
        alpha: float = ALPHA,
        lr: float = 1e-3,
        optimizer: Optimizer | str = "adamw",
        adapter: Any = "lora",
        seed: int = 0,
        draw: int = 0,
        data: int = 0,
        targets: Sequence[str] | None = None,
    ) -> None:
        (rank,) = parse_ranks([rank])
        optimizer, adapter = as_optimizer(optimizer), as_trainable(adapter)
        if (rule is None) == (gamma is None):
            raise InputError(f"rank={rank}: rule={rule!r}, gamma={gamma!r}; expected exactly one of the two")
        if rule is not None:
            rule = as_rule(rule)
            gamma = rule.gamma(rank, alpha)
        assert gamma is not None
        for name, value in (("gamma", gamma), ("lr", lr)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"rank={rank}: {name}={value}; expected a positive finite number")
        if isinstance(targets, str):
            raise InputError(f"targets={targets!r} is a text; expected a sequence of names, e.g. [{targets!r}]")
        values: dict[str, Any] = {
            "rank": rank, "gamma": float(gamma), "lr": float(lr), "optimizer": optimizer, "adapter": adapter,
            "rule": rule.text if rule is not None else f"{gamma!r}", "alpha": float(alpha), "seed": int(seed), "draw": int(draw),
            "data": int(data), "targets": None if targets is None else tuple(targets),
        }  # fmt: skip
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def on(self, targets: tuple[str, ...] | None) -> Configuration:
        """The same configuration on other linears."""
        found = copy.copy(self)
        object.__setattr__(found, "targets", targets)
        return found

    def to_dict(self) -> dict[str, Any]:
        """What distinguishes this configuration, as plain data: what a checkpoint is compared by."""
        return {
            "adapter": self.adapter.name, "expression": getattr(self.adapter, "expression", "as built"),
            "init": getattr(self.adapter, "init", "as built"), "rank": self.rank,
            "rule": self.rule, "alpha": self.alpha, "gamma": self.gamma, "lr": self.lr, "optimizer": self.optimizer.text,
            "seed": self.seed, "draw": self.draw, "data": self.data, "targets": None if self.targets is None else list(self.targets),
        }  # fmt: skip

    @property
    def text(self) -> str:
        """A short name, e.g. "lora r=16 alpha/sqrt(r) adamw lr=0.001 seed=0"."""
        more = "".join(f" {name}={value}" for name, value in (("draw", self.draw), ("data", self.data)) if value)
        return f"{self.adapter.name} r={self.rank} {self.rule} {self.optimizer.text} lr={self.lr:g} seed={self.seed}{more}"


def grid(
    ranks: str | Sequence[int],
    rules: Iterable[ScalingRule | str],
    *,
    seeds: Iterable[int] = (0,),
    lrs: Iterable[float] = (1e-3,),
    optimizers: Iterable[Optimizer | str] = ("adamw",),
    adapters: Iterable[Any] = ("lora",),
    alpha: float = ALPHA,
    targets: Sequence[str] | None = None,
) -> list[Configuration]:
    """Every combination, ranks slowest and seeds fastest."""
    rules, seeds, lrs, optimizers, adapters = list(rules), list(seeds), list(lrs), list(optimizers), list(adapters)
    return [
        Configuration(rank, rule, alpha=alpha, lr=lr, optimizer=optimizer, adapter=adapter, seed=seed, targets=targets)
        for rank in parse_ranks(ranks)
        for adapter in adapters
        for rule in rules
        for optimizer in optimizers
        for lr in lrs
        for seed in seeds
    ]
