"""A declared adapter as a subject: a torch module of our own with every capability, built from the declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.conformance.subject import Subject, with_full, with_remake
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Zero
from rsverify.definitions.registry import Declared, as_declared
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError
from rsverify.training.adapters.contraction import AdapterModule, draw_factors, two_factors

Rule = ScalingRule | str | Callable[[float, float], float]


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
        self.kept: Tensor | None = None

    @property
    def part(self) -> Part:
        part = self.parts[self.active]
        assert isinstance(part, Part)
        return part

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is not None:
            return self.base(x)
        if self.part.inner is not None:
            return self.base(x) + self.part.inner(x)
        return F.linear(x, self.part.weight(self.base.weight), self.base.bias)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # Not a buffer: the pretrained weight is the base layer's to save. But it moves with the module.
        self.pretrained = fn(self.pretrained)
        self.kept = None if self.kept is None else fn(self.kept)
        return super()._apply(fn, recurse)


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
    found, residual = adapter.start(W, factors, gamma=gamma, rank=rank)
    return dict(found), residual


def build(adapter: Declared, rule: ScalingRule, rank: int, base: nn.Linear, alpha: float, *, full: bool = False) -> AdaptedLinear:
    """The adapter on a layer, at init; the base is frozen, and becomes the residual where the adapter takes a part of it.

    Args: full says whether full matrices stand in where the declaration has them.
    """
    module = AdaptedLinear(base)
    add_adapter(adapter, rule, module, "default", rank, alpha, full=full)
    return module


def add_adapter(
    adapter: Declared, rule: ScalingRule, module: AdaptedLinear, name: str, rank: int, alpha: float, *, full: bool = False
) -> None:
    """One more adapter on the layer, active afterwards."""
    if full and isinstance(adapter, Adapter) and adapter.full and adapter.full.stands_in(rank, *reversed(module.pretrained.shape)):
        rule = rule if adapter.full.rule is None else as_rule(adapter.full.rule)
        adapter = adapter.full.adapter
    if name in module.parts:
        raise InputError(f"name={name!r}: the layer has an adapter of that name")
    if module.kept is not None:
        raise InputError("the layer's adapter is merged into its weight; unmerge first")
    factors, residual = start(adapter, module.base, rule=rule, rank=rank, alpha=alpha)
    if residual is not module.base.weight and "residual-base" in adapter.tags:
        if module.parts:
            raise InputError(f"{adapter.name} starts from the base weight and changes it: only one fits on a layer")
        with torch.no_grad():
            module.base.weight.copy_(residual)
    module.parts[name] = Part(adapter, factors, module.base.weight, rule=rule, rank=rank, alpha=alpha)
    set_adapter(module, name)


def set_adapter(module: AdaptedLinear, name: str) -> None:
    """Only the adapter of that name acts and trains."""
    if module.kept is not None:
        raise InputError("the layer's adapter is merged into its weight; unmerge first")
    module.active = name
    for other, part in module.parts.items():
        assert isinstance(part, Part)
        for factor_name in part.adapter.trainable:
            part.factors()[factor_name].requires_grad_(other == name)


def delta(module: AdaptedLinear) -> Tensor:
    """What the active adapter adds to the pretrained weight."""
    base = module.base.weight if module.kept is None else module.kept
    return module.part.weight(base) - module.pretrained


def merge(module: AdaptedLinear) -> None:
    """Put the active adapter into the base weight, added in at least float32 and rounded once; a second time changes nothing."""
    if module.kept is not None:
        return
    weight = module.base.weight
    module.kept = weight.detach().clone()
    with torch.no_grad():
        wide = torch.promote_types(weight.dtype, torch.float32)
        if module.part.inner is not None:
            factors = {name: value.to(wide) for name, value in module.part.factors().items()}
            d_out, d_in = weight.shape
            adapter, rank = module.part.inner.adapter, module.part.rank
            exact = AdapterModule(adapter, factors, gamma=module.part.gamma, rank=rank, d_in=d_in, d_out=d_out)
            weight.copy_(weight.to(wide) + exact.delta())
        else:
            part = module.part
            assert isinstance(part.adapter, WrappedAdapter)
            factors = {name: value.to(wide) if value.is_floating_point() else value for name, value in part.factors().items()}
            weight.copy_(part.adapter.weight(weight.to(wide), factors, gamma=part.gamma, rank=part.rank))


def unmerge(module: AdaptedLinear) -> None:
    """Put the base weight back bit for bit."""
    if module.kept is None:
        return
    with torch.no_grad():
        module.base.weight.copy_(module.kept)
    module.kept = None


def save(module: AdaptedLinear) -> dict[str, Any]:
    """The active adapter as plain data: copies of its factors, its rule as text, rank, alpha, the user's scale, the base's residual."""
    part = module.part
    saved = {
        "adapter": part.adapter.name, "rule": part.rule.text, "rank": part.rank, "alpha": part.alpha, "scale": part.user_scale,
        "tensors": {name: value.detach().clone() for name, value in part.factors().items()},
    }  # fmt: skip
    if "residual-base" in part.adapter.tags:
        # The product at init that the base weight lost: what the pretrained weight needs taken off it again.
        base = module.base.weight if module.kept is None else module.kept
        saved["removed"] = module.pretrained - base.detach()
    return saved


def load(adapter: Declared, rule: ScalingRule, saved: Mapping[str, Any], base: nn.Linear) -> AdaptedLinear:
    """The saved adapter on a layer with the pretrained weight."""
    module = AdaptedLinear(base)
    full = adapter.full.adapter if isinstance(adapter, Adapter) and adapter.full else None
    if full is not None and saved["adapter"] == full.name:
        wanted: Declared = full
    else:
        wanted = as_declared(saved["adapter"]) if saved["adapter"] != adapter.name else adapter
    made = rule if saved["rule"] == rule.text else as_rule(saved["rule"])
    if "removed" in saved:
        with torch.no_grad():
            base.weight.sub_(saved["removed"].to(base.weight))
    tensors = {name: value.clone().to(base.weight.device) for name, value in saved["tensors"].items()}
    if isinstance(wanted, Adapter) and set(tensors) != set(wanted.laws):
        raise InputError(f"saved factors {sorted(tensors)}; adapter {wanted.name!r} has {sorted(wanted.laws)}")
    part = Part(wanted, tensors, base.weight, rule=made, rank=saved["rank"], alpha=saved["alpha"])
    part.set_scale(saved["scale"])
    module.parts["default"] = part
    return module


def set_scale(module: AdaptedLinear, s: float) -> None:
    """The user's scale of the active adapter, on top of its rule's."""
    module.part.set_scale(s)


def scale(module: AdaptedLinear) -> float:
    """The factor in force."""
    return module.part.gamma


def combine(adapter: Adapter, rule: ScalingRule, module: AdaptedLinear, names: list[str], weights: list[float]) -> str:
    """The weighted sum of two-factor adapters as one of their ranks' sum: factors side by side, scales and weights in the first."""
    pair = two_factors(adapter)
    assert pair is not None
    up, down = pair
    parts = [part for part in (module.parts[name] for name in names) if isinstance(part, Part)]
    rank, alpha = sum(part.rank for part in parts), parts[0].alpha
    gamma = rule.gamma(rank, alpha)
    ups = [w * part.gamma / gamma * part.factors()[up] for w, part in zip(weights, parts, strict=True)]
    downs = [part.factors()[down] for part in parts]
    factors = {up: torch.cat(ups, dim=1).detach().clone(), down: torch.cat(downs, dim=0).detach().clone()}
    name = "+".join(names)
    module.parts[name] = Part(adapter, factors, module.base.weight, rule=rule, rank=rank, alpha=alpha)
    return name


def redistribute(adapter: Adapter, rule: ScalingRule, module: AdaptedLinear, rank: int) -> None:
    """The nearest adapter of another rank: the product's largest singular triples, under the scale of the rule at the new rank."""
    pair = two_factors(adapter)
    assert pair is not None
    up, down = pair
    old = module.part
    gamma = rule.gamma(rank, old.alpha)
    with torch.no_grad():
        B, A = old.factors()[up], old.factors()[down]
        U, S, Vh = torch.linalg.svd(rule.gamma(old.rank, old.alpha) / gamma * B @ A, full_matrices=False)
        keep = min(rank, len(S))
        factors = {up: B.new_zeros(B.shape[0], rank), down: A.new_zeros(rank, A.shape[1])}
        factors[up][:, :keep] = U[:, :keep] * S[:keep].sqrt()
        factors[down][:keep] = S[:keep].sqrt()[:, None] * Vh[:keep]
    part = Part(adapter, factors, module.base.weight, rule=rule, rank=rank, alpha=old.alpha)
    part.set_scale(old.user_scale)
    module.parts[module.active] = part


def convert(module: AdaptedLinear) -> dict[str, Any]:
    """A residual-base adapter as plain LoRA of twice its rank on the pretrained weight: trained product minus initial product."""
    part = module.part
    base = module.base.weight if module.kept is None else module.kept
    with torch.no_grad():
        factors = part.factors()
        U, S, Vh = torch.linalg.svd(module.pretrained - base)
        rank = part.rank
        first_up, first_down = U[:, :rank] * S[:rank].sqrt(), S[:rank].sqrt()[:, None] * Vh[:rank]
        doubled = 2 * rank
        # The new scale is the rule's at twice the rank: the trained product is brought to it, the initial one taken off by it.
        gamma = part.rule.gamma(doubled, part.alpha)
        up = torch.cat([part.gamma / gamma * factors["B"], -first_up / gamma], dim=1)
        down = torch.cat([factors["A"], first_down], dim=0)
    tensors = {"B": up.clone(), "A": down.clone()}
    return {"adapter": "lora", "rule": part.rule.text, "rank": doubled, "alpha": part.alpha, "scale": 1.0, "tensors": tensors}


def declared_subject(adapter: Declared | str, rule: Rule | None = None, *, alpha: float = ALPHA) -> Subject:
    """A declared adapter as a subject, under its usual rule or another."""
    found = as_declared(adapter)
    made = as_rule(found.rule if rule is None else rule)
    optional: dict[str, Any] = {}
    if isinstance(found, Adapter) and two_factors(found) is not None and found.rank_axes:
        optional["combine"] = partial(combine, found, made)
        optional["redistribute"] = partial(redistribute, found, made)
    if "residual-base" in found.tags:
        optional["convert"] = convert
    else:
        optional["add_adapter"] = partial(add_adapter, found, made)
        optional["set_adapter"] = set_adapter
    subject = Subject(
        partial(build, found, made), rule=made, alpha=alpha, init=found, delta=delta, merge=merge, unmerge=unmerge, save=save,
        load=partial(load, found, made), set_scale=set_scale, scale=scale, **optional,
    )  # fmt: skip
    if isinstance(found, Adapter) and found.full is not None:
        with_full(subject, replace(subject, build=partial(build, found, made, full=True)))
    return with_remake(subject, lambda other: declared_subject(found, other, alpha=alpha))
