"""DeLoRA: rank-one parts of unit length, with one trained strength for all of them."""

from rsverify.definitions.adapters.lora import lora
from rsverify.definitions.wrapped import WrappedAdapter

CLAMP = 1e-4  # PEFT's lower bound on the lengths; B is zero at init, so that its gradient starts out 1/CLAMP times larger


def _start(W, drawn, *, gamma, rank):
    return {**drawn, "strength": W.new_ones(1), "w_norm": W.norm(dim=0)}, W


def _weight(base, factors, *, gamma, rank):
    A, B = factors["A"], factors["B"]
    lengths = A.norm(dim=1).clamp(min=CLAMP) * B.norm(dim=0).clamp(min=CLAMP)
    return base + gamma * factors["strength"] * (B / lengths) @ A * factors["w_norm"]


_WHY = "every rank-one part is divided by the product of its own lengths: no polynomial of the factors"

delora = WrappedAdapter(
    "delora",
    lora,
    {"symbolic": _WHY, "montecarlo": _WHY},
    _start,
    _weight,
    lambda r, d_in, d_out: r * (d_in + d_out) + 1,
    ("B", "A", "strength"),
    rule="alpha/r",
    source="Bini et al. 2025, arXiv 2503.18225; algebra of PEFT 0.21.2",
    counts="rows of A",
    note="alpha is PEFT's lambda at init (15 there). The strength is lambda over its init, so that it starts at 1: a step of it counts"
    " alpha times. Lengths are clamped at 1e-4.",
)
