"""A user's own Hugging Face model: loaded from a folder, judged; everything wrong with it refused in words."""

import json

import pytest

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'rsverify[realmodel]'")

import torch
import transformers

from rsverify.definitions.claims import setting
from rsverify.errors import InputError
from rsverify.interop.lora_config import read_lora_config
from rsverify.interop.transformers import match_targets, problem_from_pretrained, replace_conv1d
from rsverify.training import measure_all

SIZES = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
KINDS = {
    "llama": (transformers.LlamaConfig(**SIZES, num_key_value_heads=2), ["q_proj", "down_proj"]),
    "qwen2": (transformers.Qwen2Config(**SIZES, num_key_value_heads=2), ["q_proj", "up_proj"]),
    "mistral": (transformers.MistralConfig(**SIZES, num_key_value_heads=2), ["k_proj"]),
    "gpt2": (transformers.GPT2Config(vocab_size=256, n_embd=32, n_layer=1, n_head=4), ["c_attn", "c_proj", "c_fc"]),
}
TEXT = "What a rank costs, and what it buys. " * 40


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _write(tmp_path, kind="llama", **changes):
    config, targets = KINDS[kind]
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 20, "use_rslora": True, "target_modules": targets, **changes}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "text.txt").write_text(TEXT)
    return str(tmp_path / "model"), tmp_path / "adapter_config.json", tmp_path / "text.txt"


@pytest.mark.training
@pytest.mark.parametrize("kind", KINDS)
def test_each_family_is_judged(tmp_path, kind):
    model, config, text = _write(tmp_path, kind)
    settings = read_lora_config(config)
    problem = problem_from_pretrained(model, config=settings, text=text, tokens=32)
    assert problem.loss().dtype == torch.float64
    asked = setting(settings.adapter, settings.rule, quantity="gradient_norm", statistic="frobenius", steps=0)
    found = measure_all([asked], problem=problem, ranks=(4, 8, 16, 32, 64), draws=32, alpha=settings.alpha)[asked.claim]
    assert not isinstance(found, str)
    assert found.interval is not None
    assert -0.1 < found.interval[0] < found.interval[1] < 0.1


def test_conv1d_becomes_an_equal_linear():
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(KINDS["gpt2"][0]).eval()
    ids = torch.arange(20)[None]
    before = model(input_ids=ids).logits
    replace_conv1d(model)
    torch.testing.assert_close(model(input_ids=ids).logits, before)
    assert match_targets(model, ["c_attn"]) == ("transformer.h.0.attn.c_attn",)
    assert "lm_head" not in match_targets(model, "all-linear")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "LOHA"}, "expected LORA"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"r": 0}, "r=0"),
        ({"lora_alpha": -1}, "lora_alpha=-1"),
        ({"target_modules": None}, "target_modules"),
    ],
)
def test_settings_refused(tmp_path, changes, said):
    _, config, _ = _write(tmp_path, **changes)
    with pytest.raises(InputError, match=said):
        read_lora_config(config)


def test_gaussian_init_is_that_of_peft(tmp_path):
    _, config, _ = _write(tmp_path, init_lora_weights="gaussian", use_rslora=False)
    settings = read_lora_config(config)
    assert (settings.rule, settings.alpha, settings.r) == ("alpha/r", 20.0, 8)
    assert settings.adapter.laws["A"].text() == "gaussian(std=1/r)"


def test_what_is_missing_is_named(tmp_path):
    model, config, text = _write(tmp_path)
    settings = read_lora_config(config)
    with pytest.raises(InputError, match="cannot be read"):
        read_lora_config(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be loaded"):
        problem_from_pretrained(str(tmp_path / "nothing"), config=settings, text=text)
    with pytest.raises(InputError, match="cannot be read"):
        problem_from_pretrained(model, config=settings, text=tmp_path / "none.txt")
    text.write_text("short")
    with pytest.raises(InputError, match="one batch needs"):
        problem_from_pretrained(model, config=settings, text=text)
    _, config, text = _write(tmp_path, target_modules=["query"])
    with pytest.raises(InputError, match="q_proj"):
        problem_from_pretrained(model, config=read_lora_config(config), text=text)


@pytest.mark.training
def test_verify_judges_a_model_from_a_folder(tmp_path, capsys):
    from rsverify import cli
    from rsverify.report.results import read_results

    model, config, text = _write(tmp_path)
    text.write_text(TEXT * 4)
    words = ["--model", model, "--config", str(config), "--text", str(text), "--optimizer", "sgd", "--ranks", "4,16,64"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", *words, "--out", str(tmp_path / "out")])
    verdict = read_results(tmp_path / "out" / "results.json")
    assert stop.value.code == verdict.exit_code
    assert {row.claim.rule for row in verdict.rows} == {"alpha/sqrt(r)"}  # use_rslora
    assert all("LlamaForCausalLM" in row.measured.model for row in verdict.rows if row.measured)
    headline = {row.claim.quantity: row for row in verdict.rows if row.headline and row.measured}
    assert headline["gradient_norm"].agreement == "confirmed"
    assert not any(row.agreement == "refuted" for row in verdict.rows)
    assert verdict.verdict in ("holds", "inconclusive")  # three ranks and one small layer cannot settle every row
    assert str(tmp_path) not in (tmp_path / "out" / "results.json").read_text()
