"""LoHa as LyCORIS draws it."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Zero

loha_lycoris = Adapter(
    "loha-lycoris",
    "o r, r i, o s, s i -> o i",
    rank_axes=("r", "s"),
    W1a=Gaussian(std="0.1"),
    W1b=Gaussian(std=1),
    W2a=Zero(),
    W2b=Gaussian(std=1),
    rule="alpha/r",
    source="Hyeon-Woo et al. 2021, arXiv 2108.06098; laws of LyCORIS 4.1.3",
    counts="inner dimension of each product; the added weight has rank up to its square",
    note="No law depends on rank or width, unlike PEFT's loha.",
)
