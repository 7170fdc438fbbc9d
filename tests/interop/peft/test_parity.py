"""Loader parity: the wrong rule is named, by module and in sum; folders and scales that cannot be used are refused."""

import json
import math
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

import rsverify as rv
from rsverify import cli
from rsverify.errors import InputError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(12, 12), nn.Linear(12, 6), nn.Linear(12, 6)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(), Block()


def adapter(folder, **settings):
    """A folder as PEFT itself writes it, B away from zero."""
    settings = {"r": 4, "lora_alpha": 10, "target_modules": ["q_proj", "k_proj", "v_proj"], **settings}
    model = get_peft_model(Model(), LoraConfig(**settings))
    torch.manual_seed(0)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(value)
    model.save_pretrained(folder)
    return {name[17:]: float(m.scaling["default"]) for name, m in model.named_modules() if hasattr(m, "scaling")}, model


MIXED = {"rank_pattern": {"q_proj": 2, "second.v_proj": 6}, "alpha_pattern": {"k_proj": 3}}


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("patterns", [{}, MIXED])
def test_pefts_own_scales_are_the_trained_ones(tmp_path, rslora, patterns):
    scales, _ = adapter(tmp_path, use_rslora=rslora, **patterns)
    found = rv.parity(tmp_path, scales)
    assert found.holds and found.exit_code == 0 and len(found.rows) == 6
    assert {row.module: row.trained for row in found.rows} == pytest.approx(scales, rel=1e-12)


def test_a_scale_rounded_to_bfloat16_holds_and_one_a_percent_off_does_not(tmp_path):
    scales, _ = adapter(tmp_path, lora_alpha=11, r=7)
    rounded = {name: float(torch.tensor(value).bfloat16()) for name, value in scales.items()}
    assert rounded != scales and rv.parity(tmp_path, rounded).holds
    assert not rv.parity(tmp_path, {name: 1.01 * value for name, value in scales.items()}).holds


@pytest.mark.parametrize(
    ("rslora", "wrong", "named", "strength"),
    [
        (True, lambda r, a: a / r, "use_rslora is ignored", "too weak"),
        (False, lambda r, a: a / math.sqrt(r), "though use_rslora is not set", "too strong"),
        (False, lambda r, a: a, "raw alpha", "too strong"),
        (False, lambda r, a: 1.0, "alpha is assumed to be r", "too"),
        (False, lambda r, a: r / a, "upside down", "too"),
        (False, lambda r, a: 1 / r, "alpha is ignored", "10 times too weak"),
        (False, lambda r, a: (a / r) ** 2, "alpha/r is applied twice", "too"),
        (True, lambda r, a: a**2 / r, "alpha/sqrt(r) is applied twice", "too"),
        (False, lambda r, a: 2 * a / r, "counts twice", "2 times too strong"),
        (False, lambda r, a: -a / r, "sign", "wrong sign"),
        (False, lambda r, a: 0.0, "nothing of the adapter is left", "no effect"),
        (False, lambda r, a: 0.77 * a / r, "no rule that we know", "too weak"),
    ],
)
def test_the_wrong_rule_is_named_over_mixed_ranks(tmp_path, rslora, wrong, named, strength):
    adapter(tmp_path, use_rslora=rslora, rank_pattern={"q_proj": 2, "v_proj": 6})
    rows = rv.parity(tmp_path, 1.0).rows
    found = rv.parity(tmp_path, {row.module: wrong(row.rank, row.alpha) for row in rows})
    assert not found.holds and found.exit_code == 1
    assert all(named in row.why for row in found.rows if not row.holds)
    assert strength in found.summary
    for row in found.rows:
        assert row.factor == pytest.approx(wrong(row.rank, row.alpha) / row.trained)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda row: 10 / 4, "rank_pattern and alpha_pattern are ignored"),
        (lambda row: row.alpha / 4, "rank_pattern is ignored"),
        (lambda row: 10 / row.rank, "alpha_pattern is ignored"),
        (lambda row: row.alpha / 6, "largest rank"),
        (lambda row: 0.4, "one global scale 0.4"),
    ],
)
def test_ignored_patterns_are_named(tmp_path, wrong, named):
    adapter(tmp_path, **MIXED)
    found = rv.parity(tmp_path, {row.module: wrong(row) for row in rv.parity(tmp_path, 1.0).rows})
    assert any(not row.holds for row in found.rows)
    assert all(named in row.why for row in found.rows if not row.holds) and named in found.summary


def test_what_the_ranks_at_hand_do_not_tell_apart_is_said(tmp_path):
    adapter(tmp_path, r=4, lora_alpha=4, use_rslora=True)  # alpha/r is 1 here
    assert "not to be told apart here" in rv.parity(tmp_path, 1.0).rows[0].why


def test_a_module_left_out_and_names_by_their_end(tmp_path):
    scales, _ = adapter(tmp_path)
    found = rv.parity(tmp_path, {"q_proj": 2.5, "base_model.model.first.k_proj": 2.5, "second.k_proj": 2.5, "first.v_proj": 2.5})
    assert [row.module for row in found.rows if not row.holds] == ["second.v_proj"]
    assert "left out" in found.rows[-1].why and "1 have none" in found.summary
    assert not rv.parity(tmp_path, {**scales, "first.q_proj": 10.0, "q_proj": 2.5}).holds  # the whole name counts


def test_a_loader_may_return_the_weight_it_adds(tmp_path):
    _, model = adapter(tmp_path, use_rslora=True)
    layers = {name[17:]: m for name, m in model.named_modules() if hasattr(m, "scaling")}
    added = {name: m.get_delta_weight("default") for name, m in layers.items()}
    assert rv.parity(tmp_path, lambda folder: added).holds
    assert rv.parity(tmp_path, {name: value.bfloat16() for name, value in added.items()}).holds
    found = rv.parity(tmp_path, {name: value / 2 for name, value in added.items()})
    assert found.rows[0].factor == pytest.approx(0.5) and "use_rslora is ignored" in found.rows[0].why  # 1/sqrt(4) is 1/2
    with pytest.raises(InputError, match="no multiple of B A"):
        rv.parity(tmp_path, {name: value.roll(1, 0) for name, value in added.items()})
    with pytest.raises(InputError, match="transposed"):
        rv.parity(tmp_path, {"first.k_proj": added["first.k_proj"].T})


def refused(folder, scales, said):
    with pytest.raises(InputError, match=said):
        rv.parity(folder, scales)


def test_bad_scales_are_refused(tmp_path):
    adapter(tmp_path)
    refused(tmp_path, {"first.q_prj": 1.0}, r"no module 'first.q_prj'; did you mean .*'first.q_proj'")
    for value in (math.nan, math.inf, "2.5", None, True):
        refused(tmp_path, {"first.q_proj": value}, "expected a finite number")
    refused(tmp_path, [1.0], "expected a mapping")
    refused(tmp_path, lambda folder: None, "expected a mapping")
    refused(tmp_path, tmp_path / "none.json", "cannot be read")
    (tmp_path / "scales.json").write_text("{")
    refused(tmp_path, tmp_path / "scales.json", "not JSON")


def test_bad_folders_are_refused(tmp_path):
    adapter(tmp_path)
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    text, data, tensors = config.read_text(), weights.read_bytes(), load_file(weights)
    tensors = {key: value.clone() for key, value in tensors.items()}  # the loaded ones look into the file

    def with_config(**changed):
        config.write_text(json.dumps({**json.loads(text), **changed}))

    refused(tmp_path / "none", 1.0, "is no folder")
    config.unlink()
    refused(tmp_path, 1.0, "holds no adapter_config.json")
    config.write_text("[")
    refused(tmp_path, 1.0, "is not JSON")
    for changed, said in (
        ({"r": 8}, "rank 8, its tensor .* holds 4"), ({"rank_pattern": {"q_proj": 2}}, "rank 2, its tensor"), ({"r": 0}, "positive whole"),
        ({"target_modules": ["q_proj"]}, "which target_modules"), ({"target_modules": ".*q_proj"}, "which target_modules"),
        ({"peft_type": "IA3"}, "peft_type='IA3'"), ({"rank_pattern": {"(": 4}}, "no pattern"), ({"lora_alpha": "many"}, "positive"),
    ):  # fmt: skip
        with_config(**changed)
        refused(tmp_path, 1.0, said)
    config.write_text(text)
    for cut in (len(data) - 8, 100, 0):
        weights.write_bytes(data[:cut])
        refused(tmp_path, 1.0, "truncated or damaged")
    first = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != first}, weights)
    refused(tmp_path, 1.0, "no lora_A")
    save_file({"transformer.wte": tensors[first]}, weights)
    refused(tmp_path, 1.0, "no part of a LoRA adapter")
    save_file({"lin.weight": tensors[first]}, weights)
    refused(tmp_path, 1.0, "holds no lora_A and lora_B")
    weights.unlink()
    refused(tmp_path, 1.0, "holds no adapter_model.safetensors")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was loaded",))


def test_a_pickle_is_refused_and_never_loaded(tmp_path):
    adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps(Trap()))
    refused(tmp_path, 1.0, "a pickle: loading one runs whatever code is in it")


def test_exit_codes_and_json(tmp_path, capsys, monkeypatch):
    scales, _ = adapter(tmp_path / "adapter", use_rslora=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.json").write_text(json.dumps({"scales": scales}))
    (tmp_path / "bad.json").write_text("2.5")
    (tmp_path / "my_stack_for_parity.py").write_text("def scales_of(folder):\n    return {'q_proj': 5.0, 'k_proj': 5.0, 'v_proj': 5.0}\n")

    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["parity", *words])
        return stopped.value.code

    assert run("adapter", "--scales", "good.json") == 0
    assert run("adapter", "--loader", "my_stack_for_parity:scales_of") == 0
    capsys.readouterr()
    assert run("adapter", "--scales", "bad.json", "--json", "out.json") == 1
    out = capsys.readouterr().out
    assert "use_rslora is ignored" in out and "2 times too weak" in out
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["verdict"] == "does_not_hold" and len(data["rows"]) == 6 and data["rows"][0]["factor"] == 0.5
    assert run("adapter") == 2 and run("nowhere", "--scales", "good.json") == 2
    assert run("adapter", "--scales", "good.json", "--loader", "os:getcwd") == 2
    assert "truncated" not in capsys.readouterr().err
