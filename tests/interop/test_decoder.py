"""Llama, Mistral and Qwen2 of transformers by the native kernels: the numbers of their own forward, and only where it does the same."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rsverify.statistics.streams import stream
from rsverify.training.configuration import Configuration
from rsverify.training.native import build, serve
from rsverify.training.stacked import train_stacked

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from naive_training import rounding_bound, train_alone
from test_stacked import MOVED

pytestmark = [
    pytest.mark.training,
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="pip install 'rsverify[realmodel]'"),
    pytest.mark.skipif(build.kernels(torch.float32) is None, reason="there are no kernels"),
]

SIZES = {
    "vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 24, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}  # fmt: skip
SERVED = {
    "llama": ("LlamaConfig", {}),
    "tied, with biases": ("LlamaConfig", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "heads wider than the model": ("LlamaConfig", {"head_dim": 12, "num_key_value_heads": 2, "rms_norm_eps": 1e-2}),
    "rotation of Llama 3": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "mistral": ("MistralConfig", {"sliding_window": 9}),
    "qwen2": ("Qwen2Config", {}),
}
TWO = [
    Configuration(2, "alpha/r", adapter=MOVED, lr=1e-2),
    Configuration(40, "alpha/sqrt(r)", optimizer="sgd", lr=1e-2, data=1),
    Configuration(3, "alpha/r", lr=1e-2, targets=("q_proj", "down_proj")),
]


def task_of(name, *, dtype=torch.float32, fresh=False, change=None, **changes):
    """A small model of that config, on nine tokens of each of two sequences, with weights and biases that matter, or `fresh` ones as the
    library draws them; `change` is done to it."""
    import transformers

    from rsverify.interop.transformers import causal_task

    kind, options = SERVED.get(name, (name, {}))
    config = getattr(transformers, kind)(**{**SIZES, **options, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    if change:
        change(model)
    with torch.no_grad():
        for key, p in () if fresh else model.named_parameters():
            drawn = torch.from_numpy(stream(1, key).standard_normal(tuple(p.shape)))
            p.copy_(1 + 0.2 * drawn if "norm" in key else 0.3 * drawn)
    return causal_task(model.to(dtype), list(range(256)) * 2, tokens=9, sequences=2)


def is_served(run):
    return all(stack.decoder is not None for stack in run._stacks)


@pytest.mark.parametrize("name", SERVED)
def test_the_kernels_find_what_the_models_own_forward_does(name):
    run = train_stacked(task_of(name), TWO, steps=3)
    assert is_served(run)
    own = task_of(name, dtype=torch.float64)
    scale = np.finfo(np.float32).eps / np.finfo(np.float64).eps
    for i, c in enumerate(run.configurations):
        alone = train_alone(own, c, 3)
        bound = rounding_bound(own, c, 3, alone)
        for what in ("loss", "gradient_norm", "output_rms"):
            gap = np.abs(getattr(run, what)[i] - getattr(alone, what))
            assert (gap <= scale * getattr(bound, what)).all(), (c.text, what, gap, scale * getattr(bound, what))


@pytest.mark.parametrize("name", SERVED)
def test_kernels_and_autograd_agree(name, monkeypatch):
    task = task_of(name)
    ours = train_stacked(task, TWO, steps=3)
    monkeypatch.setenv(build.SWITCH, "off")
    theirs = train_stacked(task, TWO, steps=3)
    assert is_served(ours) and not is_served(theirs)
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-4)


def with_another_forward(model):
    layer = model.model.layers[1].mlp
    before = layer.forward
    layer.forward = lambda x: 2 * before(x)


def of_another_class(model):
    model.model.norm.__class__ = type("Other", (type(model.model.norm),), {})


def of_other_widths(model):
    mlp = model.model.layers[1].mlp
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = (torch.nn.Linear(*sizes, bias=False) for sizes in ((16, 64), (16, 64), (64, 16)))


def of_one_layer_twice(model):
    model.model.layers[1].mlp = model.model.layers[0].mlp


def set_to(path, value):
    """Sets an attribute of the model, by its path."""
    owner, _, name = path.rpartition(".")
    return lambda model: setattr(model.get_submodule(owner), name, value)


CHANGES = {
    "forward hook": lambda model: model.model.norm.register_forward_hook(lambda module, inputs, output: output * 1.01),
    "forward pre-hook": lambda model: model.model.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.01,)),
    "backward hook": lambda model: model.model.layers[0].mlp.register_full_backward_hook(lambda m, dx, dy: tuple(2 * g for g in dx)),
    "backward pre-hook": lambda model: model.model.layers[0].mlp.register_full_backward_pre_hook(lambda m, dy: tuple(2 * g for g in dy)),
    "another forward": with_another_forward,
    "another class": of_another_class,
    "other widths in one block": of_other_widths,
    "a larger head": lambda model: setattr(model, "lm_head", torch.nn.Linear(16, 300, bias=False)),
    "a head with a bias": lambda model: setattr(model, "lm_head", torch.nn.Linear(16, 256)),
    "one module twice": of_one_layer_twice,
    "another scale": set_to("model.layers.0.self_attn.scaling", 1.0),
    "attention both ways": set_to("model.layers.0.self_attn.is_causal", False),
    "rows of bounded norm": set_to("model.embed_tokens.max_norm", 0.1),
    "another way of attention": lambda model: setattr(model.config, "_attn_implementation", "flex_attention"),
    "a transposed weight": lambda model: setattr(model.lm_head, "weight", torch.nn.Parameter(torch.zeros(16, 256).T)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_was_changed_is_not_taken_for_what_it_was(change):
    """By the look of it, not by its loss: what a hook does on the way back no loss tells."""
    assert serve.decoder_for(task_of("llama", fresh=True), configurations=9, dtype=torch.float32) is not None
    task = task_of("llama", fresh=True, change=CHANGES[change])
    assert serve.decoder_for(task, configurations=9, dtype=torch.float32) is None


def test_hooks_on_all_modules_are_seen():
    hook = torch.nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        assert serve.decoder_for(task_of("llama"), configurations=9, dtype=torch.float32) is None
    finally:
        hook.remove()
    assert serve.decoder_for(task_of("llama"), configurations=9, dtype=torch.float32) is not None


@pytest.mark.parametrize(
    "make",
    [
        lambda: task_of("llama", dtype=torch.float64), lambda: task_of("llama", hidden_act="gelu"),
        lambda: task_of("mistral", sliding_window=8), lambda: task_of("Qwen3Config"),
        lambda: task_of("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1),
        lambda: task_of("llama", vocab_size=serve.LARGE_VOCABULARY),
        lambda: (lambda task: replace(task, losses=lambda *given: 2 * task.losses(*given)))(task_of("llama")),
        lambda: (lambda task: replace(task, targets=(*task.targets, "lm_head")))(task_of("llama")),
        lambda: (lambda task: replace(task, batch=lambda step, data: task.batch(step, data)))(task_of("mistral")),
    ],
    ids=["float64", "gelu", "short window", "qwen3", "some windows", "large vocabulary", "loss", "head", "window and other batches"],
)  # fmt: skip
def test_what_the_kernels_do_not_know_goes_its_own_way(make):
    task = make()
    assert serve.decoder_for(task, configurations=9, dtype=task.model.dtype) is None
    run = train_stacked(task, TWO[:2], steps=1)
    assert not is_served(run) and np.isfinite(run.loss).all()


def _swapped(block):
    return replace(block, linears={**block.linears, "gate": block.linears["up"], "up": block.linears["gate"]})


WRONG = {
    "norm": lambda found: {"norm": replace(found.norm, epsilon=1e-2)},
    "no rotation": lambda found: {"rotation": lambda length: tuple(torch.full((length, 8), float(k)) for k in (1, 0))},
    "other angles": lambda found: {"rotation": lambda length: [t.roll(1, 0) for t in found.rotation(length)]},
    "gate and up": lambda found: {"blocks": tuple(map(_swapped, found.blocks))},
    "order of blocks": lambda found: {"blocks": found.blocks[::-1]},
    "heads": lambda found: {"heads": 1},
}


@pytest.mark.parametrize("fresh", [False, True], ids=["trained", "fresh"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_decoder_that_is_not_the_model_is_seen_before_it_trains(wrong, fresh):
    task = task_of("llama", fresh=fresh)
    found = task.decoder(task, torch.float32)
    assert is_served(train_stacked(task, TWO, steps=1))
    changed = replace(found, **WRONG[wrong](found))
    assert not is_served(train_stacked(replace(task, decoder=lambda task, dtype: changed), TWO, steps=1))


@pytest.mark.parametrize("fresh", [False, True], ids=["trained", "fresh"])
def test_a_patched_library_is_seen(fresh, monkeypatch):
    from transformers.models.llama import modeling_llama

    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin: (q, k))
    task = task_of("llama", fresh=fresh)
    assert task.decoder(task, torch.float32) is not None
    assert not is_served(train_stacked(task, TWO, steps=1))


def test_wide_models_go_their_own_way_sooner_where_configurations_are_fewer_than_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(serve, "WIDE_FOR_FEW", 16)
    task = task_of("llama")
    served = lambda count: serve.decoder_for(task, configurations=count, dtype=torch.float32) is not None  # noqa: E731
    assert not served(3) and served(4)
    monkeypatch.setattr(serve, "WIDE", 16)
    assert not served(4)
