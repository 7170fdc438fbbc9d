"""`rsverify train`: files, exit codes, going on, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest

from rsverify.cli import main

pytestmark = pytest.mark.training


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # the table fits
    path = tmp_path / "text.txt"
    path.write_text("What a rank costs, and what it buys. " * 20)
    return path


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(["train", *map(str, words)])
    return stop.value.code


def test_writes_its_curves_and_goes_on(tmp_path, text, capsys):
    out = tmp_path / "run"
    words = ["lora", "--ranks", "2,8", "--seeds", 2, "--tokens", 16, "--text", text, "--out", out, "--workers", 1]
    assert run(*words, "--steps", 2) == 0
    shown = capsys.readouterr().out
    assert "8 configurations of lora" in shown
    assert "   2  alpha/sqrt(r)  adamw, 0.001     2/2  " in shown
    data = json.loads((out / "run.json").read_text())
    assert data["complete"]
    assert [c["rank"] for c in data["configurations"]] == [2] * 4 + [8] * 4
    rows = list(csv.DictReader((out / "curves.csv").open()))
    assert len(rows) == 8 * 2
    assert float(rows[0]["loss"]) == data["configurations"][0]["loss"][0]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert run(*words, "--steps", 3, "--json", tmp_path / "more.json") == 0
    more = json.loads((tmp_path / "more.json").read_text())
    assert [c["loss"][:2] for c in more["configurations"]] == [c["loss"] for c in data["configurations"]]
    capsys.readouterr()
    assert run(*words, "--steps", 3, "--alpha", 5) == 2
    assert "alpha=20.0 then, 5.0 now" in capsys.readouterr().err


def test_divergence_is_marked_and_the_run_holds(tmp_path, text, capsys):
    words = ["--optimizer", "sgd", "--lr", "1e-3,1e30", "--ranks", "4", "--rule", "alpha/r", "--seeds", 1, "--workers", 1]
    assert run("lora", *words, "--steps", 4, "--tokens", 16, "--text", text, "--out", tmp_path / "run") == 0
    assert "diverged at step" in capsys.readouterr().out
    found = json.loads((tmp_path / "run" / "run.json").read_text())["configurations"]
    assert found[0]["diverged"] is None
    assert found[1]["diverged"] in (1, 2)


OWN = """
import torch

class Own(torch.nn.Module):
    def __init__(self, rank, base, alpha):
        super().__init__()
        if rank == 8:
            raise ValueError("eight is taken")
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.A = torch.nn.Parameter(torch.randn(rank, base.in_features))
        self.B = torch.nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.A.T @ self.B.T)
"""


@pytest.mark.parametrize("adapter", ["dora", "miss", "own_adapter:Own"])
def test_any_adapter_is_trained_and_ranks_that_it_has_not_are_told(adapter, tmp_path, text, capsys, monkeypatch):
    (tmp_path / "own_adapter.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    words = ["--ranks", "4,5,8", "--seeds", 1, "--workers", 1, "--steps", 2, "--tokens", 16, "--text", text, "--targets", "q"]
    assert run(adapter, *words, "--out", tmp_path / "run") == 0
    out = " ".join(capsys.readouterr().out.split())
    left_out = {"dora": [], "miss": [5], "own_adapter:Own": [8]}[adapter]
    assert all(f"rank {rank} is left out: " in out for rank in left_out)
    data = json.loads((tmp_path / "run" / "run.json").read_text())
    assert sorted({c["rank"] for c in data["configurations"]}) == [r for r in (4, 5, 8) if r not in left_out]
    assert all(c["loss"][1] != c["loss"][0] for c in data["configurations"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--targets", "value"], "end in: q, k, v, o, gate, up, down"),
        (["--targets", ","], "targets=',' names no linear; expected names, endings or globs such as q,v"),
        (
            ["--targets", "q,blocks"],
            "targets='blocks' matches 'blocks', which is no nn.Linear; this model's linears end in: q, k",
        ),
        (["--targets", "*norm*"], "which is no nn.Linear; this model's linears end in: q, k, v, o, gate, up, down (28 in all"),
        (["--targets", "(q|v)"], "targets='(q|v)' matches no module; this model's linears end in: q, k, v, o, gate, up, down (28 in all"),
        (["--targets", "[q"], "or a glob of the full name such as '*q' (no regular expression)"),
        (["--tokens", "100000"], "shorter than one batch"),
        (["--memory", "much"], "memory='much'"),
        (["--memory", "3"], "memory='3'"),
        (["--steps", "0"], "steps=0"),
        (["--tokens", "2.5"], "'2.5' is not a whole number"),
        (["--lr", "fast"], "lr='fast'"),
        (["--seeds", "0"], "seeds=0"),
        (["--ranks", "0"], "0 is not a rank"),
        (["--device", "cuda:77"], "is not there"),
        (["--model", "/nowhere/at/all"], "cannot be loaded"),
    ],
)
def test_refuses(words, said, tmp_path, text, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run("lora", "--text", text, "--out", tmp_path / "run", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_too_little_memory_says_what_to_lower(tmp_path, text, capsys, monkeypatch):
    from rsverify.training.stack import out_of_memory as outofmemory

    monkeypatch.setattr(outofmemory, "available_bytes", lambda device: 1e6)
    assert run("lora", "--ranks", "4,64", "--tokens", 16, "--text", text, "--out", tmp_path / "run") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "ask for at most" in said and "or lower the largest rank from 64 to about" in said and "Traceback" not in said


def test_memory_that_ends_in_a_step_says_what_to_lower(tmp_path, text, capsys, monkeypatch):
    import torch

    from rsverify.training.stack.stack import Stack

    def advance(self):
        raise torch.OutOfMemoryError("no bytes left")

    monkeypatch.setattr(Stack, "advance", advance)
    assert run("lora", "--ranks", "4,8", "--tokens", 16, "--text", text, "--workers", 1, "--out", tmp_path / "run") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "out of memory in a step: lower memory from 64 MiB to" in said and "Traceback" not in said


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face model of one small block, without a tokenizer."""
    transformers = pytest.importorskip("transformers", reason="pip install 'rsverify[realmodel]'")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=256, max_position_embeddings=32, **sizes))
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--targets", "value"], "'value' matches no module; this model's linears end in: q_proj, k_proj, v_proj, o_proj"),
        (["--targets", "q_proj,norm"], "'norm' matches 'model.norm', which is no nn.Linear; this model's linears end in: q_proj"),
        (["--targets", "(q|v)_proj"], "'(q|v)_proj' matches no module; this model's linears end in: q_proj"),
        (["--tokens", "1000"], "one batch needs 1000 (1 sequences of 1000"),
    ],
)
def test_refuses_with_a_model_from_a_folder(words, said, tmp_path, text, folder, capsys):
    assert run("lora", "--model", folder, "--text", text, "--out", tmp_path / "run", *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
