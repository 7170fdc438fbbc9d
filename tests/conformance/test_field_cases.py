"""Shapes of implementations in the field on which the suite cried wolf, or named another cause than the right one."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rsverify as rv


class LoRA(nn.Module):
    def __init__(self, rank: int, base: nn.Linear, alpha: float) -> None:
        super().__init__()
        self.base, self.r, self.alpha = base.requires_grad_(False), rank, alpha
        self.A = nn.Parameter(nn.init.kaiming_uniform_(base.weight.new_empty(rank, base.in_features), a=5**0.5))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.alpha / self.r * F.linear(F.linear(x, self.A), self.B)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.branch(x)


class TrainReturnsNothing(LoRA):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


def gated(shape: tuple[int, ...]) -> type[LoRA]:
    class Gated(LoRA):
        def __init__(self, rank: int, base: nn.Linear, alpha: float) -> None:
            super().__init__(rank, base, alpha)
            nn.init.kaiming_uniform_(self.B, a=5**0.5)
            self.g = nn.Parameter(base.weight.new_zeros(shape))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.g * self.branch(x)

    return Gated


class RandomRank(LoRA):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = random.randint(1, self.r)
        return self.base(x) + self.alpha / self.r * F.linear(F.linear(x, self.A[:b]), self.B[:, :b])


def failed(subject: object) -> dict[str, str]:
    return {result.name: result.reason for result in rv.check_adapter(subject, on_fail="return") if result.status == "failed"}


@pytest.mark.parametrize("build", [TrainReturnsNothing, gated(()), gated((1,))], ids=["train returns None", "number", "vector of one"])
def test_nothing_is_judged_that_is_not_declared(build) -> None:
    assert failed(rv.Subject(build)) == {}


def test_a_forward_pass_that_draws_has_one_headline() -> None:
    reasons = failed(rv.Subject(RandomRank))
    assert list(reasons) == ["check_output_repeatable"] and "the forward pass draws" in reasons["check_output_repeatable"]


def test_a_loader_that_forgets_alpha_is_not_said_to_share_tensors() -> None:
    def load(saved, base):
        module = LoRA(len(saved["A"]), base, float(len(saved["A"])))
        module.load_state_dict(saved, strict=False)
        return module

    subject = rv.Subject(LoRA, init="lora", save=lambda m: {k: getattr(m, k).detach().clone() for k in "AB"}, load=load)
    assert set(failed(subject)) == {"check_load_function", "check_load_order", "check_load_shapes"}


def test_what_is_no_adapter_of_a_linear_layer_is_refused_in_one_sentence() -> None:
    def build(rank: int, base: nn.Linear, alpha: float) -> nn.Module:
        return nn.Conv2d(base.in_channels, rank, 1)  # type: ignore[arg-type]

    assert list(failed(build).values()) == [
        "build adapts a convolution, and the suite hands it linear layers: it judges adapters of nn.Linear only"
    ]
