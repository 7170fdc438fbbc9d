"""What a config adapts is what PEFT adapts, for many architectures; what is not served is refused by name."""

from __future__ import annotations

import copy
import json
import warnings

import pytest

pytest.importorskip("peft", reason="PEFT is not installed: pip install 'rsverify[peft]'")

import peft
import torch
import transformers

from rsverify.errors import InputError
from rsverify.interop.lora_config import read_lora_config
from rsverify.interop.placement import linears_alone, place
from rsverify.interop.transformers import problem_from_pretrained

SMALL = {"vocab_size": 256, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SMALL, "num_key_value_heads": 2}
KINDS = {
    "llama": transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "qwen2": transformers.Qwen2Config(**GROUPED),
    "qwen3": transformers.Qwen3Config(**GROUPED, head_dim=4),
    "mistral": transformers.MistralConfig(**GROUPED),
    "gemma": transformers.GemmaConfig(**GROUPED, head_dim=4),
    "phi": transformers.PhiConfig(**SMALL),
    "gpt2": transformers.GPT2Config(vocab_size=256, n_embd=16, n_layer=2, n_head=4),
    "gpt_neox": transformers.GPTNeoXConfig(**SMALL),
    "opt": transformers.OPTConfig(
        vocab_size=256, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16
    ),
    "falcon": transformers.FalconConfig(vocab_size=256, hidden_size=16, num_hidden_layers=2, num_attention_heads=4),
    "stablelm": transformers.StableLmConfig(**GROUPED),
    "mixtral": transformers.MixtralConfig(**GROUPED, num_local_experts=4),
}  # fmt: skip
ENDINGS = {"gpt2": ("c_attn", "c_fc"), "gpt_neox": ("query_key_value", "dense_h_to_4h"), "falcon": ("query_key_value", "dense")}
FIRST = {"gpt2": "h", "falcon": "h"}
SETTINGS = {
    "all-linear": lambda one, two, layers: {"target_modules": "all-linear"},
    "endings": lambda one, two, layers: {"target_modules": [one, two]},
    "pattern": lambda one, two, layers: {"target_modules": rf".*\.1\..*{one}"},
    "excluded": lambda one, two, layers: {"target_modules": [one, two], "exclude_modules": [two]},
    "one layer": lambda one, two, layers: {"target_modules": [one], "layers_to_transform": [0]},
    "layers named": lambda one, two, layers: {"target_modules": [one], "layers_to_transform": [1], "layers_pattern": layers},
    "rank pattern": lambda one, two, layers: {"target_modules": [one, two], "rank_pattern": {one: 2}},
    "alpha pattern": lambda one, two, layers: {"target_modules": [one, two], "alpha_pattern": {rf"^.*\.0\..*{two}": 3}},
    "saved": lambda one, two, layers: {"target_modules": [one], "modules_to_save": [two]},
    "bias": lambda one, two, layers: {"target_modules": [one], "bias": "all"},
    "rslora": lambda one, two, layers: {"target_modules": [one], "use_rslora": True},
    "gaussian": lambda one, two, layers: {"target_modules": [one], "init_lora_weights": "gaussian", "lora_dropout": 0.1},
    "transposed": lambda one, two, layers: {"target_modules": [one], "fan_in_fan_out": True},
    "tokens": lambda one, two, layers: {"target_modules": [one], "trainable_token_indices": [1, 2]},
    "half alpha": lambda one, two, layers: {"target_modules": [one], "lora_alpha": 0.5},
}


def config_of(tmp_path, **changes):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], **changes}))
    return path


def quietly(model, config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model, config)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_adapted_is_what_peft_adapts(tmp_path, kind):
    """Names, ranks, scales and trained parameters, read off PEFT's modules by their factors and not by what placement reads."""
    one, two = ENDINGS.get(kind, ("q_proj", "v_proj"))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(KINDS[kind])
    for name, settings in SETTINGS.items():
        changes = settings(one, two, FIRST.get(kind, "layers"))
        read = read_lora_config(config_of(tmp_path, **changes))
        placed = place(model, read)
        real = quietly(copy.deepcopy(model), peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **changes}))
        rows = {}
        for key, factor in real.named_parameters():
            if ".lora_A." in key:
                layer = key.removeprefix("base_model.model.").partition(".lora_A.")[0]
                rows[layer] = (factor.shape[0], next(iter(real.base_model.model.get_submodule(layer).scaling.values())))
        # A parameter of experts has one A with the rows of all of them.
        ours = [(it.rank * (4 if it.kind == "parameter" and it.parameter != "weight" else 1), it.scale) for it in placed.adapted]
        assert sorted(zip([it.name for it in placed.adapted], ours, strict=True)) == sorted(
            (layer.replace(".base_layer", ""), row) for layer, row in rows.items()
        ), name
        trained = sum(parameter.numel() for parameter in real.parameters() if parameter.requires_grad)
        assert placed.parameters + sum(size for _, size in placed.beside) == trained, name
        for it in placed.adapted:
            assert it.scale == pytest.approx(it.alpha / (it.rank**0.5 if changes.get("use_rslora") else it.rank), rel=1e-12), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8.5}, "r=8.5 is of type float"),
        ({"lora_alpha": "16"}, "lora_alpha='16' is of type str"),
        ({"target_modules": None}, "target_modules=None"),
        ({"target_modules": []}, "target_modules"),
        ({"target_modules": [1]}, "is of type list"),
        ({"layers_to_transform": "0"}, "is of type str"),
        ({"brand_new": 1}, "brand_new=1 is not known here"),
        ({"use_dorra": True}, "did you mean 'use_dora'"),
        ({"use_dora": True}, "use_dora=True is not modelled"),
        ({"lora_bias": True}, "lora_bias=True is not modelled"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"lora_dropout": 1.5}, "lora_dropout=1.5"),
        ({"r": True}, "r=True is of type bool"),
        ({"lora_alpha": float("nan")}, "lora_alpha=nan"),
    ],
)  # fmt: skip
def test_keys_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_lora_config(config_of(tmp_path, **changes))


def test_every_key_of_peft_is_classified(tmp_path):
    """A key that PEFT has and the lists do not is refused as soon as it differs from its default; each with some value is tried."""
    from rsverify.interop import lora_config as room
    from rsverify.interop.peft.library import config_fields

    listed = {*room.BOOKKEEPING, *room.PLACING, *room.BESIDE, *room.SCALING, *room.INERT}
    assert listed <= set(config_fields("lora"))
    for key in set(config_fields("lora")) - listed:
        with pytest.raises(InputError, match=key):
            read_lora_config(config_of(tmp_path, **{key: {"some": 1}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["query"]}, "end in: q_proj"),
        ({"target_modules": "("}, "PEFT does not place"),
        ({"target_modules": ["embed_tokens"]}, "the embedding 'model.embed_tokens'"),
        ({"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"target_modules": "q_proj", "layers_to_transform": [0]}, "PEFT does not place"),
    ],
)
def test_a_model_it_does_not_fit_is_refused(tmp_path, changes, message):
    model = transformers.AutoModelForCausalLM.from_config(KINDS["llama"])
    with pytest.raises(InputError, match=message):
        linears_alone(place(model, read_lora_config(config_of(tmp_path, **changes))))


def saved(tmp_path, kind="llama"):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(KINDS[kind])
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("What a rank costs, and what it buys. " * 40)
    return tmp_path / "model"


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def rewrite(folder, tensors):
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lacking(folder):
    rewrite(folder, {name: value for name, value in weights(folder).items() if name != "lm_head.weight"})


def not_finite(folder):
    tensors = weights(folder)
    tensors["model.norm.weight"][3] = float("nan")
    rewrite(folder, tensors)


def truncated(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def other_class(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "opt", "architectures": ["OPTForCausalLM"]}))


def quantized(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    )


def no_weights(folder):
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lacking, "lacks 1 of the model's weights .lm_head.weight."),
        (not_finite, "1 of 16 entries of model.norm.weight are not finite"),
        (truncated, "cannot be loaded"),
        (other_class, "model="),
        (quantized, "cannot be loaded"),
        (no_weights, "cannot be loaded"),
    ],
)
def test_a_damaged_checkpoint_is_named_before_work(tmp_path, monkeypatch, fault, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = saved(tmp_path, "mistral")
    fault(folder)
    with pytest.raises(InputError, match=message):
        problem_from_pretrained(str(folder), config=read_lora_config(config_of(tmp_path)), text=tmp_path / "text.txt", tokens=32)


def test_a_bidirectional_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)
    transformers.AutoModelForMaskedLM.from_config(transformers.BertConfig(**SMALL)).save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("What a rank costs, and what it buys. " * 40)
    config = read_lora_config(config_of(tmp_path, target_modules=["query"]))
    with pytest.raises(InputError, match="bidirectional"):
        problem_from_pretrained(str(tmp_path / "model"), config=config, text=tmp_path / "text.txt", tokens=32)


def test_the_verdict_says_what_is_adapted_and_what_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = saved(tmp_path)
    path = config_of(tmp_path, layers_to_transform=[0], bias="all", lora_dropout=0.1, modules_to_save=["norm"])
    problem = problem_from_pretrained(str(folder), config=read_lora_config(path), text=tmp_path / "text.txt", tokens=32)
    assert problem.targets == ("model.layers.0.self_attn.q_proj",)
    words = " ".join(problem.notes)
    assert "1 adapted: 1 q_proj" in words and "Beside the adapters" in words and "lora_dropout=0.1 does not act" in words


def test_experts_in_float64_do_not_stop_the_attention(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = saved(tmp_path, "mixtral")
    problem = problem_from_pretrained(str(folder), config=read_lora_config(config_of(tmp_path)), text=tmp_path / "text.txt", tokens=32)
    assert problem.loss().dtype == torch.float64
    everything = read_lora_config(config_of(tmp_path, target_modules="all-linear"))
    with pytest.raises(InputError, match="no linear, e.g. the parameter"):
        problem_from_pretrained(str(folder), config=everything, text=tmp_path / "text.txt", tokens=32)
