"""LoKr as LyCORIS draws it: the zero stands in the last factor."""

from rsverify.definitions.adapter import Adapter, FullMatrix
from rsverify.definitions.adapters.lokr import is_full, near_square
from rsverify.definitions.laws import KaimingUniform, Zero

lokr_lycoris = Adapter(
    "lokr-lycoris",
    "a b, p r, r q -> (a p) (b q)",
    sizes=near_square,
    w1=KaimingUniform(fan_in="b"),
    W2a=KaimingUniform(fan_in="r"),
    W2b=Zero(),
    rule="alpha/r",
    source="Yeh et al. 2023, arXiv 2309.14859; laws of LyCORIS 4.1.3",
    counts="inner dimension of the second Kronecker factor",
    note="Where both factors are full LyCORIS sets alpha to r; here w2 is a product at every rank.",
    full=FullMatrix(
        Adapter("lokr-lycoris-full", "a b, p q -> (a p) (b q)", rank_axes=(), sizes=near_square, w1=KaimingUniform(fan_in="b"), w2=Zero()),
        is_full,
        rule="1",
        source="LyCORIS 4.1.3, modules/lokr.py: where both factors are full, alpha is set to the rank, so that the scale is 1",
    ),
)
