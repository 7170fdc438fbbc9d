"""No sound adapter fails anything: every declared variant, and classes as users write them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rsverify as rv
from rsverify.conformance.registry import checks

DETERMINISTIC = [name for name, check in checks().items() if check.family != "stability"]


@pytest.mark.parametrize("name", sorted(rv.adapters()))
def test_every_declared_variant_passes(name):
    results = rv.check_adapter(name, only=DETERMINISTIC)
    assert sum(r.status == "passed" for r in results) >= 40


class Plain(nn.Module):
    """LoRA in float32 whatever the layer, merging by addition, loralib's way of switching by a flag."""

    def __init__(self, rank, base, alpha, rule=lambda r, a: a / r):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad = False
        self.down = nn.Linear(base.in_features, rank, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(rank, base.out_features, bias=False, dtype=base.weight.dtype)
        nn.init.zeros_(self.up.weight)
        self.rank, self.alpha, self.gamma, self.user, self.merged = rank, alpha, rule(rank, alpha), 1.0, None

    def delta(self):
        return self.user * self.gamma * (self.up.weight @ self.down.weight)

    def forward(self, x):
        y = self.base(x)
        return y if self.merged is not None else y + self.user * self.gamma * self.up(self.down(x))

    def merge(self):
        if self.merged is None:
            self.merged = self.delta().detach()
            self.base.weight.data += self.merged

    def unmerge(self):
        if self.merged is not None:
            self.base.weight.data -= self.merged
            self.merged = None


def sqrt_rule(r, a):
    return a / math.sqrt(r)


def load(saved, base):
    module = Plain(saved["r"], base, saved["lora_alpha"], sqrt_rule if saved["use_rslora"] else lambda r, a: a / r)
    module.down.weight.data.copy_(saved["A"])
    module.up.weight.data.copy_(saved["B"])
    return module


def save(module):
    return {"r": module.rank, "lora_alpha": module.alpha, "use_rslora": math.isclose(module.gamma, sqrt_rule(module.rank, module.alpha)),
            "A": module.down.weight.detach().clone(), "B": module.up.weight.detach().clone()}  # fmt: skip


def plain_subject(rule):
    build = Plain if rule == "alpha/r" else lambda rank, base, alpha: Plain(rank, base, alpha, sqrt_rule)
    return rv.Subject(
        build, rule=rule, delta=Plain.delta, merge=Plain.merge, unmerge=Plain.unmerge, save=save, load=load,
        set_scale=lambda m, s: setattr(m, "user", s), scale=lambda m: m.user * m.gamma,
    )  # fmt: skip


@pytest.mark.parametrize("rule", ["alpha/r", "alpha/sqrt(r)"])
def test_a_users_lora_with_every_capability_passes(rule):
    results = {r.name: r for r in rv.check_adapter(plain_subject(rule), only=DETERMINISTIC)}
    assert "subtracts" in results["check_unmerge_restores"].reason
    assert "error of" in results["check_merge_bfloat16"].reason
    assert results["check_save_reader"].status == "passed"
    assert results["check_scale_measured"].status == "passed" and results["check_scale_rank"].status == "passed"


class Float32(nn.Module):
    """LoRA that computes in float32 whatever it is given: only the check of float64 may say so."""

    def __init__(self, rank, base, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.gamma = alpha / rank

    def forward(self, x):
        return self.base(x) + (self.gamma * F.linear(F.linear(x.float(), self.A), self.B)).to(x.dtype)


def test_float32_inside_is_told_by_one_check_alone():
    results = rv.check_adapter(Float32, only=DETERMINISTIC, on_fail="return")
    assert [r.name for r in results if r.status == "failed"] == ["check_dtype_float64"]
    assert "float32 is used inside" in next(r.reason for r in results if r.status == "failed")


class NoDouble(Float32):
    def forward(self, x):
        return self.base(x) + self.gamma * F.linear(F.linear(x, self.A), self.B)


def test_a_class_that_cannot_do_float64_is_checked_in_float32():
    results = {r.name: r for r in rv.check_adapter(NoDouble, only=DETERMINISTIC, on_fail="return")}
    assert "checked in float32" in results["check_build_module"].reason
    failed = {name for name, r in results.items() if r.status == "failed"}
    assert failed == {"check_dtype_float64", "check_dtype_bfloat16"}
    assert "its factors are torch.float32" in results["check_dtype_float64"].reason


class Dora(nn.Module):
    """DoRA as a user writes it, with LoRA's factors and a magnitude."""

    def __init__(self, rank, base, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features, dtype=base.weight.dtype))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))
        self.m = nn.Parameter(base.weight.norm(dim=1))
        self.gamma = alpha / rank

    def forward(self, x):
        V = self.base.weight + self.gamma * self.B @ self.A
        norm = V.norm(dim=1).detach().clamp(min=1e-12)
        return F.linear(x, (self.m / norm)[:, None] * V, self.base.bias)


@pytest.mark.parametrize("init", [None, "dora"])
def test_a_users_dora_passes_declared_or_not(init):
    results = rv.check_adapter(rv.Subject(Dora, init=init), only=DETERMINISTIC)
    assert sum(r.status == "passed" for r in results) >= 20
