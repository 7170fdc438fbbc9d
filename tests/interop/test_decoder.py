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


def task_of(name, *, dtype=torch.float32, **changes):
    """A small model of that config with weights and biases that matter, on nine tokens of each of two sequences."""
    import transformers

    from rsverify.interop.transformers import causal_task

    kind, options = SERVED.get(name, (name, {}))
    config = getattr(transformers, kind)(**{**SIZES, **options, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
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


def hooked(task):
    task.model.model.norm.register_forward_hook(lambda module, inputs, output: output * 1.01)
    return task


def with_another_forward(task):
    layer = task.model.model.layers[1].mlp
    before = layer.forward
    layer.forward = lambda x: 2 * before(x)
    return task


def of_another_class(task):
    task.model.model.norm.__class__ = type("Other", (type(task.model.model.norm),), {})
    return task


def with_another_loss(task):
    return replace(task, losses=lambda *given: 2 * task.losses(*given))


def on_the_head(task):
    return replace(task, targets=(*task.targets, "lm_head"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: hooked(task_of("llama")), lambda: with_another_forward(task_of("llama")), lambda: of_another_class(task_of("llama")),
        lambda: with_another_loss(task_of("llama")), lambda: on_the_head(task_of("llama")), lambda: task_of("llama", dtype=torch.float64),
        lambda: task_of("llama", hidden_act="gelu"), lambda: task_of("mistral", sliding_window=8),
        lambda: task_of("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1), lambda: task_of("Qwen3Config"),
    ],
    ids=["hook", "forward", "class", "loss", "head", "float64", "gelu", "short window", "some windows", "qwen3"],
)  # fmt: skip
def test_what_the_kernels_do_not_know_goes_its_own_way(make):
    task = make()
    run = train_stacked(task, TWO[:2], steps=1)
    assert not is_served(run)
    for i, c in enumerate(TWO[:2]):
        expected = train_alone(task if task.model.dtype == torch.float64 else _doubled(task), c, 1).loss
        np.testing.assert_allclose(run.loss[i], expected, rtol=1e-4)


def _doubled(task):
    task.model.double()
    return task


@pytest.mark.parametrize("wrong", ["norm", "rotation", "heads"])
def test_a_decoder_that_is_not_the_model_is_seen_before_it_trains(wrong):
    task = task_of("llama")
    found = task.decoder(task, torch.float32)
    changed = {
        "norm": {"norm": replace(found.norm, epsilon=1.0)},
        "rotation": {"rotation": lambda length: found.rotation(length)[::-1]},
        "heads": {"heads": 1},
    }[wrong]
    assert serve.agrees(task, found)
    assert not serve.agrees(task, replace(found, **changed))
    assert not is_served(train_stacked(replace(task, decoder=lambda task, dtype: replace(found, **changed)), TWO, steps=1))


def test_wide_models_go_their_own_way_sooner_where_configurations_are_fewer_than_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(serve, "WIDE_FOR_FEW", 16)
    task = task_of("llama")
    served = lambda count: serve.decoder_for(task, configurations=count, dtype=torch.float32) is not None  # noqa: E731
    assert not served(3) and served(4)
    monkeypatch.setattr(serve, "WIDE", 16)
    assert not served(4)
