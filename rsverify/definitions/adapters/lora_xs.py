"""LoRA-XS: a small trained matrix between two frozen factors."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Orthonormal, frozen
from rsverify.definitions.wrapped import WrappedAdapter

lora_xs = Adapter(
    "lora-xs",
    "o s, s r, r i -> o i",
    rank_axes=("r", "s"),
    B=frozen(Orthonormal()),
    R=Gaussian(std="1/100000"),
    A=frozen(Orthonormal(gain="(sqrt(d_out)+sqrt(d_in))/sqrt(3*d_in)")),
    rule="alpha/r",
    source="Balazy et al. 2024, arXiv 2405.17604, and its published code",
    counts="rows of R",
    note="The original takes B and A from the SVD of the base weight, A with the singular values. Here both are random orthonormal,"
    " A times the largest singular value of a weight as nn.Linear draws it: a declaration knows no base weight. Those of a Gaussian"
    " base weight have just this law, but for the singular values, which fall. `of_the_base()` takes the base's own. Ranks up to"
    " min(d_in, d_out).",
)


def of_the_base() -> WrappedAdapter:
    """LoRA-XS as published: between the base weight's own singular vectors, the down-projection times its singular values.

    It is not registered under a name: hand it over as an object, e.g. `rv.check_adapter(rv.Subject(build, init=of_the_base()))`.
    """
    return WrappedAdapter(
        "lora-xs", lora_xs, {"symbolic": _WHY, "montecarlo": _WHY}, _start, _weight, lambda r, d_in, d_out: min(r, d_in, d_out) ** 2,
        ("R",), rule=lora_xs.rule, source=lora_xs.source, counts=lora_xs.counts,
        note="B and A are frozen at the singular vectors of the base weight; R starts at N(0, 1e-10).", init_alone=True,
    )  # fmt: skip


_WHY = (
    "its frozen factors are singular vectors of the base weight, whose spectrum is data; with laws in their place, which lora-xs has, it is"
    " derivable"
)


def _start(W, drawn, *, gamma, rank):
    import torch

    wide = W.to(torch.promote_types(W.dtype, torch.float32))  # no SVD in half precision
    U, S, Vh = torch.linalg.svd(wide, full_matrices=False)
    # A weight has no more singular vectors than its sides are long.
    R = drawn["R"][: len(S), : len(S)]
    return {"B": U[:, :rank].to(W.dtype), "R": R, "A": (S[:rank, None] * Vh[:rank]).to(W.dtype)}, W


def _weight(base, factors, *, gamma, rank):
    return base + gamma * factors["B"] @ factors["R"] @ factors["A"]
