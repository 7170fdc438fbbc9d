"""What may be named as a PEFT target, what is refused, and that no tuner of the installed PEFT is forgotten."""

import json
import sys

import pytest
import torch
from torch import nn

from rsverify.errors import InputError
from rsverify.interop.peft import NotApplicable, parse_peft_target, subject_from_peft
from rsverify.interop.peft.everything import not_judged
from rsverify.interop.peft.library import config_classes, config_fields
from rsverify.interop.peft.methods import METHODS, WITHOUT_RANK
from rsverify.interop.peft.recipes import all_targets


def test_every_tuner_of_peft_has_a_recipe_or_a_reason():
    assert set(config_classes()) == set(METHODS) | set(WITHOUT_RANK)
    assert not set(METHODS) & set(WITHOUT_RANK)
    for name, method in METHODS.items():
        fields = config_fields(name)
        assert method.rank in fields and (method.alpha is None or method.alpha in fields), name


def test_no_setting_that_sounds_like_a_rank_is_called_rankless():
    for name in WITHOUT_RANK:
        sounding = {"r", "rank", "init_r", "effective_rank", "n_frequency", "lora_alpha", "alpha"} & set(config_fields(name))
        assert not sounding, (name, sounding)


def test_all_targets_parse_and_the_rest_is_named():
    targets = all_targets()
    assert len(targets) == len(set(targets)) > 50
    assert {parse_peft_target(target).method.name for target in targets} | {row.target[5:] for row in not_judged()} == set(config_classes())


def test_settings_rule_alpha_and_claim_are_read():
    subject = subject_from_peft("peft:lora?use_rslora=true&r=8&lora_alpha=16")
    assert subject.scaling.text == "alpha/sqrt(r)" and subject.alpha == 16.0
    assert subject.claim == "identity" and {"merge", "save", "set_scale", "combine"} <= subject.capabilities
    assert subject_from_peft("peft:lora?init_lora_weights=pissa").claim == "residual"
    assert "set_scale" not in subject_from_peft("peft:vera").capabilities


def test_patterns_put_rank_and_alpha_on_the_layer():
    subject = subject_from_peft('peft:lora?rank_pattern={"layer":4}&alpha_pattern={"layer":8}')
    module = subject.build(3, nn.Linear(8, 6), 5.0)
    assert module.base_model.model.layer.lora_A["default"].weight.shape == (3, 8)
    assert module.base_model.model.layer.scaling["default"] == 5 / 3
    assert module.peft_config["default"].r != 3 and module.peft_config["default"].lora_alpha != 5


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("peft:lroa", "did you mean .*'lora'"),
        ("peft:lora?use_rslorra=true", "did you mean 'use_rslora'"),
        ("peft:lora?r", "expected key=value"),
        ("peft:lora?r=8&r=4", "given twice"),
        ("peft:lora?r=0", "expected a positive number"),
        ("peft:lora?lora_alpha=many", "expected a positive number"),
        ("peft:lora?combination_type=ties", "expected one of cat, linear, svd"),
        ("peft:lora?init_lora_weights=pisa", "PEFT refuses"),
        ("peft:poly", "task ids"),
        ("lora", "expected peft:METHOD"),
    ],
)
def test_bad_targets_say_what_was_expected(target, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        subject_from_peft(target) if target.startswith("peft:") else parse_peft_target(target)


def test_methods_without_rank_are_not_applicable():
    with pytest.raises(NotApplicable, match="takes no rank"):
        parse_peft_target("peft:ia3")


def test_a_config_file_is_read_and_refused_with_its_path(tmp_path):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 12, "use_rslora": True, "target_modules": ["q"], "later": None}))
    subject = subject_from_peft(path)
    assert subject.alpha == 12 and subject.scaling.text == "alpha/sqrt(r)"
    assert subject_from_peft(str(tmp_path)).alpha == 12
    for text, said in (("{", "not JSON"), ("{}", "no peft_type"), ('{"peft_type": "LORA", "rr": 4}', "no setting 'rr'")):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            subject_from_peft(path)
    with pytest.raises(InputError, match="cannot be read"):
        subject_from_peft(tmp_path / "none" / "adapter_config.json")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(4, 4), nn.Linear(4, 4)


def test_a_model_without_the_modules_is_refused():
    from peft import LoraConfig

    assert subject_from_peft(LoraConfig(r=4, target_modules=["q_proj"]), Two()).alpha == 8
    with pytest.raises(InputError, match="no module 'q_prj'; did you mean 'q_proj'"):
        subject_from_peft(LoraConfig(target_modules=["q_prj"]), Two())
    with pytest.raises(InputError, match=r"rank_pattern: 'k_proj' matches no module"):
        subject_from_peft(LoraConfig(target_modules=["q_proj"], rank_pattern={"k_proj": 4}), Two())


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    config_classes.cache_clear()
    try:
        with pytest.raises(InputError, match=r"pip install 'rsverify\[peft\]'"):
            parse_peft_target("peft:lora")
    finally:
        config_classes.cache_clear()


def test_peft_builds_the_layer_it_is_given():
    base = nn.Linear(6, 4, dtype=torch.float64)
    module = subject_from_peft("peft:lora").build(2, base, 20.0)
    assert base.weight is module.base_model.model.layer.base_layer.weight and not base.weight.requires_grad
