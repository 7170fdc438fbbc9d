"""`rsverify check`: targets, expected failures, exit codes, JSON."""

from __future__ import annotations

import json

import pytest

from rsverify import cli

MINE = """
import torch
from torch import nn
import rsverify as rv

class Lora(nn.Module):
    def __init__(self, rank, base, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features, dtype=base.weight.dtype))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))
        self.gamma = alpha / rank**0.5
    def forward(self, x):
        return self.base(x) + self.gamma * (x @ self.A.T) @ self.B.T

sound = rv.Subject(Lora, rule="alpha/sqrt(r)")
number = 3
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_check.py").write_text(MINE)
    return tmp_path


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["check", *words])
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def test_a_users_subject_holds_and_says_how_many_checks_ran(capsys, folder):
    code, out, _ = run(capsys, "mine_for_check:sound", "--json", "checks.json")
    assert code == 0
    assert "checks ran:" in out and "passed" in out and "rate of false alarms by chance: at most" in out
    data = json.loads((folder / "checks.json").read_text())
    assert data["verdict"] == "holds" and data["ran"] == sum(c["status"] != "skipped" for c in data["checks"])
    assert "/" not in data["target"] and data["provenance"]["version"]


def test_a_wrong_rule_fails_in_the_users_words_and_may_be_expected(capsys, folder):
    code, _, _ = run(capsys, "mine_for_check:Lora", "--json", "checks.json")
    assert code == 1
    reasons = {c["name"]: c["reason"] for c in json.loads((folder / "checks.json").read_text())["checks"]}
    assert "it is alpha/sqrt(r) throughout" in reasons["check_scale_measured"]
    names = ["check_scale_measured", "check_scale_rank"]
    (folder / "known.txt").write_text("# known\n" + "".join(f"{name}: the rule is the square root\n" for name in names))
    code, out, _ = run(capsys, "mine_for_check:Lora", "--xfails", "known.txt", "--only", names[0], "--only", names[1])
    assert code == 0
    assert "2 xfailed" in out
    (folder / "other.txt").write_text("".join(f"another:target::{name}: not this one\n" for name in names))
    assert run(capsys, "mine_for_check:Lora", "--xfails", "other.txt", "--only", names[0])[0] == 1


def test_a_built_in_under_another_rule(capsys):
    code, out, _ = run(capsys, "lora", "--rule", "alpha/r**0.75", "--only", "check_scale_measured")
    assert code == 0
    assert "alpha/r**0.75" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lorra"], "did you mean 'lora'"),
        (["nowhere_at_all:x"], "no module is called 'nowhere_at_all'"),
        (["mine_for_check:sond"], "did you mean 'sound'"),
        (["mine_for_check:number"], "is int"),
        (["mine_for_check:sound", "--rule", "alpha/r"], "belong to built-in adapters"),
        (["lora", "--xfails", "no.txt"], "cannot be read"),
        (["lora", "--xfails", "typo.txt"], "did you mean 'check_base_frozen'"),
        (["lora", "--xfails", "bare.txt"], "expected for a reason"),
        (["lora", "--xfails", "twice.txt"], "is there twice"),
        (["lora", "--only", "check_nothing"], "no check is called"),
        (["lora", "--rule", "alpha/("], "does not parse"),
        (["lora", "--json", "no/such/x.json"], "does not exist"),
    ],
)
def test_refused(capsys, folder, words, said):
    (folder / "typo.txt").write_text("check_base_forzen: x\n")
    (folder / "bare.txt").write_text("check_base_frozen\n")
    (folder / "twice.txt").write_text("check_base_frozen: x\ncheck_base_frozen: y\n")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert said in err and "Traceback" not in err


def test_help_has_an_example(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "rsverify check lora" in " ".join(out.split())
