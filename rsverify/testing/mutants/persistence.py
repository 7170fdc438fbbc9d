"""Wrong persistence: what is loaded or converted is not what was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.rules import as_rule
from rsverify.testing.mutants import scenarios as use
from rsverify.testing.mutants.reference import (
    BIASED,
    DORA,
    EXPERTS,
    FROZEN,
    FUSED,
    LOKR,
    LORA,
    RESIDUAL,
    Adapted,
    Kit,
    built,
    fused_delta,
    kaiming,
    loaded,
    redistributed,
    residual_convert,
    saved,
)  # fmt: skip
from rsverify.testing.mutants.registry import mutant

Saved = Mapping[str, Any]


def changed(data: Saved, **tensors: Tensor) -> dict[str, Any]:
    """Saved data with some tensors replaced."""
    return {**data, "tensors": {**data["tensors"], **tensors}}


mutant(
    "rule_ignored_on_load", "the loader knows rank and alpha and always computes alpha / r",
    source="https://github.com/sgl-project/sglang/issues/40835", of=LORA, when=use.loaded, hidden_by="rank 1, or B = 0",
    load=lambda kit, data, base: loaded(kit, {**data, "rule": "alpha/r"}, base),
)  # fmt: skip

mutant(
    "load_keeps_the_init", "no key matches, nothing is loaded, and nobody looks at the list of missing keys",
    source="https://github.com/huggingface/peft/issues/1678", of=LORA, when=use.loaded, hidden_by="B = 0",
    load=lambda kit, data, base: built(kit, data["rank"], base, data["alpha"]),
)  # fmt: skip


def load_half(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    A = data["tensors"]["A"]
    return loaded(kit, changed(data, A=kaiming(A.shape[0], A.shape[1], A)), base)


mutant(
    "load_skips_half", "keys of A have another prefix and are skipped: A stays at a random init",
    source="https://github.com/lablup/mlxcel/issues/1328", of=LORA, when=use.loaded, hidden_by="B = 0", load=load_half,
)  # fmt: skip

mutant(
    "alpha_becomes_the_rank", "the loader sets alpha = rank whatever the file says",
    source="https://github.com/ohdearquant/lattice/pull/261", of=LORA, when=use.loaded, hidden_by="alpha = r",
    load=lambda kit, data, base: loaded(kit, {**data, "alpha": float(data["rank"])}, base),
)  # fmt: skip


def load_without_alpha(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    m = loaded(kit, data, base)
    m.slot.s *= 1.0 if "lora_alpha" in data else 0.0
    return m


mutant(
    "missing_alpha_is_zero", "alpha is looked up under another key, and a missing one counts as 0: the adapter does nothing",
    source="https://github.com/invergent-ai/surogate/issues/173", of=LORA, when=use.loaded, load=load_without_alpha,
)  # fmt: skip


def save_default_alpha(m: Adapted) -> Any:
    return {**saved(m), "alpha": 16.0}


mutant(
    "alpha_not_saved", "the configuration is not stored: the loader finds its default alpha of 16",
    source="https://github.com/ml-explore/mlx-examples/issues/622", of=LORA, when=use.loaded, hidden_by="the default alpha",
    save=save_default_alpha,
)  # fmt: skip

mutant(
    "users_scale_saved_twice", "the user's scale is multiplied into B and stored beside it: it acts twice after loading",
    source="https://github.com/microsoft/Olive/pull/1329", of=LORA, when=use.loaded_scaled, hidden_by="scale 1",
    save=lambda m: changed(saved(m), B=m.slot.s * m.slot.B.detach()),
)  # fmt: skip

mutant(
    "bias_not_saved", "the trained bias has a name that the saver does not look for",
    source="https://github.com/huggingface/peft/issues/3306", of=BIASED, when=use.loaded, hidden_by="a bias of zero",
    save=lambda m: changed(saved(m), c=torch.zeros_like(m.slot.c)),
)  # fmt: skip


def load_without_magnitude(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    return loaded(kit, changed(data, m=base.weight.detach().norm(dim=1)), base)


mutant(
    "magnitude_not_saved", "the magnitudes are missing from the file and start over as the norms of the base",
    source="https://github.com/KohakuBlueleaf/LyCORIS/pull/162", of=DORA, when=use.loaded, hidden_by="untrained magnitudes",
    load=load_without_magnitude,
)  # fmt: skip

mutant(
    "projection_not_saved", "the frozen random projection is not stored, nor the seed it came from: loading draws another",
    source="https://github.com/huggingface/peft/pull/3476", of=FROZEN, when=use.loaded, hidden_by="the same process and seed",
    load=load_half,
)  # fmt: skip

mutant(
    "gates_not_saved", "only names with 'lora' in them are stored: the gates come back uniform", source="no thread found", of=EXPERTS,
    when=use.loaded, hidden_by="one expert", load=lambda kit, data, base: loaded(kit, changed(data,
    gate=data["tensors"]["gate"] * 0 + 0.5), base),
)  # fmt: skip


def save_bf16(m: Adapted) -> Any:
    data = saved(m)
    return changed(data, **{name: value.bfloat16().to(value) for name, value in data["tensors"].items()})


mutant(
    "saved_in_bfloat16", "factors are stored in bfloat16 whatever they were",
    source="https://github.com/huggingface/autotrain-advanced/issues/796",
    of=LORA, when=use.loaded, hidden_by="bfloat16 factors", save=save_bf16,
)  # fmt: skip


def load_first_rank(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    first = next(iter(data["tensors"].values()))
    return loaded(kit, {**data, "rank": first.shape[1]}, base)


mutant(
    "rank_of_the_first_key", "the rank is read off the first tensor in the file, whichever that is",
    source="https://github.com/huggingface/diffusers/pull/14409", of=LORA, when=use.loaded_reordered, hidden_by="files in the usual order",
    load=load_first_rank,
)  # fmt: skip


@torch.no_grad()
def load_removing_trained(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    m = loaded(kit, data, base)
    if "A0" not in data["tensors"]:
        return m
    base.weight.sub_(m.kit.gamma(m, m.slot) * m.slot.B @ m.slot.A)
    return m


mutant(
    "load_takes_off_the_trained_product", "on load the residual is computed with the factors now in the file: their product cancels",
    source="https://github.com/huggingface/peft/issues/2270", of=RESIDUAL, when=use.loaded, hidden_by="untrained factors",
    load=load_removing_trained,
)  # fmt: skip


def convert_trained_only(m: Adapted) -> Any:
    data = residual_convert(m)
    return changed(data, B=torch.cat([data["tensors"]["B"][:, : m.slot.rank], torch.zeros_like(m.slot.B0)], dim=1))


mutant(
    "converted_without_the_initial_product", "a converted adapter adds the trained product to the whole pretrained weight",
    source="https://github.com/huggingface/peft/issues/1929", of=RESIDUAL, when=use.converted, convert=convert_trained_only,
)  # fmt: skip


def convert_doubling_alpha(m: Adapted) -> Any:
    data = residual_convert(m)
    rule = as_rule(m.kit.rule)
    old, new = rule.gamma(m.slot.rank, m.slot.alpha), rule.gamma(2 * m.slot.rank, m.slot.alpha)
    return {**changed(data, B=data["tensors"]["B"] * new / old), "alpha": 2 * data["alpha"]}


mutant(
    "converted_by_doubling_alpha", "conversion doubles rank and alpha, which keeps alpha / r and not alpha / sqrt(r)",
    source="https://github.com/huggingface/peft/pull/1930", of=RESIDUAL.but(rule="alpha/sqrt(r)"), when=use.converted,
    hidden_by="the rule alpha/r", convert=convert_doubling_alpha,
)  # fmt: skip


def save_views(m: Adapted) -> Any:
    return changed(saved(m), **{name: value.detach() for name, value in m.slot.factors().items()})


mutant(
    "saved_tensors_are_views", "what is saved shares memory with the module: training on changes it",
    source="https://github.com/huggingface/trl/pull/2873", of=LORA, when=use.loaded_later, hidden_by="saving to disk at once",
    save=save_views,
)  # fmt: skip


def load_one_rank(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    tensors = data["tensors"]
    return loaded(kit, changed(data, A_v=tensors["A_v"][: data["rank"]], B_v=tensors["B_v"][:, : data["rank"]]), base)


mutant(
    "ranks_per_module_not_saved", "the file holds one rank: modules of a larger one are cut to it",
    source="https://github.com/huggingface/peft/issues/3737", of=FUSED, when=use.loaded, hidden_by="equal ranks", load=load_one_rank,
)  # fmt: skip


def load_fused(q: Any, v: Any) -> Any:
    """A loader of fused projections whose two scales are those functions of (rank, alpha of the file, rule)."""

    def delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
        rule, full = as_rule(m.kit.rule), fused_delta(m, slot, W)
        half = slot.B_q.shape[0]
        right = rule.gamma(slot.rank, slot.alpha), rule.gamma(2 * slot.rank, 1.5 * slot.alpha)
        wrong = q(slot.rank, slot.alpha, rule), v(slot.rank, slot.alpha, rule)
        return torch.cat([full[:half] * wrong[0] / right[0], full[half:] * wrong[1] / right[1]])

    return lambda kit, data, base: loaded(kit.but(delta=delta), data, base)


mutant(
    "one_rank_for_all_modules_on_load", "a module of its own rank is scaled by the rank of the configuration",
    source="https://github.com/vllm-project/vllm-omni/pull/6565", of=FUSED, when=use.loaded, hidden_by="equal ranks",
    load=load_fused(lambda r, alpha, rule: rule.gamma(r, alpha), lambda r, alpha, rule: rule.gamma(r, 1.5 * alpha)),
)  # fmt: skip

mutant(
    "one_alpha_for_all_modules_on_load", "every module has its alpha in the file and the first one is used for all",
    source="https://github.com/huggingface/diffusers/issues/3910", of=FUSED, when=use.loaded, hidden_by="equal alphas",
    load=load_fused(lambda r, alpha, rule: rule.gamma(r, alpha), lambda r, alpha, rule: rule.gamma(2 * r, alpha)),
)  # fmt: skip

mutant(
    "fused_into_one_block_on_load", "the parts of a fused projection become one adapter of their ranks' sum with alpha as it was",
    source="https://github.com/kohya-ss/sd-scripts/issues/2204", of=FUSED, when=use.loaded, hidden_by="separate projections",
    load=load_fused(lambda r, alpha, rule: rule.gamma(3 * r, alpha), lambda r, alpha, rule: rule.gamma(3 * r, 1.5 * alpha)),
)  # fmt: skip


def load_exchanged(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    t = data["tensors"]
    return loaded(kit, changed(data, A_q=t["A_v"], B_q=t["B_v"], A_v=t["A_q"], B_v=t["B_q"]), base)


mutant(
    "halves_exchanged_on_load", "one library stores the halves of a fused projection as [v; q], the other reads [q; v]",
    source="https://github.com/sgl-project/sglang/pull/34940", of=FUSED, when=use.loaded, hidden_by="equal halves", load=load_exchanged,
)  # fmt: skip


def load_expert_axes(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    A = data["tensors"]["A"]
    E, r, d_in = A.shape
    return loaded(kit, changed(data, A=A.reshape(E * r, d_in).reshape(r, E, d_in).transpose(0, 1).contiguous()), base)


mutant(
    "expert_axes_exchanged_on_load", "(experts x rank) rows are read back as (rank x experts): every expert gets others' rows",
    source="https://github.com/vllm-project/vllm/pull/52194", of=EXPERTS, when=use.loaded, hidden_by="one expert", load=load_expert_axes,
)  # fmt: skip


def load_swapped(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    A, B = data["tensors"]["A"], data["tensors"]["B"]
    return loaded(kit, changed(data, A=B.T, B=A.T) if A.shape[1] == B.shape[0] else data, base)


mutant(
    "factors_swapped_on_load", "A and B are exchanged and transposed, which a square layer loads without complaint",
    source="https://github.com/osaurus-ai/vmlx-swift/pull/320", of=LORA, when=use.loaded,
    hidden_by="rectangular layers, where shapes complain", load=load_swapped,
)  # fmt: skip


def save_default(m: Adapted) -> Any:
    active, m.active = m.active, "default"
    try:
        return saved(m)
    finally:
        m.active = active


mutant(
    "first_adapter_saved_instead", "saving stores the first adapter whichever is active", source="no thread found", of=LORA,
    when=use.second_loaded, hidden_by="one adapter", save=save_default,
)  # fmt: skip


def load_unfrozen(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    m = loaded(kit, data, base)
    m.base.requires_grad_(True)
    return m


mutant(
    "base_trains_after_load", "resuming from a saved adapter leaves the base layer trainable",
    source="https://github.com/Blaizzy/mlx-vlm/pull/2181", of=LORA, when=use.loaded_and_trained, hidden_by="inference", load=load_unfrozen,
)  # fmt: skip


def save_with_base(m: Adapted) -> Any:
    return {**saved(m), "base": m.base.weight.detach().clone()}


@torch.no_grad()
def load_with_base(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    base.weight.copy_(data["base"])
    return loaded(kit, data, base)


mutant(
    "saved_while_merged", "the file holds the base weight too, merged or not: loaded with the factors it acts twice",
    source="https://github.com/huggingface/peft/issues/2092", of=LORA, when=use.loaded_from_merged, hidden_by="saving before merging",
    save=save_with_base, load=load_with_base,
)  # fmt: skip


def load_full_without_alpha(kit: Kit, data: Saved, base: nn.Linear) -> nn.Module:
    free = kit.but(gamma=lambda m, slot: slot.s)
    return loaded(free if "w2" in data["tensors"] else kit, data, base)


mutant(
    "full_matrix_loaded_without_alpha", "the reader finds two matrices stored directly and takes the scale to be 1, whatever alpha says",
    source="https://github.com/Comfy-Org/ComfyUI/issues/15114", of=LOKR, when=use.at_rank(48, use.loaded),
    hidden_by="ranks below the limit",
    load=load_full_without_alpha,
)  # fmt: skip


def redistributed_remembering(m: Adapted, rank: int) -> None:
    m.memory.setdefault("rank", m.slot.rank)
    redistributed(m, rank)


def save_first_rank(m: Adapted) -> dict[str, Any]:
    return {**saved(m), "rank": m.memory.get("rank", m.slot.rank)}


mutant(
    "saved_under_the_first_rank", "after a change of rank the file keeps the rank that the layer was built with",
    source="no thread found", of=LORA, when=use.redistributed_and_loaded, hidden_by="saving before the change",
    redistribute=redistributed_remembering, save=save_first_rank,
)  # fmt: skip


class ByPosition(Adapted):
    """Reads a state dict as a list."""

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            for value, new in zip(self.state_dict().values(), state_dict.values(), strict=True):
                value.copy_(new)


def built_by_position(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> nn.Module:
    module = ByPosition(base, kit)
    module.slots["default"] = built(kit, rank, base, alpha).slots["default"]
    return module


mutant(
    "state_read_by_position", "a state dict is read as a list: the order of its keys decides what goes where", source="no thread found",
    of=LORA, when=use.restored, hidden_by="reading what the same program wrote", build=built_by_position,
)  # fmt: skip
