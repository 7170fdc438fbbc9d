"""Fused projections, experts and full matrices: what is sound passes, what is wrong is told, what is no part is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import rsverify as rv
from rsverify.conformance.bench import TALL, Bench
from rsverify.conformance.declared import declared_subject
from rsverify.conformance.errorbudget import error_budget
from rsverify.conformance.fullmatrix import full_bench
from rsverify.conformance.registry import checks
from rsverify.testing.mutants.reference import LOKR, LOKR_FREE, QKV

PARTS = [name for name in checks() if "_parts_" in name]
FULL = [name for name in checks() if "_full_" in name]


def run(subject, only):
    return {r.name: r for r in rv.check_adapter(subject, only=only, on_fail="return")}


def test_a_sound_fused_projection_passes_and_others_are_skipped():
    assert {r.status for r in run(QKV.subject(), PARTS).values()} == {"passed"}
    assert {r.status for r in run("lora", PARTS).values()} == {"skipped"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda part: {"up": part.up.clone()}, "parts() returns copies"),
        (lambda part: {"rows": (0, 99)}, "expected first and last + 1"),
        (lambda part: {"rank": 5}, "expected"),
        (lambda part: {"rows": (2, 2 + part.up.shape[0])}, "adds to row"),
    ],
)
def test_parts_that_are_none_are_refused(change, said):
    kit = QKV.but(parts=lambda m: {name: replace(part, **change(part)) for name, part in QKV.parts(m).items()})
    result = run(kit.subject(), ["check_parts_rows"])["check_parts_rows"]
    assert result.status == "failed" and said in result.reason


def test_full_matrices_are_declared_as_the_two_libraries_have_them():
    """PEFT goes on with alpha/r, LyCORIS sets the scale to 1; each passes as itself and fails as the other."""
    for kit, own, other in ((LOKR, "lokr", "lokr-lycoris"), (LOKR_FREE, "lokr-lycoris", "lokr")):
        assert {r.status for r in run(replace(kit.subject(), init=own), FULL).values()} == {"passed"}
        assert run(replace(kit.subject(), init=other), ["check_full_scale"])["check_full_scale"].status == "failed"
    for name in ("lokr", "lokr-lycoris"):
        assert {r.status for r in run(name, FULL).values()} == {"passed"}


def test_the_limit_of_the_full_matrix_is_pefts():
    """PEFT's own layer holds one matrix exactly where the declaration says so, with the scale that it says."""
    from peft import LoKrConfig, get_peft_model

    lokr = rv.adapters()["lokr"]
    for rank in (1, 2, 3, 5, 8, 9):
        for d_in, d_out in ((12, 18), (64, 32), (36, 36)):
            model = get_peft_model(nn.Sequential(nn.Linear(d_in, d_out)), LoKrConfig(r=rank, alpha=7, target_modules=["0"]))
            layer = model.base_model.model[0]
            assert ("default" in layer.lokr_w2) == lokr.full.stands_in(rank, d_in, d_out), (rank, d_in, d_out)
            assert layer.scaling["default"] == 7 / rank
            if "default" in layer.lokr_w2:
                trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
                assert trained == lokr.full.adapter.parameters(rank, d_in, d_out)


class Dense(nn.Module):
    """A user's adapter that keeps one matrix from rank 10 on; its scale there is what `free` makes it."""

    def __init__(self, rank, base, alpha, free=lambda rank, alpha: 1.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.full = rank >= 10
        shape = base.weight.shape
        if self.full:
            self.D = nn.Parameter(torch.zeros(shape, dtype=base.weight.dtype))
        else:
            self.A = nn.Parameter(torch.randn(rank, shape[1], dtype=base.weight.dtype))
            self.B = nn.Parameter(torch.zeros(shape[0], rank, dtype=base.weight.dtype))
        self.gamma = free(rank, alpha) if self.full else alpha / rank

    def forward(self, x):
        return self.base(x) + self.gamma * (x @ self.D.T if self.full else (x @ self.A.T) @ self.B.T)


def test_an_undeclared_full_matrix_has_the_rules_scale_or_a_free_one():
    for free, said in ((lambda rank, alpha: 1.0, "neither rank nor alpha"), (lambda rank, alpha: alpha / rank, "goes on by alpha/r")):
        subject = rv.Subject(lambda rank, base, alpha, free=free: Dense(rank, base, alpha, free))
        results = run(subject, ["check_full_scale", "check_scale_alpha"])
        assert {r.status for r in results.values()} == {"passed"}, results
        assert said in results["check_full_scale"].reason
    half = rv.Subject(lambda rank, base, alpha: Dense(rank, base, alpha, lambda rank, alpha: rank**0.5))
    assert run(half, ["check_full_scale"])["check_full_scale"].status == "failed"


def test_what_keeps_a_product_has_no_full_matrix():
    assert full_bench(Bench(declared_subject("lora"))) is None
    assert full_bench(Bench(declared_subject("lokr"))) is not None
    assert Bench(declared_subject("lokr")).full_at(6) is None, "the suite's own lokr is a product at the ranks of the other checks"
    assert Bench(LOKR.subject()).full_at(6, TALL) is not None


def test_the_error_budget_is_computed_from_what_ran():
    results = rv.check_adapter("lora", only=["check_init_identity", "check_dtype_bfloat16", "check_gradient_norm"], on_fail="return")
    budget = error_budget(results, 1e-6)
    assert budget.statements == 2 and budget.each == pytest.approx(1e-7) and budget.compared == 2
    assert budget.rate == pytest.approx(2e-7, rel=1e-3) and budget.entries == 90
    assert "at most 2e-07 (2 statements on draws at 1e-07 each); 2 checks compare" in budget.text()
