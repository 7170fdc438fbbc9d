"""What a user may name, and what it stands for; what cannot be meant is refused with its cure."""

from __future__ import annotations

import functools

import pytest

import rsverify as rv
from rsverify.definitions.targets import as_target
from rsverify.errors import InputError, NotDerivable, UnknownName

MINE = """
import torch
from torch import nn
import rsverify as rv

class Lora(nn.Module):
    def __init__(self, rank, base, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)

def build(rank, base, alpha):
    return Lora(rank, base, alpha)

declared = rv.Subject(build, rule="alpha/sqrt(r)", alpha=8.0, init="lora")
three = rv.Adapter("three", "o s, s r, r i -> o i", rank_axes=("r", "s"), B=rv.Zero(), C=rv.Gaussian(std="1"), A=rv.Gaussian(std="1"))
number = 3
standing = nn.Linear(2, 2)
two = lambda rank, base: None
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_targets.py").write_text(MINE)
    config = '{"peft_type": "LORA", "r": 8, "lora_alpha": 12, "use_rslora": true, "lora_dropout": 0.1, "target_modules": ["q"]}'
    (tmp_path / "adapter_config.json").write_text(config)
    return tmp_path


def test_names_and_declarations_are_derived_under_any_rule():
    for thing in ("loha", rv.adapters()["loha"]):
        target = as_target(thing)
        assert target.adapter.name == "loha" and target.build is None and target.several_rules
    assert as_target("own_targets:three").adapter.expression == "o s, s r, r i -> o i"
    with pytest.raises(NotDerivable, match="norm"):
        as_target("dora").adapter


def test_a_subject_brings_rule_alpha_and_the_declaration_it_follows():
    target = as_target("own_targets:declared")
    assert (target.name, str(target.rule), target.alpha) == ("own_targets:declared", "alpha/sqrt(r)", 8.0)
    assert target.adapter.name == "lora" and target.build is not None and not target.several_rules
    assert rv.derive("own_targets:declared", "alpha/r").exponent == -1


def test_a_factory_is_a_module_that_theory_does_not_know():
    def build(rank, base, alpha):
        raise AssertionError("naming builds nothing")

    for thing in (build, functools.partial(build), "own_targets:build", "own_targets:Lora"):
        assert as_target(thing).declared is None and as_target(thing).rule is None
    with pytest.raises(NotDerivable, match=r"own_targets:build is a module .* --declared NAME.*rsverify estimate own_targets:build"):
        rv.derive("own_targets:build", "alpha/r")


@pytest.mark.parametrize(
    ("text", "declared", "rule"),
    [
        ("peft:lora", "lora", "alpha/r"),
        ("peft:lora?use_rslora=true&lora_dropout=0.1", "lora", "alpha/sqrt(r)"),
        ("peft:lora?use_dora=true", "dora", "alpha/r"),
        ("peft:lora?init_lora_weights=pissa", "pissa", "alpha/r"),
        ("peft:lokr", "lokr", "alpha/r"),
        ("peft:vera", "vera", "1"),
        ("peft:delora?delora_lambda=3", "delora", "3/r"),
        ("peft:fourierft", "fourierft", "alpha"),
        ("peft:lokr?decompose_both=true", None, "alpha/r"),
        ("peft:gralora", None, "alpha/r"),
    ],
)
def test_a_method_of_peft_is_its_layer_and_the_declaration_it_follows(text, declared, rule):
    pytest.importorskip("peft")
    target = as_target(text)
    assert (target.declared and target.declared.name, target.rule) == (declared, rule)
    assert target.build is not None and target.subject is not None


def test_a_config_file_says_rule_rank_and_alpha(folder):
    pytest.importorskip("peft")
    for thing in ("adapter_config.json", str(folder), folder):
        target = as_target(thing)
        assert (target.adapter.name, target.rule, target.alpha, target.rank) == ("lora", "alpha/sqrt(r)", 12.0, 8)


@pytest.mark.parametrize(
    ("thing", "error", "message"),
    [
        ("lorra", UnknownName, "did you mean"),
        ("own_targets", InputError, "own_targets:OBJECT"),
        ("no_such_library:thing", InputError, "no module is called 'no_such_library'"),
        ("own_targets:biuld", InputError, "did you mean 'build'"),
        ("own_targets:number", InputError, "is int; expected"),
        ("own_targets:standing", InputError, "stands already"),
        ("own_targets:two", InputError, r"build\(rank, base, alpha\)"),
        ("not a target", InputError, "is no target"),
        (3, InputError, "is int"),
        (None, InputError, "NoneType"),
    ],
)
def test_what_is_no_target_is_refused_with_its_cure(thing, error, message):
    with pytest.raises(error, match=message):
        as_target(thing)
