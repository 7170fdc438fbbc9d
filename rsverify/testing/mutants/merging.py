"""Wrong merging: the weight after merge, the function after merge, or the weight after unmerge is another one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.testing.mutants import scenarios as use
from rsverify.testing.mutants.reference import (
    BIASED,
    DORA,
    DROPPED,
    FUSED,
    LOKR,
    LORA,
    QKV,
    Adapted,
    added,
    blocks_of,
    dora_start,
    fused_gammas,
    lora_delta,
    merged,
    ruled,
    unmerged,
    wide,
)  # fmt: skip
from rsverify.testing.mutants.registry import mutant


@torch.no_grad()
def merge_other(m: Adapted, delta: Tensor, offset: Tensor | None = None) -> None:
    """A merge of another weight than the right one."""
    if m.kept is None:
        m.kept = (m.base.weight.clone(), None if m.base.bias is None else m.base.bias.clone())
        m.base.weight.copy_(m.base.weight.to(delta.dtype) + delta)
        if offset is not None and m.base.bias is None:
            m.base.bias = nn.Parameter(offset.to(m.base.weight), requires_grad=False)
        elif offset is not None:
            m.base.bias.add_(offset)


@torch.no_grad()
def merge_again(m: Adapted) -> None:
    if m.kept is None:
        merged(m)
    else:
        m.base.weight.add_(m.kit.delta(m, m.slot, m.kept[0]))


mutant(
    "merged_twice", "merging keeps no flag: a second call adds the weight again",
    source="https://github.com/jingyaogong/minimind/pull/598", of=LORA, when=use.merged_twice, hidden_by="one call", merge=merge_again,
)  # fmt: skip

mutant(
    "parent_and_child_merge", "a parent module adds the child's weight and then has the child merge itself; unmerging undoes both",
    source="https://github.com/huggingface/peft/pull/3774", of=LORA, when=use.merged, hidden_by="merge and unmerge together",
    merge=lambda m: merge_other(m, 2 * wide(m)[0]),
)  # fmt: skip

mutant(
    "merge_does_nothing", "merging returns without touching the weight: what is exported is the base",
    source="https://github.com/huggingface/trl/issues/386", of=LORA, when=use.exported, hidden_by="using the module, which still adapts",
    merge=lambda m: None,
)  # fmt: skip


def forward_counts_both(m: Adapted, x: Tensor) -> Tensor:
    return m.base(x) + F.linear(x, m.kit.delta(m, m.slot, m.pristine))


mutant(
    "forward_adds_to_the_merged", "the forward pass does not ask whether the weight is merged: the adapter acts twice",
    source="no thread found", of=LORA, when=use.merged, hidden_by="looking at weights alone", forward=forward_counts_both,
)  # fmt: skip


def merge_flag_only(m: Adapted) -> None:
    m.kept = (m.base.weight.detach().clone(), None if m.base.bias is None else m.base.bias.detach().clone())


mutant(
    "merged_flag_without_weight", "the flag says merged, so the side branch is left out, but the weight is still the base's",
    source="https://github.com/ExponentialML/Text-To-Video-Finetuning/pull/112", of=LORA, when=use.merged, hidden_by="training mode",
    merge=merge_flag_only,
)  # fmt: skip


@torch.no_grad()
def unmerge_recomputed(m: Adapted) -> None:
    if m.kept is not None:
        m.base.weight.sub_(m.kit.delta(m, m.slot, m.kept[0]))
        m.kept = None


mutant(
    "unmerge_by_todays_factors", "unmerging subtracts what scale and factors give now, not what was added",
    source="https://github.com/huggingface/peft/pull/3590", of=LORA, when=use.changed_while_merged, hidden_by="nothing changed in between",
    unmerge=unmerge_recomputed,
)  # fmt: skip


@torch.no_grad()
def unmerge_at_one(m: Adapted) -> None:
    if m.kept is not None:
        m.base.weight.sub_(m.kit.delta(m, m.slot, m.kept[0]) / (m.slot.s or 1.0))
        m.kept = None


mutant(
    "unmerge_forgets_the_users_scale", "what was merged at scale s is taken out at scale 1",
    source="https://github.com/huggingface/diffusers/issues/5604", of=LORA, when=use.unmerged, hidden_by="scale 1", unmerge=unmerge_at_one,
)  # fmt: skip


mutant(
    "merge_ignores_the_rule", "the merge tool computes alpha / r, the forward pass follows the rule",
    source="https://github.com/paiml/aprender/pull/2189", of=LORA, when=use.merged, hidden_by="the rule alpha/r",
    merge=lambda m: merge_other(m, wide(m)[0] / ruled(m, m.slot) * ruled(m, m.slot, "alpha/r")),
)  # fmt: skip


mutant(
    "merged_in_half_precision", "the added weight is computed in bfloat16 whatever the layer is in, and only the sum in its dtype",
    source="https://github.com/OpenAgentsInc/openagents/issues/9456", of=LORA, when=use.merged, hidden_by="bfloat16 layers",
    merge=lambda m: merge_other(m, (m.kit.gamma(m, m.slot) * (m.slot.B.bfloat16() @ m.slot.A.bfloat16())).to(m.base.weight)),
)  # fmt: skip


def merge_in_float32(m: Adapted) -> None:
    merged(m)
    if torch.finfo(m.base.weight.dtype).bits < 32:
        m.base.weight.data = m.base.weight.data.float()


mutant(
    "merge_changes_the_dtype", "the merged weight stays in float32 though the model is in bfloat16",
    source="https://github.com/axolotl-ai-cloud/axolotl/issues/1510", of=LORA, when=use.merged_in_bf16, hidden_by="float32 models",
    merge=merge_in_float32,
)  # fmt: skip


@torch.no_grad()
def merge_replacing(m: Adapted) -> None:
    m.slot.B = nn.Parameter(m.slot.B.bfloat16().to(m.slot.B.dtype))
    merged(m)


def trained_after_merge(subject: Any, base: nn.Linear) -> nn.Module:
    """Merged and unmerged in the middle of training: the optimizer holds the parameters from before."""
    module = subject.build(use.RANK, base, use.ALPHA).eval()
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        subject.merge(module)
        subject.unmerge(module)
        with use.placed(module) as whole:
            loss = use.next_token_loss(whole(use.tokens()), use.tokens())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


mutant(
    "merge_replaces_the_parameters", "merging writes cast factors back as new parameters: the optimizer trains the old ones",
    source="docs/research/peft_defects.md, B4", of=LORA, when=trained_after_merge, hidden_by="merging once, at the end",
    merge=merge_replacing,
)  # fmt: skip


def merge_transposed(m: Adapted) -> None:
    delta = wide(m)[0]
    merge_other(m, delta.T if delta.shape[0] == delta.shape[1] else delta)


mutant(
    "merged_transposed", "the merge forgets that the weight is stored the other way round, which square layers forgive",
    source="https://github.com/predibase/lorax/pull/106", of=LORA, when=use.merged, hidden_by="rectangular layers, where shapes complain",
    merge=merge_transposed,
)  # fmt: skip


def merge_bias_unscaled(m: Adapted) -> None:
    merge_other(m, wide(m)[0], m.slot.c)


mutant(
    "bias_merged_without_scale", "the adapter's bias is merged as c, the forward pass adds gamma c",
    source="https://github.com/huggingface/peft/pull/2489", of=BIASED, when=use.merged, hidden_by="alpha = r", merge=merge_bias_unscaled,
)  # fmt: skip

mutant(
    "bias_not_merged", "merging adds the weight and drops the adapter's bias", source="no thread found", of=BIASED, when=use.merged,
    hidden_by="a bias of zero", merge=lambda m: merge_other(m, wide(m)[0]),
)  # fmt: skip


@torch.no_grad()
def unmerge_weight_only(m: Adapted) -> None:
    if m.kept is not None:
        m.base.weight.copy_(m.kept[0])
        m.kept = None


mutant(
    "bias_not_unmerged", "unmerging restores the weight and leaves the bias merged", source="no thread found", of=BIASED, when=use.unmerged,
    hidden_by="a bias of zero", unmerge=unmerge_weight_only,
)  # fmt: skip

mutant(
    "merged_with_dropout", "the merged weight is computed in training mode, from a factor with dropped entries",
    source="https://github.com/huggingface/peft/issues/2066", of=DROPPED, when=use.merged, hidden_by="dropout 0",
    merge=lambda m: merge_other(m, m.kit.gamma(m, m.slot) * m.slot.B @ F.dropout(m.slot.A, m.kit.dropout)),
)  # fmt: skip

mutant(
    "magnitude_not_merged", "DoRA is merged as W + gamma B A: its magnitudes are dropped",
    source="https://github.com/unslothai/unsloth-zoo/pull/828", of=DORA, when=use.merged, hidden_by="the init",
    merge=lambda m: merge_other(m, lora_delta(m, m.slot, m.pristine)),
)  # fmt: skip


def forward_base_norm(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    adapted = m.base.weight + lora_delta(m, m.slot, m.base.weight)
    return F.linear(x, (m.slot.m / m.base.weight.norm(dim=1))[:, None] * adapted, m.base.bias)


mutant(
    "magnitude_over_the_base_norm", "the forward pass divides by the norm of W, the merge by that of W + gamma B A",
    source="https://github.com/Comfy-Org/ComfyUI/pull/15458", of=DORA, when=use.stirred, hidden_by="the init", forward=forward_base_norm,
)  # fmt: skip


def merge_column_norm(m: Adapted) -> None:
    W = m.pristine
    if W.shape[0] != W.shape[1]:
        merged(m)
        return
    adapted = W + lora_delta(m, m.slot, W)
    merge_other(m, m.slot.m / adapted.norm(dim=0) * adapted - W)


mutant(
    "norm_over_the_wrong_axis", "the merge takes a magnitude per input where the forward pass has one per output",
    source="https://github.com/KohakuBlueleaf/LyCORIS/issues/216", of=DORA, when=use.merged,
    hidden_by="rectangular layers, where shapes complain", merge=merge_column_norm,
)  # fmt: skip


def delta_norm_without_gamma(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    norm = (W + slot.B @ slot.A).norm(dim=1).detach()
    return (slot.m / norm.where(norm > 0, 1.0))[:, None] * (W + lora_delta(m, slot, W)) - W


mutant(
    "norm_without_gamma", "the norm is that of W + B A while the numerator has gamma", source="no thread found", of=DORA, when=use.stirred,
    hidden_by="alpha = r", delta=delta_norm_without_gamma,
)  # fmt: skip


def merge_every_slot(m: Adapted) -> None:
    merge_other(m, torch.stack([m.kit.delta(m, slot, m.base.weight) for slot in m.slots.values()]).sum(0))


mutant(
    "every_adapter_merged", "merging adds every adapter of the layer, not the active one", source="no thread found", of=LORA,
    when=use.second_merged, hidden_by="one adapter", merge=merge_every_slot,
)  # fmt: skip


@torch.no_grad()
def merge_into_copy(m: Adapted) -> None:
    if m.kept is None:
        base = nn.Linear(m.base.in_features, m.base.out_features, bias=m.base.bias is not None, dtype=m.base.weight.dtype)
        base.load_state_dict(m.base.state_dict())
        m.memory["base"], m.base = m.base, base.requires_grad_(False)
        merged(m)


def unmerge_from_copy(m: Adapted) -> None:
    if m.kept is not None:
        m.kept, m.base = None, m.memory["base"]


mutant(
    "merged_into_a_copy", "merging makes a new layer, and whoever holds the model's own layer exports the base",
    source="https://github.com/johnsmith0031/alpaca_lora_4bit/pull/109", of=LORA, when=use.exported, hidden_by="using the module",
    merge=merge_into_copy, unmerge=unmerge_from_copy,
)  # fmt: skip


def add_on_merged(m: Adapted, name: str, rank: int, alpha: float) -> None:
    added(m, name, rank, alpha)
    trained, _ = dora_start(m.base.weight, rank, alpha, m.kit)
    m.slots[name].get_parameter("m").data.copy_(trained["m"])


mutant(
    "second_measured_on_the_merged", "a second adapter added while the first is merged takes its magnitudes from the merged weight",
    source="https://github.com/huggingface/peft/pull/3423", of=DORA, when=use.second_on_merged, hidden_by="adding before merging",
    add_adapter=add_on_merged,
)  # fmt: skip


def merge_wrong_block(m: Adapted) -> None:
    q, v = fused_gammas(m, m.slot)
    slot = m.slot
    merge_other(m, torch.cat([v * slot.B_v @ slot.A_v, q * slot.B_q @ slot.A_q]))


mutant(
    "blocks_merged_into_each_others_rows", "in a fused projection the merge puts v's weight over q's rows",
    source="https://github.com/Lightning-AI/litgpt/issues/629", of=FUSED, when=use.merged, hidden_by="forward passes",
    merge=merge_wrong_block,
)  # fmt: skip


def forward_drops_old_scale(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is None:
        return m.base(x) + F.linear(x, m.kit.delta(m, m.slot, m.base.weight))
    return F.linear(x, m.base.weight)


mutant(
    "merged_layer_loses_its_bias", "the merged branch of the forward pass multiplies by the weight and forgets the base's bias",
    source="no thread found", of=LORA, when=lambda subject, base: merged_with_bias(subject, base), hidden_by="layers without bias",
    forward=forward_drops_old_scale,
)  # fmt: skip


@torch.no_grad()
def merged_with_bias(subject: Any, base: nn.Linear) -> nn.Module:
    """A base layer with a bias of its own."""
    base.bias.copy_(base.weight.mean(1) * 10)
    return use.merged(subject, base)


def set_scale_never(m: Adapted, s: float) -> None:
    m.slot.s = float(s)
    if m.kept is not None:
        unmerged(m)
        m.kept = (m.base.weight.detach().clone(), None if m.base.bias is None else m.base.bias.detach().clone())


def scaled_while_merged(subject: Any, base: nn.Linear) -> nn.Module:
    module = use.merged(subject, base)
    subject.set_scale(module, 1.0)
    return module


mutant(
    "scaling_the_merged_unmerges_it", "set_scale takes the merged weight out and never puts the new one in, the flag says merged",
    source="no thread found", of=LORA, when=scaled_while_merged, hidden_by="setting the scale before merging", set_scale=set_scale_never,
)  # fmt: skip


def merge_over_the_first(m: Adapted) -> None:
    delta = wide(m)[0]
    k, v = blocks_of(delta.shape[0])
    moved = torch.zeros_like(delta)
    moved[:k] = delta[:k] + delta[v : v + k]
    merge_other(m, moved)


mutant(
    "second_part_over_the_first", "the merge counts the parts of a fused weight and the count stays 0: v's weight is put over q's rows too",
    source="https://github.com/thinking-machines-lab/tinker-cookbook/pull/459", of=QKV, when=use.merged, hidden_by="forward passes",
    merge=merge_over_the_first,
)  # fmt: skip


def merge_without_last_rows(m: Adapted) -> None:
    delta = wide(m)[0]
    merge_other(m, torch.cat([delta[:-2], torch.zeros_like(delta[-2:])]))


mutant(
    "last_rows_left_out", "the export of a fused projection goes by the heads and leaves out the rows of a gate that follow them",
    source="https://github.com/radixark/miles/issues/2008", of=QKV, when=use.merged, hidden_by="projections without a gate",
    merge=merge_without_last_rows,
)  # fmt: skip

mutant(
    "full_matrix_merged_at_scale_one", "the merge takes the scale of a full matrix to be 1, the forward pass divides alpha by the rank",
    source="no thread found", of=LOKR, when=use.at_rank(48, use.merged), hidden_by="ranks below the limit", merge=lambda m: merge_other(
    m, wide(m)[0] / (ruled(m, m.slot) if hasattr(m.slot, "w2") else 1.0)),
)  # fmt: skip
