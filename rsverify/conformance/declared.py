"""A declared adapter as a subject: torch modules of our own with every capability, built from the declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.conformance.subject import Subject
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Zero
from rsverify.definitions.registry import Declared, as_declared
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError
from rsverify.training.adapters.contraction import AdapterModule, draw_factors, two_factors

Rule = ScalingRule | str | Callable[[int, float], float]


class Part(nn.Module):
    """One adapter of a layer: its factors, the scale that its rule gives it, and the user's scale on top."""

    def __init__(
        self, adapter: Declared, factors: Mapping[str, Tensor], base: Tensor, *, rule: ScalingRule, rank: int, alpha: float
    ) -> None:
        super().__init__()
        self.adapter, self.rule, self.rank, self.alpha, self.user_scale = adapter, rule, rank, alpha, 1.0
        self.inner: AdapterModule | None = None
        d_out, d_in = base.shape
        if isinstance(adapter, Adapter):
            self.inner = AdapterModule(adapter, factors, gamma=self.gamma, rank=rank, d_in=d_in, d_out=d_out)
            return
        self.trainable = nn.ParameterDict({name: nn.Parameter(factors[name]) for name in adapter.trainable})
        for name, value in factors.items():
            if name not in adapter.trainable:
                self.register_buffer(name, value)

    @property
    def gamma(self) -> float:
        return self.rule.gamma(self.rank, self.alpha) * self.user_scale

    def set_scale(self, s: float) -> None:
        self.user_scale = float(s)
        if self.inner is not None:
            self.inner.gamma = self.gamma

    def factors(self) -> dict[str, Tensor]:
        if self.inner is not None:
            return {name: self.inner.factor(name) for name in self.inner.adapter.laws}
        return {**dict(self.named_buffers()), **dict(self.trainable.items())}

    def weight(self, base: Tensor) -> Tensor:
        """The weight that the layer has with this adapter on it."""
        if self.inner is not None:
            return base + self.inner.delta()
        assert isinstance(self.adapter, WrappedAdapter)
        return self.adapter.weight(base, self.factors(), gamma=self.gamma, rank=self.rank)


class AdaptedLinear(nn.Module):
    """A frozen linear layer with named adapters on it, one of them active.

    Merging keeps a copy of the base weight: subtracting the added weight again would leave rounding behind.
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.parts = nn.ModuleDict()
        self.active = "default"
        self.pretrained = base.weight.detach().clone()
        self.unmerged: Tensor | None = None
        """The base weight without the adapter, while that is merged."""

    @property
    def part(self) -> Part:
        part = self.parts[self.active]
        assert isinstance(part, Part)
        return part

    @property
    def residual(self) -> Tensor:
        """The base weight without any merged adapter."""
        return self.base.weight if self.unmerged is None else self.unmerged

    def forward(self, x: Tensor) -> Tensor:
        if self.unmerged is not None:
            return self.base(x)
        if self.part.inner is not None:
            return self.base(x) + self.part.inner(x)
        return F.linear(x, self.part.weight(self.base.weight), self.base.bias)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # Not a buffer: the pretrained weight is the base layer's to save. But it moves with the module.
        self.pretrained = fn(self.pretrained)
        self.unmerged = None if self.unmerged is None else fn(self.unmerged)
        return super()._apply(fn, recurse)

    def set_adapter(self, name: str) -> None:
        """Only the adapter of that name acts and trains."""
        self.refuse_while_merged()
        self.active = name
        for other, part in self.parts.items():
            assert isinstance(part, Part)
            for factor_name in part.adapter.trainable:
                part.factors()[factor_name].requires_grad_(other == name)

    def refuse_while_merged(self) -> None:
        """Raises: InputError while an adapter is merged into the base weight."""
        if self.unmerged is not None:
            raise InputError("the layer's adapter is merged into its weight; unmerge first")

    def delta(self) -> Tensor:
        """What the active adapter adds to the pretrained weight."""
        return self.part.weight(self.residual) - self.pretrained

    def merge(self) -> None:
        """Put the active adapter into the base weight, added in at least float32 and rounded once; a second time changes nothing."""
        if self.unmerged is not None:
            return
        weight, part = self.base.weight, self.part
        self.unmerged = weight.detach().clone()
        with torch.no_grad():
            wide = torch.promote_types(weight.dtype, torch.float32)
            factors = {name: value.to(wide) if value.is_floating_point() else value for name, value in part.factors().items()}
            if part.inner is not None:
                d_out, d_in = weight.shape
                exact = AdapterModule(part.inner.adapter, factors, gamma=part.gamma, rank=part.rank, d_in=d_in, d_out=d_out)
                weight.copy_(weight.to(wide) + exact.delta())
            else:
                assert isinstance(part.adapter, WrappedAdapter)
                weight.copy_(part.adapter.weight(weight.to(wide), factors, gamma=part.gamma, rank=part.rank))

    def unmerge(self) -> None:
        """Put the base weight back bit for bit."""
        if self.unmerged is None:
            return
        with torch.no_grad():
            self.base.weight.copy_(self.unmerged)
        self.unmerged = None

    def set_scale(self, s: float) -> None:
        """The user's scale of the active adapter, on top of its rule's."""
        self.part.set_scale(s)

    def scale(self) -> float:
        """The factor in force."""
        return self.part.gamma

    def save(self) -> dict[str, Any]:
        """The active adapter as plain data: copies of its factors, rule as text, rank, alpha, the user's scale, what the base lost."""
        part = self.part
        saved = {
            "adapter": part.adapter.name, "rule": part.rule.text, "rank": part.rank, "alpha": part.alpha, "scale": part.user_scale,
            "tensors": {name: value.detach().clone() for name, value in part.factors().items()},
        }  # fmt: skip
        if "residual-base" in part.adapter.tags:
            # The product at init that the base weight lost: what the pretrained weight needs taken off it again.
            saved["removed"] = self.pretrained - self.residual.detach()
        return saved

    def convert(self) -> dict[str, Any]:
        """A residual-base adapter as plain LoRA of twice its rank on the pretrained weight: trained product minus initial product."""
        part = self.part
        with torch.no_grad():
            factors = part.factors()
            U, S, Vh = torch.linalg.svd(self.pretrained - self.residual)
            rank = part.rank
            first_up, first_down = U[:, :rank] * S[:rank].sqrt(), S[:rank].sqrt()[:, None] * Vh[:rank]
            doubled = 2 * rank
            # The new scale is the rule's at twice the rank: the trained product is brought to it, the initial one taken off by it.
            gamma = part.rule.gamma(doubled, part.alpha)
            up = torch.cat([part.gamma / gamma * factors["B"], -first_up / gamma], dim=1)
            down = torch.cat([factors["A"], first_down], dim=0)
        tensors = {"B": up.clone(), "A": down.clone()}
        return {"adapter": "lora", "rule": part.rule.text, "rank": doubled, "alpha": part.alpha, "scale": 1.0, "tensors": tensors}


def start(adapter: Declared, base: nn.Linear, *, rule: ScalingRule, rank: int, alpha: float) -> tuple[dict[str, Tensor], Tensor]:
    """The factors at init, drawn from torch's seed, and the base weight that stays beside them."""
    d_out, d_in = base.weight.shape
    if isinstance(adapter, Adapter):
        multilinear = adapter
    else:
        # What stands for parts of the base weight is not drawn: `start` takes the weight's own.
        absorbed = {name: Zero() for name, law in adapter.core.laws.items() if law.absorbs_gamma}
        multilinear = adapter.core.with_init(**absorbed)
    seed = int(torch.randint(2**62, ()))
    W = base.weight.detach()
    gamma = rule.gamma(rank, alpha)
    drawn = draw_factors(multilinear, rank=rank, d_in=d_in, d_out=d_out, seed=seed, draw=0, layer="", gamma=gamma)
    factors = {name: torch.from_numpy(value).to(W.device, W.dtype) for name, value in drawn.items()}
    if isinstance(adapter, Adapter):
        if "base-weight" in adapter.tags:
            factors["W"] = W.clone()
        return factors, W
    started, residual = adapter.start(W, factors, gamma=gamma, rank=rank)
    return dict(started), residual


@dataclass(frozen=True)
class Implementation:
    """A declared adapter under a rule, as torch modules of our own: what builds, loads and reshapes `AdaptedLinear`.

    Args: full says whether full matrices stand in where the declaration has them.
    """

    adapter: Declared
    rule: ScalingRule
    full: bool = False

    def build(self, rank: int, base: nn.Linear, alpha: float) -> AdaptedLinear:
        """The adapter on a layer, at init; the base is frozen, and becomes the residual where the adapter takes a part of it."""
        module = AdaptedLinear(base)
        self.add_adapter(module, "default", rank, alpha)
        return module

    def add_adapter(self, module: AdaptedLinear, name: str, rank: int, alpha: float) -> None:
        """One more adapter on the layer, active afterwards."""
        adapter, rule = self._standing_in(rank, *reversed(module.pretrained.shape))
        if name in module.parts:
            raise InputError(f"name={name!r}: the layer has an adapter of that name")
        module.refuse_while_merged()
        factors, residual = start(adapter, module.base, rule=rule, rank=rank, alpha=alpha)
        if residual is not module.base.weight and "residual-base" in adapter.tags:
            if module.parts:
                raise InputError(f"{adapter.name} starts from the base weight and changes it: only one fits on a layer")
            with torch.no_grad():
                module.base.weight.copy_(residual)
        module.parts[name] = Part(adapter, factors, module.base.weight, rule=rule, rank=rank, alpha=alpha)
        module.set_adapter(name)

    def _standing_in(self, rank: int, d_in: int, d_out: int) -> tuple[Declared, ScalingRule]:
        """The adapter and rule at a rank: the full matrix's where that is asked for and stands in."""
        full = self.adapter.full if self.full and isinstance(self.adapter, Adapter) else None
        if full is None or not full.stands_in(rank, d_in, d_out):
            return self.adapter, self.rule
        return full.adapter, self.rule if full.rule is None else as_rule(full.rule)

    def load(self, saved: Mapping[str, Any], base: nn.Linear) -> AdaptedLinear:
        """The saved adapter on a layer with the pretrained weight."""
        module = AdaptedLinear(base)
        adapter = self._named(saved["adapter"])
        rule = self.rule if saved["rule"] == self.rule.text else as_rule(saved["rule"])
        if "removed" in saved:
            with torch.no_grad():
                base.weight.sub_(saved["removed"].to(base.weight))
        tensors = {name: value.clone().to(base.weight.device) for name, value in saved["tensors"].items()}
        if isinstance(adapter, Adapter) and set(tensors) != set(adapter.laws):
            raise InputError(f"saved factors {sorted(tensors)}; adapter {adapter.name!r} has {sorted(adapter.laws)}")
        part = Part(adapter, tensors, base.weight, rule=rule, rank=saved["rank"], alpha=saved["alpha"])
        part.set_scale(saved["scale"])
        module.parts["default"] = part
        return module

    def _named(self, name: str) -> Declared:
        full = self.adapter.full if isinstance(self.adapter, Adapter) else None
        if full is not None and name == full.adapter.name:
            return full.adapter
        return self.adapter if name == self.adapter.name else as_declared(name)

    def combine(self, module: AdaptedLinear, names: list[str], weights: list[float]) -> str:
        """The weighted sum of two-factor adapters as one of their ranks' sum: factors side by side, scales and weights in the first."""
        up, down = self._pair()
        parts = [part for part in (module.parts[name] for name in names) if isinstance(part, Part)]
        rank, alpha = sum(part.rank for part in parts), parts[0].alpha
        gamma = self.rule.gamma(rank, alpha)
        ups = [w * part.gamma / gamma * part.factors()[up] for w, part in zip(weights, parts, strict=True)]
        downs = [part.factors()[down] for part in parts]
        factors = {up: torch.cat(ups, dim=1).detach().clone(), down: torch.cat(downs, dim=0).detach().clone()}
        name = "+".join(names)
        module.parts[name] = Part(self.adapter, factors, module.base.weight, rule=self.rule, rank=rank, alpha=alpha)
        return name

    def redistribute(self, module: AdaptedLinear, rank: int) -> None:
        """The nearest adapter of another rank: the product's largest singular triples, under the scale of the rule at the new rank."""
        up, down = self._pair()
        old = module.part
        gamma = self.rule.gamma(rank, old.alpha)
        with torch.no_grad():
            B, A = old.factors()[up], old.factors()[down]
            U, S, Vh = torch.linalg.svd(self.rule.gamma(old.rank, old.alpha) / gamma * B @ A, full_matrices=False)
            keep = min(rank, len(S))
            factors = {up: B.new_zeros(B.shape[0], rank), down: A.new_zeros(rank, A.shape[1])}
            factors[up][:, :keep] = U[:, :keep] * S[:keep].sqrt()
            factors[down][:keep] = S[:keep].sqrt()[:, None] * Vh[:keep]
        part = Part(self.adapter, factors, module.base.weight, rule=self.rule, rank=rank, alpha=old.alpha)
        part.set_scale(old.user_scale)
        module.parts[module.active] = part

    def _pair(self) -> tuple[str, str]:
        assert isinstance(self.adapter, Adapter)
        pair = two_factors(self.adapter)
        assert pair is not None
        return pair

    def under(self, rule: str) -> Implementation:
        """The same adapter under another rule."""
        return replace(self, rule=as_rule(rule))

    def with_full_matrices(self) -> Implementation | None:
        """The same adapter with full matrices where its declaration says that they stand in; None where it says nothing."""
        return replace(self, full=True) if isinstance(self.adapter, Adapter) and self.adapter.full is not None else None

    def subject(self, *, alpha: float = ALPHA) -> Subject:
        """It as a subject, with every capability that its algebra allows."""
        optional: dict[str, Any] = {}
        if isinstance(self.adapter, Adapter) and two_factors(self.adapter) is not None and self.adapter.rank_axes:
            optional |= {"combine": self.combine, "redistribute": self.redistribute}
        if "residual-base" in self.adapter.tags:
            optional["convert"] = AdaptedLinear.convert
        else:
            optional |= {"add_adapter": self.add_adapter, "set_adapter": AdaptedLinear.set_adapter}
        return Subject(
            self.build, rule=self.rule, alpha=alpha, init=self.adapter, delta=AdaptedLinear.delta, merge=AdaptedLinear.merge,
            unmerge=AdaptedLinear.unmerge, save=AdaptedLinear.save, load=self.load, set_scale=AdaptedLinear.set_scale,
            scale=AdaptedLinear.scale, **optional,
        )  # fmt: skip


def declared_subject(adapter: Declared | str, rule: Rule | None = None, *, alpha: float = ALPHA) -> Subject:
    """A declared adapter as a subject, under its usual rule or another."""
    declared = as_declared(adapter)
    return Implementation(declared, as_rule(declared.rule if rule is None else rule)).subject(alpha=alpha)
