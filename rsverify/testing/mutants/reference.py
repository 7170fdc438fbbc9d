"""Sound adapters written from the textbook, every piece replaceable: a mutant is one of these with one piece done wrong.

It shares no code with `rsverify.conformance.declared` or `rsverify.training`: what is right here is right for its own reasons.
A `Kit` holds the pieces as plain functions of the adapted layer; `kit.subject()` is what `check_adapter` judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.conformance import Part, Subject
from rsverify.definitions.rules import as_rule

Factors = Mapping[str, Tensor]


class Slot(nn.Module):
    """One adapter of a layer: trained and frozen factors, rank, alpha, the user's scale s."""

    def __init__(self, trained: Factors, frozen: Factors, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank, self.alpha, self.s = rank, float(alpha), 1.0
        self.trained = tuple(trained)
        for name, value in trained.items():
            self.register_parameter(name, nn.Parameter(value.detach().clone()))
        for name, value in frozen.items():
            self.register_buffer(name, value.detach().clone())

    def factors(self) -> dict[str, Tensor]:
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}


class Adapted(nn.Module):
    """A frozen linear layer with named slots, one of them active; `kept` is the base's weight and bias while merged."""

    def __init__(self, base: nn.Linear, kit: Kit) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.kit = kit
        self.slots = nn.ModuleDict()
        self.active = "default"
        self.kept: tuple[Tensor, Tensor | None] | None = None
        self.memory: dict[str, Any] = {}
        """Where mutants keep what they should not."""

    @property
    def slot(self) -> Any:
        return self.slots[self.active]

    @property
    def pristine(self) -> Tensor:
        """The base weight without any merge."""
        return self.base.weight if self.kept is None else self.kept[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.kit.forward(self, x)


Start = Callable[[Tensor, int, float, "Kit"], tuple[dict[str, Tensor], dict[str, Tensor]]]


@dataclass(frozen=True)
class Kit:
    """The pieces of an implementation.

    Args: `start(W, rank, alpha, kit)` gives trained and frozen factors; `delta(m, slot, W)` what the slot adds to W, scale
        included; `told(m)` is the delta that users are told; `offset(m, slot)` what the slot adds to the bias, or None;
        `lacks` names the capabilities that it does not have. All others are what `Subject` describes.
    """

    start: Start
    delta: Callable[[Adapted, Any, Tensor], Tensor]
    rule: str = "alpha/sqrt(r)"
    init: str = "identity"
    dropout: float = 0.0
    lacks: tuple[str, ...] = ("convert",)
    offset: Callable[[Adapted, Any], Tensor | None] = lambda m, slot: None
    gamma: Callable[[Adapted, Any], float] = lambda m, slot: ruled(m, slot)
    build: Callable[[Kit, int, nn.Linear, float], nn.Module] = lambda kit, rank, base, alpha: built(kit, rank, base, alpha)
    forward: Callable[[Adapted, Tensor], Tensor] = lambda m, x: computed(m, x)
    merge: Callable[[Adapted], Any] = lambda m: merged(m)
    unmerge: Callable[[Adapted], Any] = lambda m: unmerged(m)
    save: Callable[[Adapted], Any] = lambda m: saved(m)
    load: Callable[[Kit, Any, nn.Linear], nn.Module] = lambda kit, data, base: loaded(kit, data, base)
    set_scale: Callable[[Adapted, float], Any] = lambda m, s: rescaled(m, s)
    scale: Callable[[Adapted], float] = lambda m: m.kit.gamma(m, m.slot)
    told: Callable[[Adapted], Tensor] = lambda m: m.kit.delta(m, m.slot, m.pristine)
    add_adapter: Callable[[Adapted, str, int, float], Any] = lambda m, name, rank, alpha: added(m, name, rank, alpha)
    set_adapter: Callable[[Adapted, str], Any] = lambda m, name: activated(m, name)
    combine: Callable[[Adapted, list[str], list[float]], str] = lambda m, names, weights: combined(m, names, weights)
    convert: Callable[[Adapted], Any] = lambda m: m.kit.save(m)
    redistribute: Callable[[Adapted, int], Any] = lambda m, rank: redistributed(m, rank)
    parts: Callable[[Adapted], Mapping[str, Part]] | None = None
    exponents: Mapping[str, float] = field(default_factory=dict, hash=False)

    def but(self, **pieces: Any) -> Kit:
        """The same implementation with some pieces replaced."""
        return replace(self, **pieces)

    def subject(self) -> Subject:
        """What `check_adapter` judges."""
        whole: dict[str, Any] = {
            "delta": self.told, "merge": self.merge, "unmerge": self.unmerge, "save": self.save,
            "load": partial(self.load, self), "set_scale": self.set_scale, "scale": self.scale, "add_adapter": self.add_adapter,
            "set_adapter": self.set_adapter, "combine": self.combine, "convert": self.convert, "redistribute": self.redistribute,
            "parts": self.parts,
        }  # fmt: skip
        kept = {name: piece for name, piece in whole.items() if name not in self.lacks}
        return Subject(partial(self.build, self), rule=self.rule, init=self.init, exponents=self.exponents, **kept)


def ruled(m: Adapted, slot: Any, rule: str | None = None) -> float:
    return as_rule(rule or m.kit.rule).gamma(slot.rank, slot.alpha) * slot.s


def new_slot(kit: Kit, W: Tensor, rank: int, alpha: float) -> Slot:
    trained, frozen = kit.start(W.detach(), rank, alpha, kit)
    return Slot(trained, frozen, rank, alpha)


def built(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> Adapted:
    m = Adapted(base, kit)
    m.slots["default"] = new_slot(kit, base.weight, rank, alpha)
    return m


def computed(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    branch = F.dropout(x, m.kit.dropout, training=m.training)
    delta, offset = m.kit.delta(m, m.slot, m.base.weight), m.kit.offset(m, m.slot)
    return m.base(x) + F.linear(branch, delta, offset)


def wide(m: Adapted) -> tuple[Tensor, Tensor | None]:
    """What the active slot adds to weight and bias, computed in at least float32: nothing is rounded before the sum."""
    dtype = torch.promote_types(m.base.weight.dtype, torch.float32)
    slot = Slot({}, {name: value.to(dtype) for name, value in m.slot.factors().items()}, m.slot.rank, m.slot.alpha)
    slot.s = m.slot.s
    return m.kit.delta(m, slot, m.base.weight.to(dtype)), m.kit.offset(m, slot)


@torch.no_grad()
def merged(m: Adapted) -> None:
    if m.kept is not None:
        return
    weight, bias = m.base.weight, m.base.bias
    delta, offset = wide(m)
    m.kept = (weight.detach().clone(), None if bias is None else bias.detach().clone())
    weight.copy_(weight.to(delta.dtype) + delta)
    if offset is not None and bias is None:
        m.base.bias = nn.Parameter(offset.to(weight.dtype), requires_grad=False)
    elif offset is not None:
        bias.copy_(bias.to(offset.dtype) + offset)


@torch.no_grad()
def unmerged(m: Adapted) -> None:
    if m.kept is None:
        return
    weight, bias = m.kept
    m.base.weight.copy_(weight)
    if bias is None:
        m.base.bias = None  # type: ignore[assignment]
    else:
        m.base.bias.copy_(bias)
    m.kept = None


def saved(m: Adapted) -> dict[str, Any]:
    slot = m.slot
    return {
        "rank": slot.rank, "alpha": slot.alpha, "rule": m.kit.rule, "s": slot.s, "trained": list(slot.trained),
        "tensors": {name: value.detach().clone() for name, value in slot.factors().items()},
    }  # fmt: skip


def loaded(kit: Kit, data: Mapping[str, Any], base: nn.Linear) -> Adapted:
    m = Adapted(base, kit if kit.rule == data["rule"] else kit.but(rule=data["rule"]))
    tensors, trained = data["tensors"], set(data["trained"])
    slot = Slot(
        {name: value for name, value in tensors.items() if name in trained},
        {name: value for name, value in tensors.items() if name not in trained}, data["rank"], data["alpha"],
    )  # fmt: skip
    slot.s = data["s"]
    m.slots["default"] = slot
    return m


def rescaled(m: Adapted, s: float) -> None:
    m.slot.s = float(s)


def added(m: Adapted, name: str, rank: int, alpha: float) -> None:
    m.slots[name] = new_slot(m.kit, m.pristine, rank, alpha)
    m.kit.set_adapter(m, m.active)


def activated(m: Adapted, name: str) -> None:
    m.active = name
    for other, slot in m.slots.items():
        assert isinstance(slot, Slot)
        for factor in slot.trained:
            slot.get_parameter(factor).requires_grad_(other == name)


@torch.no_grad()
def combined(m: Adapted, names: Sequence[str], weights: Sequence[float]) -> str:
    """Factors side by side; weights and old scales in the up-projection, the new scale divided out of it."""
    slots: list[Any] = [m.slots[name] for name in names]
    rank, alpha = sum(slot.rank for slot in slots), slots[0].alpha
    A = torch.cat([slot.A for slot in slots])
    B = torch.cat([w * m.kit.gamma(m, slot) * slot.B for w, slot in zip(weights, slots, strict=True)], dim=1)
    new = Slot({"B": B, "A": A}, {}, rank, alpha)
    new.get_parameter("B").div_(m.kit.gamma(m, new))
    m.slots["combined"] = new
    return "combined"


@torch.no_grad()
def redistributed(m: Adapted, rank: int) -> None:
    """The best product of the new rank, under the scale that the rule gives it."""
    old = m.slot
    A, B = truncated(m.kit.gamma(m, old) * old.B @ old.A, rank)
    new = Slot({"B": B, "A": A}, {}, rank, old.alpha)
    new.s = old.s
    new.get_parameter("B").div_(m.kit.gamma(m, new))
    m.slots[m.active] = new


def truncated(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (rank, d_in), B (d_out, rank) with B A nearest to the product; rows beyond its width are zero in B."""
    U, S, Vh = torch.linalg.svd(product, full_matrices=False)
    keep = min(rank, len(S))
    A, B = product.new_zeros(rank, product.shape[1]), product.new_zeros(product.shape[0], rank)
    A[:keep], B[:, :keep] = S[:keep, None].sqrt() * Vh[:keep], U[:, :keep] * S[:keep].sqrt()
    return A, B


def kaiming(rows: int, columns: int, like: Tensor) -> Tensor:
    """Uniform on +-1/sqrt(columns)."""
    return (2 * torch.rand(rows, columns, dtype=torch.float64) - 1).div(math.sqrt(columns)).to(like)


def lora_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    B = W.new_zeros(W.shape[0], rank)
    A = kaiming(rank, W.shape[1], W)
    return {"B": B, "A": A}, {}


def lora_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    return m.kit.gamma(m, slot) * slot.B @ slot.A


LORA = Kit(lora_start, lora_delta, init="lora")
"""LoRA under rsLoRA's rule, alpha/sqrt(r): every capability but conversion."""

DROPPED = LORA.but(dropout=0.5)
"""The same with dropout on its input."""


def bias_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    trained, frozen = lora_start(W, rank, alpha, kit)
    return {**trained, "c": W.new_zeros(W.shape[0])}, frozen


BIASED = LORA.but(
    start=bias_start, init="identity", offset=lambda m, slot: m.kit.gamma(m, slot) * slot.c,
    lacks=("convert", "combine", "redistribute"),
)  # fmt: skip
"""LoRA whose up-projection has a bias c of its own: gamma (B A x + c)."""


def dora_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    trained, frozen = lora_start(W, rank, alpha, kit)
    return {**trained, "m": W.norm(dim=1)}, frozen


def dora_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    adapted = W + lora_delta(m, slot, W)
    norm = adapted.norm(dim=1).detach()
    return (slot.m / norm.where(norm > 0, 1.0))[:, None] * adapted - W


DORA = Kit(dora_start, dora_delta, rule="alpha/r", init="dora", lacks=("convert", "combine", "redistribute"))
"""DoRA: the adapted weight, each row brought to a trained length m."""


def frozen_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    trained, _ = lora_start(W, rank, alpha, kit)
    return {"B": trained["B"]}, {"A": trained["A"]}


FROZEN = Kit(frozen_start, lora_delta, init="lora-fa", rule="alpha/r", lacks=("convert", "combine", "redistribute"))
"""LoRA-FA: A stays at its init."""


def residual_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    gamma = as_rule(kit.rule).gamma(rank, alpha)
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    root = (S[:rank] / gamma).sqrt()
    A, B = root[:, None] * Vh[:rank], U[:, :rank] * root
    return {"B": B, "A": A}, {"A0": A, "B0": B}


def residual_build(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> Adapted:
    m = built(kit, rank, base, alpha)
    with torch.no_grad():
        base.weight.sub_(first_product(m, m.slot))
    return m


def first_product(m: Adapted, slot: Any) -> Tensor:
    """What the base weight lost at init; the user's scale has no part in it."""
    return as_rule(m.kit.rule).gamma(slot.rank, slot.alpha) * slot.B0 @ slot.A0


def residual_load(kit: Kit, data: Mapping[str, Any], base: nn.Linear) -> nn.Module:
    m = loaded(kit, data, base)
    if "A0" in data["tensors"]:
        with torch.no_grad():
            base.weight.sub_(first_product(m, m.slot).to(base.weight))
    return m


@torch.no_grad()
def residual_convert(m: Adapted) -> dict[str, Any]:
    """A plain LoRA of twice the rank on the pretrained weight: what was learned is the product now minus the product at init."""
    slot: Any = m.slot
    plain = Slot({"B": slot.B, "A": torch.cat([slot.A, slot.A0])}, {}, 2 * slot.rank, slot.alpha)
    rule = as_rule(m.kit.rule)
    old, new = rule.gamma(slot.rank, slot.alpha), rule.gamma(plain.rank, plain.alpha)
    B = torch.cat([slot.B * old * slot.s, -slot.B0 * old], dim=1) / new
    return {
        "rank": plain.rank, "alpha": plain.alpha, "rule": m.kit.rule, "s": 1.0, "trained": ["B", "A"],
        "tensors": {"B": B, "A": plain.get_parameter("A").detach().clone()},
    }  # fmt: skip


RESIDUAL = Kit(
    residual_start, lora_delta, init="pissa", build=residual_build, load=residual_load, convert=residual_convert,
    lacks=("add_adapter", "set_adapter", "combine", "redistribute", "delta"),
)  # fmt: skip
"""PiSSA: starts from the weight's largest singular triples, which the base weight loses."""


def fused_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    half = W.shape[0] // 2
    parts = {"q": (rank, half), "v": (2 * rank, W.shape[0] - half)}
    found: dict[str, Tensor] = {}
    for name, (r, rows) in parts.items():
        found |= {f"B_{name}": W.new_zeros(rows, r), f"A_{name}": kaiming(r, W.shape[1], W)}
    return found, {}


def fused_gammas(m: Adapted, slot: Any) -> tuple[float, float]:
    """Scale of the q and of the v rows: v has twice the rank and 3/2 of the alpha (a rank and an alpha pattern)."""
    rule = as_rule(m.kit.rule)
    return rule.gamma(slot.A_q.shape[0], slot.alpha) * slot.s, rule.gamma(slot.A_v.shape[0], 1.5 * slot.alpha) * slot.s


def fused_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    q, v = fused_gammas(m, slot)
    return torch.cat([q * slot.B_q @ slot.A_q, v * slot.B_v @ slot.A_v])


def fused_parts(m: Adapted) -> dict[str, Part]:
    """q and v as what they are: products of their own rank, alpha and rows."""
    slot, half = m.slot, m.slot.B_q.shape[0]
    q = Part(slot.B_q, slot.A_q, rank=slot.A_q.shape[0], alpha=slot.alpha, rows=(0, half))
    return {"q": q, "v": Part(slot.B_v, slot.A_v, rank=slot.A_v.shape[0], alpha=1.5 * slot.alpha, rows=(half, m.base.out_features))}


FUSED = Kit(fused_start, fused_delta, parts=fused_parts, lacks=("convert", "combine", "redistribute", "scale"))
"""A fused projection, its rows q above v, each half with factors, rank and alpha of its own."""


def expert_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    A = torch.stack([kaiming(rank, W.shape[1], W) for _ in range(2)])
    return {"B": W.new_zeros(2, W.shape[0], rank), "A": A}, {"gate": W.new_tensor([0.7, 0.3])}


def expert_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    return m.kit.gamma(m, slot) * torch.einsum("e,eor,eri->oi", slot.gate, slot.B, slot.A)


def expert_parts(m: Adapted) -> dict[str, Part]:
    """Both experts over all rows, each weighted by its gate."""
    slot = m.slot
    return {f"expert {e}": Part(slot.B[e], slot.A[e], rank=slot.rank, alpha=slot.alpha, weight=float(slot.gate[e])) for e in range(2)}


LIKE_LORA = {"gradient_norm": 0.0, "update:sgd": 0.0, "loss_decrease:sgd": 0.0, "update:adamw": 0.5, "loss_decrease:adamw": 0.5}
"""Powers of the rank of anything that adds products as LoRA does, drawn as LoRA is, under alpha/sqrt(r)."""

EXPERTS = Kit(expert_start, expert_delta, parts=expert_parts, exponents=LIKE_LORA, lacks=("convert", "combine", "redistribute"))
"""Two experts of rank r each, weighted by a router's frozen gates."""


def kronecker_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    d_out, d_in = W.shape
    return {"C": W.new_zeros(2, 2), "P": kaiming(d_out // 2, rank, W), "Q": kaiming(rank, d_in // 2, W)}, {}


def kronecker_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    return m.kit.gamma(m, slot) * torch.kron(slot.C, slot.P @ slot.Q)


KRONECKER = Kit(kronecker_start, kronecker_delta, rule="alpha/r", lacks=("convert", "combine", "redistribute"))
"""LoKr: a 2 x 2 factor C, zero at init, times a low-rank product."""
