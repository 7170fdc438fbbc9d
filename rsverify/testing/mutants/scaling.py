"""Wrong scale: another gamma than the rule's, in one place or in all, or after something was done to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rsverify.definitions.rules import as_rule
from rsverify.testing.mutants import scenarios as use
from rsverify.testing.mutants.reference import (
    DORA,
    DROPPED,
    EXPERTS,
    LOKR_FREE,
    LORA,
    QKV,
    RESIDUAL,
    Adapted,
    Kit,
    Slot,
    blocks_of,
    combined,
    computed,
    redistributed,
    rescaled,
    residual_start,
    ruled,
    truncated,
)  # fmt: skip
from rsverify.testing.mutants.registry import mutant

mutant(
    "raw_alpha", "gamma = alpha: nobody divides by the rank", source="https://github.com/Blaizzy/mlx-vlm/issues/841", of=LORA,
    when=use.stirred, hidden_by="rank 1", gamma=lambda m, slot: slot.alpha * slot.s,
)  # fmt: skip

mutant(
    "inverted", "gamma = r / alpha", source="https://github.com/kohya-ss/sd-webui-additional-networks/issues/49", of=LORA,
    when=use.stirred, hidden_by="alpha = r", gamma=lambda m, slot: slot.rank / slot.alpha * slot.s,
)  # fmt: skip

mutant(
    "hard_coded", "gamma = 1 whatever alpha and rank are", source="https://github.com/mflux-community/mflux/pull/449", of=LORA,
    when=use.stirred, hidden_by="one rank and alpha = r", gamma=lambda m, slot: slot.s,
)  # fmt: skip

mutant(
    "integer_division", "gamma = alpha // r: truncated, and 0 where alpha < r", source="no thread found", of=LORA.but(rule="alpha/r"),
    when=use.stirred, hidden_by="alpha a multiple of r", gamma=lambda m, slot: float(slot.alpha // slot.rank) * slot.s,
)  # fmt: skip


def forward_unscaled(m: Adapted, x: Tensor) -> Tensor:
    return m.base(x) if m.kept is not None else m.base(x) + F.linear(F.linear(x, m.slot.A), m.slot.B)


mutant(
    "dropped_in_forward", "the forward pass adds B A x without gamma, which only the merge has",
    source="https://github.com/PrimeIntellect-ai/prime-rl/pull/1282", of=LORA, when=use.stirred, hidden_by="alpha = r",
    forward=forward_unscaled,
)  # fmt: skip


def set_alpha_over_r(m: Adapted, s: float) -> None:
    m.slot.s = s * as_rule("alpha/r").gamma(m.slot.rank, m.slot.alpha) / as_rule(m.kit.rule).gamma(m.slot.rank, m.slot.alpha)


mutant(
    "set_scale_by_alpha_over_r", "set_scale(s) writes s * alpha / r although the layer was built with alpha / sqrt(r)",
    source="https://github.com/huggingface/peft/issues/2733", of=LORA, when=use.scaled(1.0), hidden_by="the rule alpha/r, rank 1",
    set_scale=set_alpha_over_r,
)  # fmt: skip


def set_compounding(m: Adapted, s: float) -> None:
    m.slot.s *= s


mutant(
    "set_scale_compounds", "set_scale multiplies the scale in force: called twice with 2 it gives 4",
    source="https://github.com/huggingface/diffusers/pull/5417", of=LORA, when=use.scaled(1.7, 1.7), hidden_by="one call, or s = 1",
    set_scale=set_compounding,
)  # fmt: skip


def set_absolute(m: Adapted, s: float) -> None:
    m.slot.s = s / as_rule(m.kit.rule).gamma(m.slot.rank, m.slot.alpha)


mutant(
    "set_scale_replaces_gamma", "the user's scale takes gamma's place instead of multiplying it", source="no thread found", of=LORA,
    when=use.scaled(1.7), hidden_by="gamma = 1", set_scale=set_absolute,
)  # fmt: skip


def set_per_call(m: Adapted, s: float) -> None:
    m.memory["s"] = s


def forward_not_undone(m: Adapted, x: Tensor) -> Tensor:
    m.slot.s *= m.memory.get("s", 1.0)
    return computed(m, x)


mutant(
    "scale_not_undone_after_a_call", "every call multiplies gamma by the user's scale and does not divide it out again",
    source="https://github.com/damian0815/compel/issues/42", of=LORA, when=use.scaled_and_used, hidden_by="one call",
    set_scale=set_per_call, forward=forward_not_undone,
)  # fmt: skip


def set_zero_folds(m: Adapted, s: float) -> None:
    if s == 0:
        m.slot.B.data.zero_()
    rescaled(m, s)


mutant(
    "zero_scale_wipes_the_factor", "a scale of 0 is multiplied into a factor: setting it back to 1 gives nothing",
    source="https://github.com/siliconflow/onediff/pull/926", of=LORA, when=use.scaled(0.0, 1.0), hidden_by="scales other than 0",
    set_scale=set_zero_folds,
)  # fmt: skip


def set_by_ratio(m: Adapted, s: float) -> None:
    m.slot.B.data.mul_(torch.tensor(s) / torch.tensor(m.memory.get("s", 1.0)))
    m.memory["s"] = s


mutant(
    "zero_scale_cannot_be_undone", "a new scale divides by the old one, which may be 0", source="docs/research/peft_defects.md, A12",
    of=LORA, when=use.scaled(0.0, 1.0), hidden_by="scales other than 0", set_scale=set_by_ratio,
    scale=lambda m: ruled(m, m.slot) * m.memory.get("s", 1.0),
)  # fmt: skip


def gamma_cached(m: Adapted, slot: Any) -> float:
    return m.memory.setdefault(f"gamma of {id(slot)}", ruled(m, slot))


mutant(
    "new_scale_not_seen", "gamma is cached at first use, so that another scale of the same adapter does nothing",
    source="https://github.com/lucataco/cog-flux-dev-multi-lora/issues/7", of=LORA, when=use.scaled(1.7),
    hidden_by="setting the scale before the first call", gamma=gamma_cached,
)  # fmt: skip


def set_first(m: Adapted, s: float) -> None:
    m.slots["default"].s = s  # type: ignore[assignment]


mutant(
    "scale_lands_on_the_wrong_adapter", "scales are kept by position: the active adapter's scale goes to the first one",
    source="https://github.com/mflux-community/mflux/issues/629", of=LORA, when=use.second_scaled, hidden_by="one adapter",
    set_scale=set_first,
)  # fmt: skip

mutant(
    "added_adapter_ignores_the_rule", "only the first adapter's scale follows the rule; those added later recompute alpha / r",
    source="https://github.com/vllm-project/vllm/issues/55545", of=LORA, when=use.second, hidden_by="one adapter",
    gamma=lambda m, slot: ruled(m, slot, None if slot is m.slots["default"] or "default" not in m.slots else "alpha/r"),
)  # fmt: skip


def resize_keeps_scale(m: Adapted, rank: int) -> None:
    before = ruled(m, m.slot)
    redistributed(m, rank)
    m.slot.s *= before / ruled(m, m.slot)


mutant(
    "resized_under_the_old_scale", "factors are made for the new rank's gamma, the old rank's gamma stays in force",
    source="https://github.com/WalkingMeatAxolotl/AnimaLoraStudio/pull/241", of=LORA, when=use.redistributed(9), hidden_by="the same rank",
    redistribute=resize_keeps_scale,
)  # fmt: skip


@torch.no_grad()
def resize_by_alpha_over_r(m: Adapted, rank: int) -> None:
    old = m.slot.rank
    redistributed(m, rank)
    m.slot.B.mul_((rank / old) ** 0.5)


mutant(
    "resized_by_the_wrong_rule", "factors are rescaled so that alpha / r is kept, though the rule is alpha / sqrt(r)",
    source="docs/research/peft_defects.md, A7", of=LORA, when=use.redistributed(9), hidden_by="the rule alpha/r",
    redistribute=resize_by_alpha_over_r,
)  # fmt: skip


def resize_stale_rank(m: Adapted, rank: int) -> None:
    old = m.slot.rank
    redistributed(m, rank)
    now = ruled(m, m.slot)
    m.slot.rank = old
    m.slot.s *= now / ruled(m, m.slot)


mutant(
    "stale_rank_after_a_swap", "new factors and the new gamma are in force, but the old rank is kept: set_scale(1) goes back to its gamma",
    source="https://github.com/huggingface/peft/issues/3581", of=LORA, when=use.redistributed_and_scaled,
    hidden_by="never calling set_scale", redistribute=resize_stale_rank,
)  # fmt: skip


@torch.no_grad()
def resize_by_position(m: Adapted, rank: int) -> None:
    old = m.slot
    keep = min(rank, old.rank)
    A, B = old.A.new_zeros(rank, old.A.shape[1]), old.B.new_zeros(old.B.shape[0], rank)
    new = Slot({"B": B, "A": A}, {}, rank, old.alpha)
    new.s = old.s
    new.get_parameter("A")[:keep] = old.A[:keep]
    new.get_parameter("B")[:, :keep] = old.B[:, :keep] * ruled(m, old) / ruled(m, new)
    m.slots[m.active] = new


mutant(
    "pruned_by_position", "a smaller rank keeps the first components, not the most important ones",
    source="https://github.com/huggingface/peft/issues/1801", of=LORA, when=use.redistributed(3), hidden_by="growing the rank",
    redistribute=resize_by_position,
)  # fmt: skip


@torch.no_grad()
def combine_twice_gamma(m: Adapted, names: Sequence[str], weights: Sequence[float]) -> str:
    name = combined(m, names, weights)
    slot: Any = m.slots[name]
    slot.B.mul_(m.kit.gamma(m, slot))
    return name


mutant(
    "combined_with_gamma_twice", "the factors of a combination hold the old scales, and the new adapter applies its own once more",
    source="https://github.com/huggingface/peft/issues/3761", of=LORA, when=use.combined(1.0), hidden_by="gamma = 1",
    combine=combine_twice_gamma,
)  # fmt: skip


@torch.no_grad()
def combine_weights_both(m: Adapted, names: Sequence[str], weights: Sequence[float]) -> str:
    return combined(m, names, [w * abs(w) for w in weights])


mutant(
    "combined_with_weights_twice", "the weight goes into both factors instead of its root: w acts as w**2",
    source="https://github.com/huggingface/peft/pull/1169", of=LORA, when=use.combined(0.3, 0.7), hidden_by="weight 1",
    combine=combine_weights_both,
)  # fmt: skip

mutant(
    "combined_without_sign", "the root of |w| goes into both factors: weight -1 acts as +1",
    source="https://github.com/huggingface/peft/pull/2918", of=LORA, when=use.combined(1.0, -1.0), hidden_by="positive weights",
    combine=lambda m, names, weights: combined(m, names, [abs(w) for w in weights]),
)  # fmt: skip

mutant(
    "combined_without_weights", "a combination is the same whatever its weights are",
    source="https://github.com/cloneofsimo/lora/issues/187", of=LORA, when=use.combined(0.3, 0.7), hidden_by="weight 1",
    combine=lambda m, names, weights: combined(m, names, [1.0 for _ in weights]),
)  # fmt: skip


@torch.no_grad()
def combine_sums_factors(m: Adapted, names: Sequence[str], weights: Sequence[float]) -> str:
    slots: list[Any] = [m.slots[name] for name in names]
    rank = max(slot.rank for slot in slots)
    A, B = slots[0].A.new_zeros(rank, slots[0].A.shape[1]), slots[0].B.new_zeros(slots[0].B.shape[0], rank)
    for w, slot in zip(weights, slots, strict=True):
        A[: slot.rank] += slot.A
        B[:, : slot.rank] += w * slot.B
    m.slots["combined"] = Slot({"B": B, "A": A}, {}, rank, slots[0].alpha)
    return "combined"


mutant(
    "combined_factor_by_factor", "factors are summed one by one: products of one adapter's B with the other's A appear",
    source="no thread found", of=LORA, when=use.combined(0.3, 0.7), hidden_by="combining one adapter", combine=combine_sums_factors,
)  # fmt: skip

mutant(
    "told_scale_squared", "the function that tells the added weight multiplies a scaled product by gamma again",
    source="docs/research/peft_defects.md, L1", of=LORA.but(merge=lambda m: merge_told(m)), when=use.merged, hidden_by="gamma = 1",
    told=lambda m: m.kit.gamma(m, m.slot) * m.kit.delta(m, m.slot, m.pristine),
)  # fmt: skip


@torch.no_grad()
def merge_told(m: Adapted) -> None:
    """A merge that trusts what it is told."""
    if m.kept is None:
        told = m.kit.told(m)
        m.kept = (m.base.weight.clone(), None if m.base.bias is None else m.base.bias.clone())
        m.base.weight.add_(told)


def delta_scales_result(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    adapted = W + slot.B @ slot.A
    norm = adapted.norm(dim=1).detach()
    return m.kit.gamma(m, slot) * ((slot.m / norm.where(norm > 0, 1.0))[:, None] * adapted - W)


mutant(
    "gamma_outside_the_norm", "gamma multiplies the difference that DoRA makes, not the product inside its norm",
    source="https://github.com/AUTOMATIC1111/stable-diffusion-webui/pull/16151", of=DORA, when=use.stirred, hidden_by="alpha = r",
    delta=delta_scales_result,
)  # fmt: skip


def forward_counts_experts(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    slot = m.slot
    ratio = as_rule(m.kit.rule).gamma(2 * slot.rank, slot.alpha) / as_rule(m.kit.rule).gamma(slot.rank, slot.alpha)
    return m.base(x) + ratio * F.linear(x, m.kit.delta(m, slot, m.base.weight))


mutant(
    "experts_counted_in_the_rank", "the forward pass takes the rank of all experts together, everything else that of one",
    source="https://github.com/huggingface/peft/pull/3007", of=EXPERTS, when=use.stirred, hidden_by="one expert",
    forward=forward_counts_experts,
)  # fmt: skip


def start_unscaled(W: Tensor, rank: int, alpha: float, kit: Kit) -> Any:
    _, frozen = residual_start(W, rank, alpha, kit)
    A, B = truncated(W, rank)
    return {"B": B, "A": A}, frozen


mutant(
    "svd_init_without_scale", "the factors at init hold the whole product, as if gamma were 1, and the base loses that product alone",
    source="docs/research/peft_defects.md, A11", of=RESIDUAL, when=use.fresh, hidden_by="alpha = r", start=start_unscaled,
)  # fmt: skip


def forward_evaluation_factor(m: Adapted, x: Tensor) -> Tensor:
    if m.training or m.kept is not None:
        return computed(m, x)
    return m.base(x) + (1 - m.kit.dropout) * F.linear(x, m.kit.delta(m, m.slot, m.base.weight))


mutant(
    "dropout_factor_in_evaluation", "dropout already divides by 1 - p in training, and evaluation multiplies by 1 - p as well",
    source="https://github.com/ooples/AiDotNet/pull/256", of=DROPPED, when=use.stirred, hidden_by="dropout 0",
    forward=forward_evaluation_factor,
)  # fmt: skip

mutant(
    "told_scale_lacks_the_users", "the scale that users are told is the rule's, without their own", source="no thread found", of=LORA,
    when=lambda subject, base: told_scale_used(subject, base), hidden_by="scale 1",
    scale=lambda m: as_rule(m.kit.rule).gamma(m.slot.rank, m.slot.alpha),
)  # fmt: skip


def told_scale_used(subject: Any, base: Any) -> Any:
    """An export that multiplies the factors by the scale it is told."""
    module: Any = use.scaled(1.7)(subject, base)
    with torch.no_grad():
        base.weight.add_(subject.scale(module) * module.slot.B @ module.slot.A)
    return base


def delta_one_rank(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    rule, rank = as_rule(m.kit.rule), slot.A_q.shape[0] + slot.A_v.shape[0]
    k, v = blocks_of(W.shape[0])
    q_part = rule.gamma(rank, slot.alpha) * slot.s * slot.B_q @ slot.A_q
    v_part = rule.gamma(rank, 1.5 * slot.alpha) * slot.s * slot.B_v @ slot.A_v
    return torch.cat([q_part, W.new_zeros(v - k, W.shape[1]), v_part])


mutant(
    "one_scale_for_a_fused_projection", "a fused projection is stored as one factor of its parts' ranks together, and scaled by that rank",
    source="https://github.com/kohya-ss/sd-scripts/issues/2204", of=QKV, when=use.stirred, hidden_by="one part", delta=delta_one_rank,
)  # fmt: skip

mutant(
    "experts_counted_in_every_rank", "the rank that the scale divides by is that of all experts together, everywhere",
    source="https://github.com/NVIDIA-NeMo/Automodel/pull/1300", of=EXPERTS, when=use.stirred, hidden_by="one expert",
    gamma=lambda m, slot: as_rule(m.kit.rule).gamma(2 * slot.rank, slot.alpha) * slot.s,
)  # fmt: skip

mutant(
    "full_matrix_scaled_by_the_root_of_the_rank", "where a full matrix stands in alpha is set to the rank for a scale of 1, and"
    " then divided by the root of the rank", source="docs/research/peft_defects.md, L2", of=LOKR_FREE,
    when=use.at_rank(48, use.stirred), hidden_by="ranks below the limit",
    gamma=lambda m, slot: slot.rank**0.5 * slot.s if hasattr(slot, "w2") else ruled(m, slot),
)  # fmt: skip

mutant(
    "full_matrix_scaled_by_a_rank_it_has_not", "alpha is divided by the rank where a full matrix stands in, whose scale is 1 where the file"
    " comes from", source="docs/research/peft_defects.md, A13", of=LOKR_FREE, when=use.at_rank(48, use.stirred),
    hidden_by="ranks below the limit",
    gamma=lambda m, slot: ruled(m, slot),
)  # fmt: skip
