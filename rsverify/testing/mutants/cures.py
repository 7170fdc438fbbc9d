"""Which line of the sound implementation each mutant lacks: two mutants that one line cures are one, whatever their names.

A cure is declared: a line of a file of `reference/`, word for word, under the name of the function, class or constant that it stands
in. Where several lines would do, the one that the most mutants share is named: the count is the least that holds.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rsverify.testing.mutants import reference

FILES = tuple(sorted(Path(inspect.getfile(reference)).parent.glob("*.py")))

Spot = tuple[str, int]
"""A file's path and a line number in it."""


@dataclass(frozen=True)
class Cure:
    """A line of the sound implementation and where it stands."""

    place: str
    line: str

    @property
    def text(self) -> str:
        return f"{self.place}: {self.line}"

    def spot(self) -> Spot:
        """Its file and line number.

        Raises: ValueError where the place does not hold exactly one such line.
        """
        file, first, last = places()[self.place]
        lines = file.read_text(encoding="utf-8").splitlines()
        numbers = [k for k in range(first, last + 1) if lines[k - 1].strip() == self.line]
        if len(numbers) != 1:
            raise ValueError(f"{self.place} holds {len(numbers)} lines {self.line!r}; expected one: copy it from {file.name}")
        return str(file), numbers[0]


_LINES: dict[str, dict[str, str]] = {
    "computed": {
        "if m.kept is not None:": "forward_adds_to_the_merged",
        "return m.base(x)": "merged_layer_loses_its_bias",
        "branch = F.dropout(x, m.kit.dropout, training=m.training)": "dropout_in_evaluation dropout_factor_in_evaluation input_rounded"
        " input_gradient_omitted shards_not_summed tensor_made_on_the_cpu computes_in_float32",
        "delta, offset = m.kit.delta(m, m.slot, m.base.weight), m.kit.offset(m, m.slot)": "stale_delta second_never_applied"
        " rows_not_permuted_with_the_base experts_not_weighted magnitude_over_the_base_norm training_and_evaluation_differ"
        " dropped_in_forward experts_counted_in_the_rank gamma_missing_in_backward switch_keeps_the_old_one",
        "return m.base(x) + F.linear(branch, delta, offset)": "every_call_adds_once_more counted_once_per_shard"
        " batch_and_sequence_exchanged input_scaled_in_place gradient_of_one_shard",
    },
    "ruled": {
        "return as_rule(rule or m.kit.rule).gamma(slot.rank, slot.alpha) * slot.s": "raw_alpha inverted hard_coded integer_division"
        " new_scale_not_seen added_adapter_ignores_the_rule experts_counted_in_every_rank dora_scaled_by_the_rank",
    },
    "rescaled": {
        "m.slot.s = float(s)": "set_scale_by_alpha_over_r set_scale_compounds set_scale_replaces_gamma zero_scale_wipes_the_factor"
        " scale_lands_on_the_wrong_adapter scaling_the_merged_unmerges_it scale_not_undone_after_a_call zero_scale_cannot_be_undone",
    },
    "USUAL": {
        '"scale": lambda m: m.kit.gamma(m, m.slot),': "told_scale_lacks_the_users",
        '"told": lambda m: m.kit.delta(m, m.slot, m.pristine),': "told_scale_squared",
    },
    "Adapted": {"self.base = base.requires_grad_(False)": "base_bias_trains base_trains_after_load"},
    "built": {
        "m = Adapted(base, kit)": "target_never_matches state_read_by_position",
        'm.slots["default"] = new_slot(kit, base.weight, rank, alpha)': "projection_grows_with_rank",
    },
    "kaiming": {
        "return (2 * torch.rand(rows, columns, dtype=torch.float64) - 1).div(math.sqrt(columns)).to(like)": "every_layer_draws_the_same",
    },
    "lora_start": {
        "B = W.new_zeros(W.shape[0], rank)": "last_factor_not_zero padding_holds_garbage",
        "A = kaiming(rank, W.shape[1], W)": "both_factors_zero roles_of_the_factors_exchanged wrong_fan rank_one_gives_nan"
        " dora_drawn_by_the_rank",
        'return {"B": B, "A": A}, {}': "trained_factor_frozen",
    },
    "dora_start": {
        'return {**trained, "m": W.norm(dim=1)}, frozen': "magnitude_of_a_random_layer magnitude_is_no_parameter",
    },
    "frozen_start": {
        'return {"B": trained["B"]}, {"A": trained["A"]}': "frozen_factor_trains projection_does_not_move",
    },
    "residual_start": {
        "root = (S[:rank] / gamma).sqrt()": "svd_init_without_scale",
        "A, B = root[:, None] * Vh[:rank], U[:, :rank] * root": "svd_init_rounded",
    },
    "kronecker_start": {
        'return {"C": W.new_zeros(2, 2), "P": kaiming(d_out // 2, rank, W), "Q": kaiming(rank, d_in // 2, W)}, {}':
            "two_conventions_both_zero",
    },
    "lora_delta": {"return m.kit.gamma(m, slot) * slot.B @ slot.A": "gradient_severed"},
    "expert_start": {
        "A = torch.stack([kaiming(rank, W.shape[1], W) for _ in range(2)])": "experts_drawn_by_the_rank",
    },
    "expert_delta": {
        'return m.kit.gamma(m, slot) * torch.einsum("e,eor,eri->oi", slot.gate, slot.B, slot.A)': "experts_left_frozen",
    },
    "dora_delta": {
        "adapted = W + lora_delta(m, slot, W)": "gamma_outside_the_norm",
        "norm = adapted.norm(dim=1).detach()": "norm_without_gamma norm_carries_gradient",
        "return (slot.m / norm.where(norm > 0, 1.0))[:, None] * adapted - W": "magnitude_not_on_the_base_part zero_row_gives_nan",
    },
    "BIASED": {
        'start=bias_start, init="identity", offset=lambda m, slot: m.kit.gamma(m, slot) * slot.c,': "zero_scale_leaves_the_bias",
    },
    "added": {
        "m.slots[name] = new_slot(m.kit, m.pristine, rank, alpha)": "second_overwrites_shared_projection second_changes_the_base"
        " second_measured_on_the_merged",
    },
    "activated": {
        "slot.get_parameter(factor).requires_grad_(other == name)": "switching_back_leaves_it_frozen",
    },
    "merged": {
        "if m.kept is not None:": "merged_twice",
        "weight.copy_(weight.to(delta.dtype) + delta)": "merge_does_nothing merged_flag_without_weight merged_into_a_copy"
        " merge_changes_the_dtype merged_transposed parent_and_child_merge",
        "bias.copy_(bias.to(offset.dtype) + offset)": "bias_merged_without_scale bias_not_merged",
    },
    "wide": {
        "dtype = torch.promote_types(m.base.weight.dtype, torch.float32)": "merged_in_half_precision",
        "slot = Slot({}, {name: value.to(dtype) for name, value in m.slot.factors().items()}, m.slot.rank, m.slot.alpha)":
            "merge_replaces_the_parameters every_adapter_merged",
        "return m.kit.delta(m, slot, m.base.weight.to(dtype)), m.kit.offset(m, slot)": "merge_ignores_the_rule magnitude_not_merged"
        " norm_over_the_wrong_axis blocks_merged_into_each_others_rows merged_with_dropout",
    },
    "unmerged": {
        "m.base.weight.copy_(weight)": "unmerge_by_todays_factors unmerge_forgets_the_users_scale",
        "m.base.bias.copy_(bias)": "bias_not_unmerged",
    },
    "saved": {
        "slot = m.slot": "first_adapter_saved_instead",
        '"rank": slot.rank, "alpha": slot.alpha, "rule": m.kit.rule, "s": slot.s, "trained": list(slot.trained),': "alpha_not_saved"
        " saved_under_the_first_rank",
        '"tensors": {name: value.detach().clone() for name, value in slot.factors().items()},': "users_scale_saved_twice bias_not_saved"
        " saved_in_bfloat16 saved_tensors_are_views saved_while_merged",
    },
    "loaded": {
        'm = Adapted(base, kit if kit.rule == data["rule"] else kit.but(rule=data["rule"]))': "rule_ignored_on_load"
        " one_rank_for_all_modules_on_load one_alpha_for_all_modules_on_load fused_into_one_block_on_load full_matrix_loaded_without_alpha",
        'tensors, trained = data["tensors"], set(data["trained"])': "load_keeps_the_init load_skips_half magnitude_not_saved"
        " projection_not_saved gates_not_saved factors_swapped_on_load halves_exchanged_on_load expert_axes_exchanged_on_load"
        " ranks_per_module_not_saved",
        '{name: value for name, value in tensors.items() if name not in trained}, data["rank"], data["alpha"],': "alpha_becomes_the_rank"
        " rank_of_the_first_key missing_alpha_is_zero",
    },
    "residual_load": {"base.weight.sub_(first_product(m, m.slot).to(base.weight))": "load_takes_off_the_trained_product"},
    "residual_convert": {
        "old, new = rule.gamma(slot.rank, slot.alpha), rule.gamma(plain.rank, plain.alpha)": "converted_by_doubling_alpha",
        "B = torch.cat([slot.B * old * slot.s, -slot.B0 * old], dim=1) / new": "converted_without_the_initial_product",
    },
    "combined": {
        "A = torch.cat([slot.A for slot in slots])": "combined_factor_by_factor",
        "B = torch.cat([w * m.kit.gamma(m, slot) * slot.B for w, slot in zip(weights, slots, strict=True)], dim=1)":
            "combined_with_weights_twice combined_without_sign combined_without_weights",
        'new.get_parameter("B").div_(m.kit.gamma(m, new))': "combined_with_gamma_twice",
    },
    "fused_gammas": {
        "return rule.gamma(slot.A_q.shape[0], slot.alpha) * slot.s, rule.gamma(slot.A_v.shape[0], 1.5 * slot.alpha) * slot.s":
            "one_scale_for_a_fused_projection",
    },
    "qkv_delta": {
        "v_part = v_scale * slot.B_v @ slot.A_v": "parts_share_one_projection",
        "return torch.cat([q_part, W.new_zeros(v - k, W.shape[1]), v_part])": "blank_part_filled_by_the_next second_part_over_the_first"
        " last_rows_left_out",
    },
    "lokr_delta": {
        "return m.kit.gamma(m, slot) * torch.kron(slot.w1, second)": "full_matrix_merged_at_scale_one",
    },
    "free_gamma": {
        "return slot.s": "full_matrix_scaled_by_the_root_of_the_rank full_matrix_scaled_by_a_rank_it_has_not",
    },
    "truncated": {"U, S, Vh = torch.linalg.svd(product, full_matrices=False)": "pruned_by_position"},
    "redistributed": {
        'new = Slot({"B": B, "A": A}, {}, rank, old.alpha)': "stale_rank_after_a_swap",
        "new.s = old.s": "resized_under_the_old_scale",
        'new.get_parameter("B").div_(m.kit.gamma(m, new))': "resized_by_the_wrong_rule",
        "m.slots[m.active] = new": "rank_never_changes",
    },
}  # fmt: skip
"""By place and line, the mutants that the line cures."""


def cures() -> Mapping[str, Cure]:
    """The cure of each mutant by the mutant's name.

    Raises: ValueError where a mutant has two.
    """
    by_mutant: dict[str, Cure] = {}
    for place, lines in _LINES.items():
        for line, names in lines.items():
            for name in names.split():
                if name in by_mutant:
                    raise ValueError(f"mutant {name} has two cures, {by_mutant[name].text} and {place}: {line}")
                by_mutant[name] = Cure(place, line)
    return by_mutant


@cache
def places() -> Mapping[str, tuple[Path, int, int]]:
    """File, first and last line of every function, class and constant at the top of the sound implementations."""
    spans: dict[str, tuple[Path, int, int]] = {}
    for file in FILES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                spans[node.name] = (file, node.lineno, int(node.end_lineno or node.lineno))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                spans[ast.unparse(target)] = (file, node.lineno, int(node.end_lineno or node.lineno))
    return spans
