"""A mixture of LoRA experts, weighted by gates that training of the adapter leaves alone."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, KaimingUniform, Zero, frozen

moe_lora = Adapter(
    "moe-lora",
    "e, e o r, e r i -> o i",
    sizes={"e": "4"},
    g=frozen(Constant("1/e")),
    B=Zero(),
    A=KaimingUniform(fan_in="i"),
    rule="alpha/r",
    source="algebra per expert of PEFT 0.21.2 (target_parameters)",
    counts="rows of A in each of the 4 experts, not their sum",
    note="Gates belong to the base model's router, which depends on x; here they are its balanced mean, 1/4 each. gamma = rule(r, alpha)"
    " with r per expert.",
)
