"""LoRA: two factors, B zero, A Kaiming uniform."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import KaimingUniform, Zero

lora = Adapter(
    "lora",
    "o r, r i -> o i",
    B=Zero(),
    A=KaimingUniform(fan_in="i"),
    rule="alpha/r",
    source="Hu et al. 2021, arXiv 2106.09685",
    counts="rows of A",
)
