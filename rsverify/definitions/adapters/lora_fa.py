"""LoRA-FA: LoRA with A frozen at its init."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import KaimingUniform, Zero, frozen

lora_fa = Adapter(
    "lora-fa",
    "o r, r i -> o i",
    B=Zero(),
    A=frozen(KaimingUniform(fan_in="i")),
    rule="alpha/r",
    source="Zhang et al. 2023, arXiv 2308.03303",
    counts="rows of A",
    note="PEFT 0.21.2 has no such layer but an optimizer of this name, which also preconditions the gradient of B: not meant here.",
)
