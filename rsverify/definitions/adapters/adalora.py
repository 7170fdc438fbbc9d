"""AdaLoRA: LoRA with a diagonal of trained singular values between its factors."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Zero

adalora = Adapter(
    "adalora",
    "o r, r, r i -> o i",
    B=Gaussian(std="0.02"),
    E=Zero(),
    A=Gaussian(std="0.02"),
    rule="alpha/r",
    source="Zhang et al. 2023, arXiv 2303.10512; laws of PEFT 0.21.2",
    counts="entries of E before any is pruned (init_r)",
    note="PEFT divides by r + 1e-5 and adds a loss that keeps A and B near orthogonal; the pruning of E is not modelled.",
)
