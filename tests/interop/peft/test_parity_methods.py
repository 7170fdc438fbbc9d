"""Loader parity beyond LoRA, on folders that PEFT itself writes; and layers that a serving stack fuses."""

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import rsverify as rv
from rsverify.errors import InputError

METHODS = {
    "LoHaConfig": {"r": 3, "alpha": 7, "alpha_pattern": {"k_proj": 11}, "rank_pattern": {"k_proj": 2}},
    "LoKrConfig": {"r": 2, "alpha": 7},
    "HiraConfig": {"r": 3},
    "VeraConfig": {"r": 3},
    "RandLoraConfig": {"r": 3, "randlora_alpha": 21},
}
NAMES = ("q_proj", "k_proj", "v_proj")


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Module()
        for name, out in zip(NAMES, (36, 24, 24), strict=True):
            setattr(self.attn, name, nn.Linear(24, out))


def saved(folder, config, targets=NAMES, **settings):
    model = peft.get_peft_model(Model(), getattr(peft, config)(target_modules=list(targets), **settings))
    torch.manual_seed(0)
    for value in model.parameters():
        if value.requires_grad:
            nn.init.normal_(value)
    model.save_pretrained(folder)
    return model


def applied(model):
    """The scale of each module as PEFT applies it: its own `.scaling`, or 1 where it has none."""
    layers = {name[17:]: m for name, m in model.named_modules() if isinstance(m, peft.tuners.tuners_utils.BaseTunerLayer)}
    return {name: float(m.scaling["default"]) if hasattr(m, "scaling") else 1.0 for name, m in layers.items()}


@pytest.mark.parametrize("config", METHODS)
def test_pefts_own_scale_is_the_trained_one_and_another_is_not(tmp_path, config):
    scales = applied(saved(tmp_path, config, **METHODS[config]))
    found = rv.parity(tmp_path, scales)
    assert found.holds and len(found.rows) == 3
    wrong = rv.parity(tmp_path, {name: 2 * value for name, value in scales.items()})
    assert not wrong.holds and "2 times too strong" in wrong.summary


def test_the_wrong_rule_is_named_for_loha(tmp_path):
    saved(tmp_path, "LoHaConfig", **METHODS["LoHaConfig"])
    ranks, alphas = {"k_proj": 2}, {"k_proj": 11}
    found = rv.parity(tmp_path, {name: alphas.get(name, 7) / ranks.get(name, 3) ** 0.5 for name in NAMES})
    assert not found.holds and "alpha/sqrt(r)" in found.summary
    assert "patterns" in rv.parity(tmp_path, 7 / 3).summary or "pattern" in rv.parity(tmp_path, 7 / 3).summary


def test_hira_scaled_by_a_rank_is_wrong(tmp_path):
    saved(tmp_path, "HiraConfig", r=3)
    found = rv.parity(tmp_path, 1 / 3)
    assert not found.holds and "3 times too weak" in found.summary


@pytest.mark.parametrize(("config", "settings"), [("LoHaConfig", METHODS["LoHaConfig"]), ("LoKrConfig", METHODS["LoKrConfig"]),
                                                  ("LoKrConfig", {"r": 1, "alpha": 7, "decompose_both": True})])  # fmt: skip
def test_a_loader_may_return_the_weight_it_adds(tmp_path, config, settings):
    model = saved(tmp_path, config, **settings)
    weights = {name: getattr(model.base_model.model.attn, name).get_delta_weight("default") for name in NAMES}
    assert rv.parity(tmp_path, lambda folder: weights).holds
    weights["q_proj"] = weights["q_proj"] * 3
    assert [row.factor for row in rv.parity(tmp_path, lambda folder: weights).rows if not row.holds] == [pytest.approx(3, rel=1e-3)]


def test_what_takes_more_than_the_folder_is_refused(tmp_path):
    saved(tmp_path, "HiraConfig", r=3)
    with pytest.raises(InputError, match="from the folder alone"):
        rv.parity(tmp_path, {"q_proj": torch.ones(36, 24)})


def test_folders_that_do_not_match_are_refused(tmp_path):
    saved(tmp_path, "LoHaConfig", r=3)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "r": 5}))
    with pytest.raises(InputError, match="rank 5"):
        rv.parity(tmp_path, 1.0)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({key: value for key, value in tensors.items() if "q_proj.hada_w2_b" not in key}, file)
    with pytest.raises(InputError, match="something is missing"):
        rv.parity(tmp_path, 1.0)
    save_file({**tensors, "stray": torch.ones(1)}, file)
    with pytest.raises(InputError, match="no part of a LOHA adapter"):
        rv.parity(tmp_path, 1.0)
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "OFT"}))
    with pytest.raises(InputError, match="LOHA"):
        rv.parity(tmp_path, 1.0)


def lora(folder, targets=NAMES):
    return saved(folder, "LoraConfig", targets, r=4, lora_alpha=10)


def test_a_fused_layers_scale_holds_for_its_parts(tmp_path):
    lora(tmp_path)
    for name in ("qkv_proj", "attn.qkv_proj", "Wqkv", "base_model.model.attn.qkv_proj"):
        assert rv.parity(tmp_path, {name: 2.5}).holds, name
    found = rv.parity(tmp_path, {"qkv_proj": 5.0})
    assert len([row for row in found.rows if row.factor == 2.0]) == 3
    one = rv.parity(tmp_path, {"qkv_proj": 5.0, "attn.q_proj": 2.5})
    assert [row.module for row in one.rows if row.holds] == ["attn.q_proj"]


def test_a_part_that_is_not_adapted_is_left_alone(tmp_path):
    lora(tmp_path, ["q_proj", "v_proj"])
    assert rv.parity(tmp_path, {"qkv_proj": 2.5}).holds


def test_a_fused_layers_weight_is_split_by_rows(tmp_path):
    model = lora(tmp_path)
    parts = [getattr(model.base_model.model.attn, name).get_delta_weight("default").detach() for name in NAMES]
    assert rv.parity(tmp_path, lambda folder: {"qkv_proj": torch.cat(parts)}).holds
    wrong = rv.parity(tmp_path, lambda folder: {"qkv_proj": torch.cat([parts[0], 2 * parts[1], parts[2]])})
    assert {row.module: round(row.factor, 3) for row in wrong.rows if not row.holds} == {"attn.k_proj": 2.0}
    with pytest.raises(InputError, match="36 \\+ 24 \\+ 24"):
        rv.parity(tmp_path, lambda folder: {"qkv_proj": torch.cat(parts[:2])})
    with pytest.raises(InputError, match="no module"):
        rv.parity(tmp_path, {"gate_up_proj": 2.5})


def test_a_fused_weight_of_parts_not_adapted_is_refused(tmp_path):
    lora(tmp_path, ["q_proj", "v_proj"])
    with pytest.raises(InputError, match=r"k_proj is not adapted"):
        rv.parity(tmp_path, {"qkv_proj": torch.ones(84, 24)})
