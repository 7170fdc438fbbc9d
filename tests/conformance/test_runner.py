"""The suite itself: what it takes, what it refuses, and that it never dies with its subject."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rsverify as rv
from rsverify.conformance.declared import declared_subject
from rsverify.conformance.registry import checks
from rsverify.conformance.runner import exit_code
from rsverify.errors import InputError


def by_name(results):
    return {r.name: r for r in results}


def run(subject, **options):
    return by_name(rv.check_adapter(subject, on_fail="return", **options))


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


def test_a_users_own_class_passes_and_every_check_is_accounted_for():
    results = rv.check_adapter(Lora)
    assert {r.name for r in results} == set(checks())
    assert {r.status for r in results} <= {"passed", "skipped"}
    assert all(r.reason for r in results if r.status == "skipped")


def test_a_name_an_adapter_and_a_subject_are_the_same_subject():
    for subject in ("lora", rv.adapters()["lora"], declared_subject("lora")):
        assert rv.check_adapter(subject, only=["check_init_identity"])[0].status == "passed"


def test_bad_arguments_are_refused_before_any_check():
    with pytest.raises(InputError, match="expected a built-in name"):
        rv.check_adapter(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"check_base_forzen.*did you mean 'check_base_frozen'"):
        rv.check_adapter("lora", expected_failed_checks={"check_base_forzen": "why"})
    with pytest.raises(InputError, match="on_fail"):
        rv.check_adapter("lora", on_fail="warn")  # type: ignore[arg-type]
    with pytest.raises(rv.RsverifyError, match="did you mean 'lora'"):
        rv.check_adapter("lorra")


def test_capabilities_with_a_wrong_signature_are_refused():
    with pytest.raises(InputError, match=r"load has the wrong signature: it is called as load\(saved, base\)"):
        rv.Subject(Lora, load=lambda saved: saved)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="merge=3 is not callable"):
        rv.Subject(Lora, merge=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="build has the wrong signature"):
        rv.Subject(lambda base: base)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'identity'"):
        rv.Subject(Lora, init="identty")


def test_expected_failures_are_marked_and_do_not_raise():
    def forgetful(rank, base, alpha):
        module = Lora(rank, base, alpha)
        nn.init.ones_(module.B)
        return module

    with pytest.raises(rv.CheckFailed, match="check_init_identity: at init") as failed:
        rv.check_adapter(forgetful)
    assert by_name(failed.value.results)["check_init_identity"].exception is not None
    seen = []
    names = ["check_init_identity", "check_base_frozen"]
    reasons = dict.fromkeys(names, "known")
    results = by_name(rv.check_adapter(forgetful, expected_failed_checks=reasons, only=names, callback=seen.append))
    assert results["check_init_identity"].status == "xfailed" and results["check_base_frozen"].status == "xpassed"
    assert [r.name for r in seen] == list(results)


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), SystemExit(3), MemoryError()])
def test_a_build_that_raises_is_one_failed_check_with_its_traceback(error):
    def build(rank, base, alpha):
        raise error

    results = run(build)
    first = results.pop("check_build_module")
    assert first.status == "failed" and type(error).__name__ in first.reason and "Traceback" in (first.exception or "")
    assert {r.status for r in results.values()} == {"skipped"}
    assert exit_code([first]) == 1


def test_a_build_that_returns_the_base_or_something_else():
    assert "nothing is adapted" in run(lambda rank, base, alpha: base.requires_grad_(False))["check_build_module"].reason
    assert "expected an nn.Module" in run(lambda rank, base, alpha: 3)["check_build_module"].reason


def test_global_state_is_left_as_it_was():
    def rude(rank, base, alpha):
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(1)
        return Lora(rank, base, alpha)

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(rude)
    assert torch.get_default_dtype() is torch.float32
    assert torch.equal(torch.rand(3), expected)


def test_interruption_goes_through():
    def build(rank, base, alpha):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rv.check_adapter(build)


@pytest.mark.parametrize("expression", ["o r, r i, i -> o i", "o r, r i, o -> o i", "o r, r i, r -> o i"])
def test_a_constant_factor_beside_two_matrices_is_no_wrong_scale(expression):
    """Found by the run over drawn adapters: a constant vector of 1/2 looked like a scale that the file did not tell."""
    adapter = rv.Adapter("drawn", expression, B=rv.Zero(), A=rv.KaimingUniform(fan_in="i"), C=rv.frozen(rv.Constant(0.5)))
    (result,) = rv.check_adapter(declared_subject(adapter, "alpha/r", alpha=512.0), only=["check_save_reader"], on_fail="return")
    assert result.status == "skipped" and "tensors.C beside two factors" in result.reason
