"""Wrong structure: another function, the wrong parameters, adapters that reach into one another."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.conformance.subject import CAPABILITIES
from rsverify.definitions.rules import as_rule
from rsverify.testing.mutants import scenarios as use
from rsverify.testing.mutants.reference import (
    BIASED,
    DORA,
    DROPPED,
    EXPERTS,
    FROZEN,
    LORA,
    QKV,
    Adapted,
    Kit,
    activated,
    added,
    blocks_of,
    built,
    computed,
    dora_start,
    fused_gammas,
    kaiming,
    lora_delta,
    lora_start,
    truncated,
)  # fmt: skip
from rsverify.testing.mutants.registry import mutant


def build_bias_trains(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> nn.Module:
    m = built(kit, rank, base, alpha)
    if m.base.bias is not None:
        m.base.bias.requires_grad_(True)
    return m


mutant(
    "base_bias_trains", "the base's bias is left trainable though no biases were asked for",
    source="https://github.com/modelscope/mcore-bridge/pull/195", of=LORA, when=use.trained, hidden_by="layers without bias",
    build=build_bias_trains,
)  # fmt: skip


def switch_adds(m: Adapted, name: str) -> None:
    m.memory.setdefault("active", ["default"])
    if name not in m.memory["active"]:
        m.memory["active"].append(name)
    activated(m, name)


def forward_sum(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    names = m.memory.get("active", [m.active])
    return m.base(x) + sum(F.linear(x, m.kit.delta(m, m.slots[name], m.base.weight)) for name in names)


mutant(
    "switch_keeps_the_old_one", "set_adapter adds to the active adapters instead of replacing them: both act",
    source="https://github.com/huggingface/peft/issues/1303", of=LORA, when=use.second, hidden_by="one adapter",
    set_adapter=switch_adds, forward=forward_sum,
)  # fmt: skip


def forward_default(m: Adapted, x: Tensor) -> Tensor:
    return m.base(x) if m.kept is not None else m.base(x) + F.linear(x, m.kit.delta(m, m.slots["default"], m.base.weight))


mutant(
    "second_never_applied", "the second set of factors exists and is never read: the first acts whatever is active",
    source="https://github.com/huggingface/peft/pull/2710", of=LORA, when=use.second, hidden_by="one adapter", forward=forward_default,
)  # fmt: skip


def add_shared_projection(m: Adapted, name: str, rank: int, alpha: float) -> None:
    added(m, name, rank, alpha)
    new: Any = m.slots[name]
    for slot in m.slots.values():
        rows = min(slot.rank, rank)  # type: ignore[type-var]
        slot.get_buffer("A")[:rows] = new.A[:rows]


mutant(
    "second_overwrites_shared_projection", "the frozen projection is stored once for all adapters: adding one replaces the first one's",
    source="https://github.com/huggingface/peft/pull/1564", of=FROZEN, when=use.two, hidden_by="one adapter",
    add_adapter=add_shared_projection,
)  # fmt: skip


def add_takes_from_base(m: Adapted, name: str, rank: int, alpha: float) -> None:
    added(m, name, rank, alpha)
    slot: Any = m.slots[name]
    gamma = m.kit.gamma(m, slot)
    with torch.no_grad():
        A, B = truncated(m.base.weight / gamma, rank)
        slot.A.copy_(A)
        slot.B.copy_(B)
        m.base.weight.sub_(gamma * B @ A)


mutant(
    "second_changes_the_base", "a second adapter takes its singular vectors off the base weight that the first one uses",
    source="https://github.com/huggingface/peft/issues/2184", of=LORA, when=use.two, hidden_by="one adapter",
    add_adapter=add_takes_from_base,
)  # fmt: skip


def start_random_magnitude(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, frozen = dora_start(W, rank, alpha, kit)
    return {**trained, "m": kaiming(W.shape[0], W.shape[1], W).norm(dim=1)}, frozen


mutant(
    "magnitude_of_a_random_layer", "the magnitudes are computed before the pretrained weight is put in place",
    source="https://github.com/ml-explore/mlx-examples/pull/832", of=DORA, when=use.fresh, start=start_random_magnitude,
)  # fmt: skip


def delta_without_base_part(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    delta = lora_delta(m, slot, W)
    return (slot.m / (W + delta).norm(dim=1).detach())[:, None] * delta


mutant(
    "magnitude_not_on_the_base_part", "the magnitude scales B A x alone: the term (m / norm - 1) W x is missing",
    source="https://github.com/huggingface/peft/pull/1474", of=DORA, when=use.stirred, hidden_by="the init, where m / norm = 1",
    delta=delta_without_base_part,
)  # fmt: skip


def forward_trains_otherwise(m: Adapted, x: Tensor) -> Tensor:
    if not m.training:
        return computed(m, x)
    slot = m.slot
    return m.base(x) + as_rule("alpha/r").gamma(slot.rank, slot.alpha) * slot.s * F.linear(F.linear(x, slot.A), slot.B)


mutant(
    "training_and_evaluation_differ", "the branch taken in training has its own algebra, with alpha/r",
    source="https://github.com/nbasyl/DoRA/issues/2", of=LORA, when=use.in_training, hidden_by="evaluation mode",
    forward=forward_trains_otherwise,
)  # fmt: skip


def forward_cached(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    key = ("delta", m.active)
    if key not in m.memory:
        m.memory[key] = m.kit.delta(m, m.slot, m.base.weight)  # type: ignore[index]
    return m.base(x) + F.linear(x, m.memory[key])  # type: ignore[index]


mutant(
    "stale_delta", "the added weight is cached at the first call and never computed again",
    source="https://github.com/sgl-project/sglang/pull/29874", of=LORA, when=use.used_before, hidden_by="one call", forward=forward_cached,
)  # fmt: skip


def forward_stacks(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    m.memory["calls"] = m.memory.get("calls", 0) + 1
    return m.base(x) + m.memory["calls"] * F.linear(x, m.kit.delta(m, m.slot, m.base.weight))


mutant(
    "every_call_adds_once_more", "each call registers the added weight and does not take it off again",
    source="https://github.com/huggingface/peft/pull/2710", of=LORA, when=use.used_twice, hidden_by="one call", forward=forward_stacks,
)  # fmt: skip


def start_padded(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, frozen = lora_start(W, rank, alpha, kit)
    extra = -rank % 8
    B = torch.cat([trained["B"], W.new_full((W.shape[0], extra), 0.5)], dim=1)
    return {"B": B, "A": torch.cat([trained["A"], kaiming(extra, W.shape[1], W)])}, frozen


mutant(
    "padding_holds_garbage", "factors are padded to the largest rank with whatever the memory held",
    source="https://github.com/NovaSky-AI/SkyRL/pull/852", of=LORA, when=use.fresh, hidden_by="ranks that are multiples of 8",
    start=start_padded,
)  # fmt: skip


def forward_every_shard(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    delta, half = m.kit.delta(m, m.slot, m.base.weight), x.shape[-1] // 2
    shards = [F.linear(x[..., part], m.base.weight[:, part]) + F.linear(x, delta) for part in (slice(half), slice(half, None))]
    return shards[0] + shards[1] + (0 if m.base.bias is None else m.base.bias)


mutant(
    "counted_once_per_shard", "in a layer split over two devices the whole added output is put on each before the sum",
    source="https://github.com/NVIDIA-NeMo/Megatron-Bridge/pull/5635", of=LORA, when=use.stirred, hidden_by="one device",
    forward=forward_every_shard,
)  # fmt: skip


def forward_first_shard(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    mask = (torch.arange(x.shape[-1]) < x.shape[-1] // 2).to(x)
    return m.base(x) + F.linear(x * mask, m.kit.delta(m, m.slot, m.base.weight))


mutant(
    "shards_not_summed", "the sum over devices between A and B is missing: one half of the input reaches B",
    source="https://github.com/vllm-project/vllm-ascend/pull/14282", of=LORA, when=use.stirred, hidden_by="one device",
    forward=forward_first_shard,
)  # fmt: skip


def forward_rolled(m: Adapted, x: Tensor) -> Tensor:
    return m.base(x) if m.kept is not None else m.base(x) + F.linear(x, m.kit.delta(m, m.slot, m.base.weight).roll(1, 0))


mutant(
    "rows_not_permuted_with_the_base", "the base's rows were reordered for its heads, those of B were not",
    source="no thread found about an adapter (the base's own: https://github.com/ggml-org/llama.cpp/pull/3364)", of=LORA,
    when=use.stirred, hidden_by="B = 0", forward=forward_rolled,
)  # fmt: skip


def forward_ungated(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    return m.base(x) + m.kit.gamma(m, m.slot) * F.linear(x, torch.einsum("eor,eri->oi", m.slot.B, m.slot.A))


mutant(
    "experts_not_weighted", "the experts' outputs are summed without the router's weights",
    source="https://github.com/vllm-project/vllm/pull/47088", of=EXPERTS, when=use.stirred, hidden_by="one expert", forward=forward_ungated,
)  # fmt: skip


def forward_axes_exchanged(m: Adapted, x: Tensor) -> Tensor:
    y = computed(m, x)
    if x.ndim != 3 or m.kept is not None:
        return y
    branch = F.linear(x.flatten(0, 1), m.kit.delta(m, m.slot, m.base.weight))
    return m.base(x) + branch.unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1)


def batch_of_two(subject: Any, base: nn.Linear) -> nn.Module:
    """Two texts at once; the base has one."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = use.stirred(subject, base)

        def forward(self, x: Tensor) -> Tensor:
            return self.module(torch.cat([x, x.flip(1)]))[:1]

    return Twice()


mutant(
    "batch_and_sequence_exchanged", "the side branch flattens (batch, sequence) and unflattens (sequence, batch)",
    source="no thread found", of=LORA, when=batch_of_two, hidden_by="two axes, or a batch of one", forward=forward_axes_exchanged,
)  # fmt: skip


def forward_scales_input(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    y, gamma = m.base(x), m.kit.gamma(m, m.slot)
    with torch.no_grad():
        x.mul_(gamma)
    return y + F.linear(x, m.slot.B @ m.slot.A)


mutant(
    "input_scaled_in_place", "gamma is multiplied into the input in place: whoever uses that input next gets the scaled one",
    source="no thread found", of=LORA, when=use.stirred, hidden_by="looking at this layer's output alone", forward=forward_scales_input,
    offset=lambda m, slot: None,
)  # fmt: skip


FROZEN_ALONE = FROZEN.but(lacks=tuple(name for name in CAPABILITIES if name not in ("delta", "scale", "set_scale")))


def start_unregistered(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, _ = lora_start(W, rank, alpha, kit)
    return {"B": trained["B"]}, {}


def build_unregistered(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> nn.Module:
    m = built(kit, rank, base, alpha)
    object.__setattr__(m.slot, "A", kaiming(rank, base.in_features, base.weight))
    return m


def moved(subject: Any, base: nn.Linear) -> nn.Module:
    """Built in float32, then moved with the model to float64."""
    return use.stirred(subject, base.float()).to(torch.float64)


mutant(
    "projection_does_not_move", "the frozen projection is a plain attribute: .to(device or dtype) leaves it behind",
    source="no thread found",
    of=FROZEN_ALONE,
    when=moved, hidden_by="building on the final device", start=start_unregistered, build=build_unregistered,
)  # fmt: skip


def bias_forward_unscaled_by_user(m: Adapted, slot: Any) -> Tensor:
    return as_rule(m.kit.rule).gamma(slot.rank, slot.alpha) * slot.c


mutant(
    "zero_scale_leaves_the_bias", "the user's scale reaches B A but not the adapter's bias: at scale 0 the layer is not the base",
    source="https://github.com/huggingface/diffusers/issues/4751", of=BIASED, when=use.scaled(0.0), hidden_by="scale 1",
    offset=bias_forward_unscaled_by_user,
)  # fmt: skip


def forward_dropped_anew(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    return m.base(x) + F.linear(F.dropout(x, m.kit.dropout, training=True), m.kit.delta(m, m.slot, m.base.weight))


mutant(
    "dropout_in_evaluation", "the adapter's dropout stays on when the model is in evaluation mode",
    source="https://github.com/huggingface/peft/issues/3753", of=DROPPED, when=use.stirred, hidden_by="dropout 0",
    forward=forward_dropped_anew,
)  # fmt: skip


def build_nothing(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> nn.Module:
    return base.requires_grad_(False)


mutant(
    "target_never_matches", "the layer's name matches no target of the configuration: build returns the base and says nothing",
    source="https://github.com/MakazhanAlpamys/Soup/issues/392", of=LORA, when=use.stirred, hidden_by="the init, where both are the base",
    build=build_nothing,
)  # fmt: skip


def start_standardized(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, frozen = lora_start(W, rank, alpha, kit)
    A = trained["A"]
    variance = (A - A.mean(0)).square().sum(0) / (rank - 1)
    return {**trained, "A": A / (variance * 3 * W.shape[1]).sqrt()}, frozen


def rank_one(subject: Any, base: nn.Linear) -> nn.Module:
    return use.stir(subject.build(1, base, use.ALPHA).eval())


mutant(
    "rank_one_gives_nan", "the rows of A are brought to one standard deviation over the rank, which a single row does not have",
    source="no thread found", of=LORA, when=rank_one, hidden_by="ranks from 2", start=start_standardized,
)  # fmt: skip


def forward_mask_on_cpu(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    return m.base(x) + F.linear(x * torch.ones(x.shape[-1], dtype=x.dtype), m.kit.delta(m, m.slot, m.base.weight))


def moved_away(subject: Any, base: nn.Linear) -> nn.Module:
    """Moved to another device (one without data, which every machine has); the function is then read on the CPU."""
    module = use.stirred(subject, base)
    away = copy.deepcopy(module).to("meta")
    away(torch.empty(1, base.in_features, dtype=base.weight.dtype, device="meta"))
    return module


mutant(
    "tensor_made_on_the_cpu", "the forward pass makes a tensor without naming the input's device",
    source="https://github.com/huggingface/diffusers/issues/5897", of=LORA, when=moved_away, hidden_by="the CPU",
    forward=forward_mask_on_cpu,
)  # fmt: skip


def delta_blank_filled(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    q_scale, v_scale = fused_gammas(m, slot)
    k, v = blocks_of(W.shape[0])
    return torch.cat([q_scale * slot.B_q @ slot.A_q, v_scale * slot.B_v @ slot.A_v, W.new_zeros(v - k, W.shape[1])])


mutant(
    "blank_part_filled_by_the_next", "in a fused projection k has no adapter: q and v are stacked without a gap, and v adds to k's rows",
    source="https://github.com/sgl-project/sglang/pull/28199", of=QKV, when=use.stirred, hidden_by="adapting every part",
    delta=delta_blank_filled,
)  # fmt: skip


def delta_one_projection(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    q_scale, v_scale = fused_gammas(m, slot)
    k, v = blocks_of(W.shape[0])
    shared = torch.cat([slot.A_q, slot.A_q])
    return torch.cat([q_scale * slot.B_q @ slot.A_q, W.new_zeros(v - k, W.shape[1]), v_scale * slot.B_v @ shared])


mutant(
    "parts_share_one_projection", "a fused layer computes A x once, with the first part's A, and hands it to every part",
    source="no thread found", of=QKV, when=use.stirred, hidden_by="one part", delta=delta_one_projection,
)  # fmt: skip
