"""Wrong training: inits, gradients and trained parameters that change how the adapter moves, with rank and at all."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.testing.mutants import scenarios as use
from rsverify.testing.mutants.reference import (
    DORA,
    EXPERTS,
    FROZEN,
    KRONECKER,
    LORA,
    RESIDUAL,
    Adapted,
    Kit,
    built,
    computed,
    dora_start,
    expert_start,
    kaiming,
    lora_delta,
    lora_start,
    residual_start,
    ruled,
)  # fmt: skip
from rsverify.testing.mutants.registry import mutant


def start_zero(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    return {"B": W.new_zeros(W.shape[0], rank), "A": W.new_zeros(rank, W.shape[1])}, {}


mutant(
    "both_factors_zero", "A is zero as well as B: no gradient ever reaches either",
    source="https://github.com/circle-hit/SAPT/issues/11", of=LORA, when=use.trained, hidden_by="looking at the init's output",
    start=start_zero,
)  # fmt: skip


def start_random(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    return {"B": kaiming(W.shape[0], rank, W), "A": kaiming(rank, W.shape[1], W)}, {}


mutant(
    "last_factor_not_zero", "B is drawn like A: the adapter changes the model before any training",
    source="https://github.com/hao-ai-lab/FastVideo/pull/781", of=LORA, when=use.fresh, start=start_random,
)  # fmt: skip


def start_exchanged(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    return {"B": kaiming(W.shape[0], rank, W), "A": W.new_zeros(rank, W.shape[1])}, {}


mutant(
    "roles_of_the_factors_exchanged", "A is zero and B is drawn: the same output at init, other powers of the rank afterwards",
    source="https://github.com/microsoft/LoRA/issues/121", of=LORA, when=use.trained, hidden_by="looking at the init's output",
    start=start_exchanged,
)  # fmt: skip


def start_wrong_fan(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, frozen = lora_start(W, rank, alpha, kit)
    return {**trained, "A": trained["A"] * math.sqrt(3 * W.shape[1] / rank)}, frozen


mutant(
    "wrong_fan", "A has variance 1 / r instead of 1 / (3 d_in): |A x| no longer grows with rank, and the stable rule is another one",
    source="https://github.com/circle-hit/SAPT/issues/11", of=LORA, when=use.trained, hidden_by="one rank", start=start_wrong_fan,
)  # fmt: skip


@torch.no_grad()
def build_scaled_by_rank(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> nn.Module:
    m = built(kit, rank, base, alpha)
    m.slot.A.mul_(math.sqrt(rank))
    return m


mutant(
    "projection_grows_with_rank", "after the init A is multiplied by sqrt(r), as if to make up for the scale",
    source="no thread found", of=LORA, when=use.trained, hidden_by="one rank", build=build_scaled_by_rank,
)  # fmt: skip


def start_svd_low(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, frozen = residual_start(W, rank, alpha, kit)
    return {name: value.bfloat16().to(W) for name, value in trained.items()}, frozen


mutant(
    "svd_init_rounded", "the singular vectors are stored in bfloat16, their exact product is taken off the base",
    source="docs/research/peft_defects.md, C10", of=RESIDUAL, when=use.fresh, hidden_by="coarse tolerances", start=start_svd_low,
)  # fmt: skip

mutant(
    "gradient_severed", "the added weight is built from a detached A: A never learns",
    source="https://github.com/NVIDIA-NeMo/Megatron-Bridge/pull/5635", of=LORA, when=use.trained, hidden_by="the first step, and inference",
    delta=lambda m, slot, W: m.kit.gamma(m, slot) * slot.B @ slot.A.detach(),
)  # fmt: skip


def delta_norm_learns(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    adapted = W + lora_delta(m, slot, W)
    norm = adapted.norm(dim=1)
    return (slot.m / norm.where(norm > 0, 1.0))[:, None] * adapted - W


mutant(
    "norm_carries_gradient", "the norm of DoRA, a constant in the backward pass by definition, is differentiated",
    source="https://github.com/huggingface/peft/pull/1474", of=DORA, when=use.trained, hidden_by="inference", delta=delta_norm_learns,
)  # fmt: skip


def start_lost_magnitude(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, _ = dora_start(W, rank, alpha, kit)
    return {"B": trained["B"], "A": trained["A"]}, {"m": trained["m"]}


mutant(
    "magnitude_is_no_parameter", "Parameter(m).to(dtype) is a plain tensor: the magnitudes never train",
    source="https://github.com/Nerogar/OneTrainer/pull/1464", of=DORA, when=use.trained, hidden_by="inference", start=start_lost_magnitude,
)  # fmt: skip


def forward_gradient_unscaled(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    branch = F.linear(F.linear(x, m.slot.A), m.slot.B)
    return m.base(x) + branch + ((m.kit.gamma(m, m.slot) - 1) * branch).detach()


mutant(
    "gamma_missing_in_backward", "a hand-written backward pass leaves gamma out",
    source="https://github.com/axolotl-ai-cloud/axolotl/pull/3528", of=LORA, when=lambda subject, base: descended(subject, base),
    hidden_by="gamma = 1, and Adam, which divides it out", forward=forward_gradient_unscaled,
)  # fmt: skip


def descended(subject: Any, base: nn.Linear) -> nn.Module:
    """Two steps of SGD, which does not forgive a wrong scale of the gradient."""
    module = subject.build(use.RANK, base, use.ALPHA).eval()
    able = [p for p in module.parameters() if p.requires_grad]
    for _ in range(2):
        with use.placed(module) as whole:
            loss = use.next_token_loss(whole(use.tokens()), use.tokens())
        for p, g in zip(able, torch.autograd.grad(loss, able, allow_unused=True), strict=True):
            if g is not None:
                p.data.sub_(0.3 * g)
    return module


def forward_input_detached(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    return m.base(x) + F.linear(x.detach(), m.kit.delta(m, m.slot, m.base.weight))


mutant(
    "input_gradient_omitted", "the fused backward pass returns the base's input gradient without the adapter's part",
    source="https://github.com/foundation-model-stack/fms-acceleration/issues/97", of=LORA, when=use.layer_below_trained,
    hidden_by="looking at parameter gradients alone", forward=forward_input_detached,
)  # fmt: skip


def delta_unguarded(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    adapted = W + lora_delta(m, slot, W)
    return (slot.m / adapted.norm(dim=1).detach())[:, None] * adapted - W


def pruned_fresh(subject: Any, base: nn.Linear) -> nn.Module:
    """A base layer with a row of zeros, as pruning leaves it, at init."""
    with torch.no_grad():
        base.weight[0] = 0
    return use.fresh(subject, base)


mutant(
    "zero_row_gives_nan", "the norm of a row of zeros divides it", source="docs/research/peft_defects.md, B8", of=DORA, when=pruned_fresh,
    hidden_by="dense weights", delta=delta_unguarded,
)  # fmt: skip


def switch_freezes(m: Adapted, name: str) -> None:
    m.active = name
    for other, slot in m.slots.items():
        if other != name:
            slot.requires_grad_(False)


mutant(
    "switching_back_leaves_it_frozen", "set_adapter freezes the adapters left and never unfreezes the one taken",
    source="https://github.com/huggingface/peft/issues/2759", of=LORA, when=use.switched_and_trained, hidden_by="one adapter",
    set_adapter=switch_freezes,
)  # fmt: skip


def start_same_everywhere(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return lora_start(W, rank, alpha, kit)


mutant(
    "every_layer_draws_the_same", "the generator is seeded anew for every layer: all layers share one A",
    source="https://github.com/NovaSky-AI/SkyRL/pull/852", of=LORA, when=use.trained, hidden_by="one layer", start=start_same_everywhere,
)  # fmt: skip


def forward_input_low(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    return m.base(x) + F.linear(x.bfloat16().to(x), m.kit.delta(m, m.slot, m.base.weight))


mutant(
    "input_rounded", "the input is cast to bfloat16 to fit a dtype that the factors once had",
    source="https://github.com/unslothai/unsloth/pull/7020", of=LORA, when=use.stirred, hidden_by="bfloat16 models",
    forward=forward_input_low,
)  # fmt: skip


def forward_half_the_batch(m: Adapted, x: Tensor) -> Tensor:
    y = computed(m, x)
    # Rows of the last dimension but one: positions of a sequence, or samples of a batch.
    learns = (torch.arange(x.shape[-2]) < (x.shape[-2] + 1) // 2).to(x)[:, None] if x.ndim > 1 else 1.0
    return y * learns + y.detach() * (1 - learns)


mutant(
    "gradient_of_one_shard", "a factor that is copied to every device gets the gradient of its own share of the samples only",
    source="https://github.com/modelscope/mcore-bridge/pull/173", of=LORA, when=lambda subject, base: descended(subject, base),
    hidden_by="one device", forward=forward_half_the_batch,
)  # fmt: skip


def forward_float32(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    return m.base(x) + F.linear(x.float(), m.kit.delta(m, m.slot, m.base.weight).float()).to(x)


mutant(
    "computes_in_float32", "the added weight is computed in float32 whatever the model's dtype is",
    source="docs/research/peft_defects.md, D13",
    of=LORA, when=use.stirred, hidden_by="float32", forward=forward_float32,
)  # fmt: skip


def start_frozen_A(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, _ = lora_start(W, rank, alpha, kit)
    return {"B": trained["B"]}, {"A": trained["A"]}


mutant(
    "trained_factor_frozen", "A is stored as a buffer and never trains, though the adapter is LoRA", source="no thread found", of=LORA,
    when=use.trained, hidden_by="inference", start=start_frozen_A,
)  # fmt: skip

mutant(
    "frozen_factor_trains", "the projection that is frozen by definition is a parameter like any other", source="no thread found",
    of=FROZEN,
    when=use.trained, hidden_by="inference", start=lora_start,
)  # fmt: skip


def delta_first_expert_learns(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    B, A = (torch.cat([factor[:1], factor[1:].detach()]) for factor in (slot.B, slot.A))
    return m.kit.gamma(m, slot) * torch.einsum("e,eor,eri->oi", slot.gate, B, A)


mutant(
    "experts_left_frozen", "only the first expert's factors are in the graph", source="https://github.com/unslothai/unsloth/pull/6936",
    of=EXPERTS,
    when=use.trained, hidden_by="one expert", delta=delta_first_expert_learns,
)  # fmt: skip

mutant(
    "rank_never_changes", "the allocation step that changes ranks is never called",
    source="https://github.com/huggingface/peft/issues/1801",
    of=LORA, when=use.redistributed(3), hidden_by="the same rank", redistribute=lambda m, rank: None,
)  # fmt: skip


def kronecker_dead(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    d_out, d_in = W.shape
    return {"C": W.new_zeros(2, 2), "P": kaiming(d_out // 2, rank, W), "Q": W.new_zeros(rank, d_in // 2)}, {}


mutant(
    "two_conventions_both_zero", "one library zeroes the first factor, another the last; the port does both: nothing ever learns",
    source="https://github.com/nvidia-cosmos/cosmos-predict2.5/pull/15", of=KRONECKER, when=use.trained,
    hidden_by="looking at the init's output", start=kronecker_dead,
)  # fmt: skip


def start_dora_by_rank(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, frozen = dora_start(W, rank, alpha, kit)
    return {**trained, "A": trained["A"] * math.sqrt(3 * W.shape[1] / rank)}, frozen


mutant(
    "dora_drawn_by_the_rank", "A of a DoRA has variance 1 / r: |A x| no longer grows with the rank", source="no thread found", of=DORA,
    when=use.trained, hidden_by="one rank", start=start_dora_by_rank,
)  # fmt: skip

mutant(
    "dora_scaled_by_the_rank", "the branch that computes DoRA's norm divides alpha by the rank, though its root was asked for",
    source="no thread found", of=DORA.but(rule="alpha/sqrt(r)"), when=use.stirred, hidden_by="rank 1",
    gamma=lambda m, slot: ruled(m, slot, "alpha/r"),
)  # fmt: skip


def start_experts_by_rank(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    trained, frozen = expert_start(W, rank, alpha, kit)
    return {**trained, "A": trained["A"] * math.sqrt(3 * W.shape[1] / rank)}, frozen


mutant(
    "experts_drawn_by_the_rank", "a stack of experts' factors takes its fan from the wrong axis: A has variance 1 / r",
    source="no thread found", of=EXPERTS, when=use.trained, hidden_by="one rank", start=start_experts_by_rank,
)  # fmt: skip
