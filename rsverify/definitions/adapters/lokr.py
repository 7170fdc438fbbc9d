"""LoKr as PEFT draws it: a Kronecker product whose second factor is of low rank."""

import math

from rsverify.definitions.adapter import Adapter, FullMatrix, GrowingSizes
from rsverify.definitions.laws import KaimingUniform, Zero


def factorization(width: int) -> tuple[int, int]:
    """The width as a product of two whole numbers as near to each other as it has, the smaller first."""
    small = next(k for k in range(math.isqrt(width), 0, -1) if width % k == 0)
    return small, width // small


def sizes(d_in: int, d_out: int, r: int) -> dict[str, int]:
    """w1 is (a, b), w2 is (p, q), with a p = d_out and b q = d_in."""
    (a, p), (b, q) = factorization(d_out), factorization(d_in)
    return {"a": a, "p": p, "b": b, "q": q}


near_square = GrowingSizes(sizes, {"a": "sqrt(d_out)", "p": "sqrt(d_out)", "b": "sqrt(d_in)", "q": "sqrt(d_in)"})
"""Of a width that splits evenly, as those of transformers do to a factor of two; a prime one does not split at all."""


def is_full(r: int, d_in: int, d_out: int) -> bool:
    """Whether w2 is one matrix at that rank: from half of its longer side on."""
    found = sizes(d_in, d_out, r)
    return r >= max(found["p"], found["q"]) / 2


lokr = Adapter(
    "lokr",
    "a b, p r, r q -> (a p) (b q)",
    sizes=near_square,
    w1=Zero(),
    W2a=KaimingUniform(fan_in="r"),
    W2b=KaimingUniform(fan_in="q"),
    rule="alpha/r",
    source="Yeh et al. 2023, arXiv 2309.14859; laws of PEFT 0.21.2",
    counts="inner dimension of the second Kronecker factor",
    note="From r = max(p, q)/2 on PEFT makes w2 a full matrix and still divides alpha by r; here w2 is a product at every rank.",
    full=FullMatrix(
        Adapter("lokr-full", "a b, p q -> (a p) (b q)", rank_axes=(), sizes=near_square, w1=Zero(), w2=KaimingUniform(fan_in="q")),
        is_full,
        rule=None,
        source="PEFT 0.21.2, tuners/lokr/layer.py: scaling = alpha / r at every rank",
    ),
)
