"""verify of any target: a module alone, a declaration beside it that agrees, differs by a constant, or contradicts it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import rsverify as rv
from rsverify.errors import InputError
from rsverify.studies.beside import beside

RANKS = (256, 1024)


class Lora(nn.Module):
    """LoRA as the source article writes it, its spread and rule to be chosen."""

    def __init__(self, rank, base, alpha, *, spread=0.57735, power=1.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features, dtype=base.weight.dtype) * spread / math.sqrt(base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))
        self.gamma = alpha / rank**power

    def forward(self, x):
        return self.base(x) + self.gamma * (x @ self.A.T @ self.B.T)


def _beside(build, declared, rules=None):
    from rsverify.definitions.rules import as_rule
    from rsverify.definitions.targets import as_target

    return beside(as_target(build), declared, rules and [as_rule(rules)], alpha=None, ranks=RANKS)


def test_the_rule_of_a_module_is_read_off_its_first_gradients():
    held = _beside(lambda rank, base, alpha: Lora(rank, base, alpha, power=0.5), "lora")
    assert held.same and not held.remark
    assert held.target.rule.text == "alpha/sqrt(r)" and held.target.declared.name == "lora"


def test_another_spread_is_told_first_and_another_power_refused():
    held = _beside(lambda rank, base, alpha: Lora(rank, base, alpha, spread=2.0), "lora")
    assert not held.same and "differ at the first step by a factor 3." in held.remark
    with pytest.raises(InputError, match=r"is not lora under rule alpha/sqrt\(r\): they differ at the first step by a factor"):
        _beside(Lora, "lora", "alpha/sqrt(r)")
    with pytest.raises(InputError, match="is a declaration itself"):
        rv.verify("lora", declared="loha")


def test_verify_of_a_module_says_which_witnesses_there_were():
    asked = {"optimizers": "sgd", "ranks": RANKS, "quick": True, "expect": "collapses"}
    beside_lora, alone = rv.verify(Lora, declared="lora", **asked), rv.verify(Lora, **asked)
    assert (beside_lora.exit_code, alone.exit_code) == (0, 3)  # one witness has nobody to agree with
    row, single = beside_lora.rows[0], alone.rows[0]
    assert row.predicted is not None and row.estimated is not None and row.claim.rule == "alpha/r"
    assert single.predicted is None and "nothing says which declaration" in single.silent["symbolic"]
    with pytest.raises(InputError, match="applies its own rule"):
        rv.verify(Lora, ["alpha/r", "alpha/sqrt(r)"])


def test_an_adapter_whose_rank_divides_the_width_is_judged_below_it():
    verdict = rv.verify("randlora", "alpha/r", optimizers="sgd", expect="collapses", quick=True)
    assert verdict.exit_code == 0 and all(row.estimated is not None for row in verdict.rows)
