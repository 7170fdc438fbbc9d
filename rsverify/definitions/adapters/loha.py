"""LoHa as PEFT draws it: the entrywise product of two low-rank weights."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import KaimingUniform, Zero

loha = Adapter(
    "loha",
    "o r, r i, o s, s i -> o i",
    rank_axes=("r", "s"),
    W1a=KaimingUniform(fan_in="r"),
    W1b=KaimingUniform(fan_in="i"),
    W2a=KaimingUniform(fan_in="s"),
    W2b=Zero(),
    rule="alpha/r",
    source="Hyeon-Woo et al. 2021, arXiv 2108.06098; laws of PEFT 0.21.2",
    counts="inner dimension of each product; the added weight has rank up to its square",
    note="LyCORIS draws other laws, so that another rule is stable there: loha-lycoris.",
)
