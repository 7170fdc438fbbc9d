"""Build functions that misbehave: each is told what it does wrong, and the suite outlives them all."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn

import rsverify as rv
from rsverify.conformance.registry import checks


class Lora(nn.Module):
    """LoRA as a user writes it."""

    def __init__(self, rank, base, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.empty(rank, base.in_features, dtype=base.weight.dtype))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))
        self.gamma = alpha / rank

    def forward(self, x):
        return self.base(x) + self.gamma * (x @ self.A.T) @ self.B.T


def ignores_its_rank(rank, base, alpha):
    return Lora(4, base, alpha)


def returns_the_base(rank, base, alpha):
    return base.requires_grad_(False)


def changes_the_base(rank, base, alpha):
    module = Lora(rank, base, alpha)
    with torch.no_grad():
        base.weight.mul_(1.01)
    return module


def leaves_the_base_trainable(rank, base, alpha):
    module = Lora(rank, base, alpha)
    base.requires_grad_(True)
    return module


def raises_at_rank_one(rank, base, alpha):
    if rank == 1:
        raise ZeroDivisionError("rank - 1")
    return Lora(rank, base, alpha)


def has_its_own_generator(rank, base, alpha):
    module = Lora(rank, base, alpha)
    with torch.no_grad():
        module.A.copy_(
            torch.from_numpy(np.random.Generator(np.random.PCG64(int.from_bytes(os.urandom(8)))).standard_normal(module.A.shape))
        )
    return module


def holds_nan(rank, base, alpha):
    module = Lora(rank, base, alpha)
    with torch.no_grad():
        module.A[0, 0] = torch.nan
    return module


class ReturnsATuple(Lora):
    def forward(self, x):
        return super().forward(x), None


class LosesAnAxis(Lora):
    def forward(self, x):
        return super().forward(x).sum(-1)


class Exits(Lora):
    def forward(self, x):
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("build", "check", "said"),
    [
        (ignores_its_rank, "check_rank_used", "build ignores its rank"),
        (returns_the_base, "check_build_module", "the base layer itself"),
        (changes_the_base, "check_base_frozen", "has changed by up to"),
        (changes_the_base, "check_init_identity", "at init the"),
        (leaves_the_base_trainable, "check_base_frozen", "still require gradients"),
        (raises_at_rank_one, "check_build_rank_one", "raised ZeroDivisionError: rank - 1"),
        (has_its_own_generator, "check_build_repeatable", "another generator"),
        (holds_nan, "check_factors_finite", "holds NaN or infinity"),
        (ReturnsATuple, "check_build_module", "the module returns tuple"),
        (LosesAnAxis, "check_build_module", "returns shape (5,)"),
        (Exits, "check_build_module", "raised SystemExit"),
    ],
)
def test_each_is_told_and_every_check_still_answers(build, check, said):
    results = {r.name: r for r in rv.check_adapter(build, on_fail="return")}
    assert set(results) == set(checks())
    assert results[check].status == "failed" and said in results[check].reason
    assert "Traceback" in (results[check].exception or "")


def test_one_that_raises_at_rank_one_fails_that_check_alone():
    results = rv.check_adapter(raises_at_rank_one, on_fail="return")
    assert [r.name for r in results if r.status == "failed"] == ["check_build_rank_one"]


def test_one_that_needs_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here: its absence cannot be shown")

    def build(rank, base, alpha):
        return Lora(rank, base, alpha).cuda()

    results = {r.name: r for r in rv.check_adapter(build, on_fail="return")}
    assert "build needs a GPU" in results["check_build_module"].reason
    assert "base.weight.device" in results["check_build_module"].reason


def test_capabilities_that_raise_are_failed_checks_with_tracebacks():
    def broken(*_):
        raise LookupError("nothing here")

    subject = rv.Subject(
        Lora, delta=lambda m: broken(), merge=lambda m: broken(), save=lambda m: broken(), load=lambda saved, base: broken(),
        scale=lambda m: broken(), set_scale=lambda m, s: broken(),
    )  # fmt: skip
    results = {r.name: r for r in rv.check_adapter(subject, on_fail="return")}
    for name, check in checks().items():
        if check.needs and check.needs <= subject.capabilities and "_full_" not in name:  # LoRA keeps no full matrix at any rank
            assert results[name].status == "failed" and "LookupError: nothing here" in results[name].reason, name
    assert results["check_init_identity"].status == "passed"


def test_capabilities_that_return_nonsense_are_told():
    subject = rv.Subject(Lora, delta=lambda m: 3, scale=lambda m: "big", save=lambda m: None, load=lambda saved, base: None)  # type: ignore[arg-type]
    results = {r.name: r for r in rv.check_adapter(subject, on_fail="return")}
    assert results["check_delta_forward"].status == results["check_scale_reported"].status == "failed"
    assert "load returned NoneType" in results["check_load_function"].reason
