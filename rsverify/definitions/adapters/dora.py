"""DoRA: LoRA inside a weight whose rows keep a trained length."""

from rsverify.definitions.adapters.lora import lora
from rsverify.definitions.wrapped import WrappedAdapter


def _start(W, drawn, *, gamma, rank):
    # In PEFT the length is that of W + gamma B A at init, and B is zero there.
    return {**drawn, "m": (W + gamma * drawn["B"] @ drawn["A"]).norm(dim=1)}, W


def _weight(base, factors, *, gamma, rank):
    adapted = base + gamma * factors["B"] @ factors["A"]
    norm = adapted.norm(dim=1).detach()  # a constant in the backward pass, as in PEFT
    # A row of zeros has no direction to keep: it stays as it is.
    return (factors["m"] / norm.where(norm > 0, 1.0))[:, None] * adapted


_WHY = "the row norm of W + gamma B A divides the weight: no polynomial of the factors"

dora = WrappedAdapter(
    "dora",
    lora,
    {"symbolic": _WHY, "montecarlo": _WHY},
    _start,
    _weight,
    lambda r, d_in, d_out: r * (d_in + d_out) + d_out,
    ("B", "A", "m"),
    rule="alpha/r",
    source="Liu et al. 2024, arXiv 2402.09353; algebra of PEFT 0.21.2",
    counts="rows of A",
    note="gamma stands inside the norm. m starts as the row norms of W, so that nothing changes at init.",
)
