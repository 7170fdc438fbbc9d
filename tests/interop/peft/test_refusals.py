"""What PEFT refuses skips a check only where it is known to be refused; a new exception fails the check."""

import pytest

from rsverify.conformance.outcomes import Skip
from rsverify.conformance.runner import check_adapter
from rsverify.interop.peft import host, refusals
from rsverify.interop.peft.subject import subject_from_peft


@pytest.mark.parametrize("known", refusals.REFUSALS, ids=lambda known: f"{known.method}-{known.operation}")
def test_a_known_refusal_skips_and_its_neighbours_do_not(known):
    said = known.kind(f"it {known.words}, sadly")
    with pytest.raises(Skip, match="PEFT refuses"), refusals.refusable(known.method, known.operation):
        raise said
    others = {"method": ("miss", known.operation, said), "operation": (known.method, "load", said),
              "words": (known.method, known.operation, known.kind("something new")),
              "type": (known.method, known.operation, type("Other", (known.kind,), {})(str(said)))}  # fmt: skip
    for method, operation, error in others.values():
        with pytest.raises(type(error)), refusals.refusable(method, operation):
            raise error


def test_a_new_exception_of_an_operation_fails_its_check(monkeypatch):
    """PEFT's own classes, made to raise what nobody has seen: the checks fail instead of being skipped."""
    from peft.tuners.lora.model import LoraModel

    def broken(self, *args, **kwargs):
        raise ValueError("no such thing has been seen")

    subject = subject_from_peft("peft:lora")
    names = ("check_combine_one", "check_merge_function")
    assert {r.status for r in check_adapter(subject, only=names, on_fail="return")} == {"passed"}
    monkeypatch.setattr(LoraModel, "add_weighted_adapter", broken)
    monkeypatch.setattr(LoraModel, "merge_adapter", broken)
    assert {r.status for r in check_adapter(subject, only=names, on_fail="return")} == {"failed"}


def test_what_is_refused_is_what_peft_still_refuses():
    """The list is not longer than PEFT: each method on one layer, its operation called, is refused with these words."""
    import torch
    from torch import nn

    def built(target, rank=4):
        subject = subject_from_peft(target)
        return subject, subject.build(rank, nn.Linear(12, 12, bias=False, dtype=torch.float32), 20.0)

    for target, call in {
        "peft:lora?lora_bias=true": lambda s, m: s.merge(m),
        "peft:lily": lambda s, m: s.merge(m),
        "peft:osf": lambda s, m: (s.merge(m), s.unmerge(m)),
        "peft:adalora": lambda s, m: s.add_adapter(m, "b", 4, 20.0),
        "peft:vera": lambda s, m: s.add_adapter(m, "b", 8, 20.0),
        "peft:pvera": lambda s, m: s.add_adapter(m, "b", 8, 20.0),
        "peft:randlora": lambda s, m: s.add_adapter(m, "b", 8, 20.0),
        "peft:lora?combination_type=linear": lambda s, m: (s.add_adapter(m, "b", 8, 20.0), s.combine(m, ["default", "b"], [1.0, 1.0])),
    }.items():
        with pytest.raises(Skip, match="PEFT refuses"):
            call(*built(target))


def test_the_method_of_a_model_is_read_off_its_active_adapter():
    import torch
    from torch import nn

    assert host.method_of(subject_from_peft("peft:vera").build(2, nn.Linear(6, 6, dtype=torch.float32), 20.0)) == "vera"
