"""PiSSA: LoRA that starts as the principal part of the base weight, which keeps the rest."""

from rsverify.definitions.adapters.lora import lora
from rsverify.definitions.laws import PrincipalComponents
from rsverify.definitions.wrapped import WrappedAdapter


def _start(W, drawn, *, gamma, rank):
    import torch

    wide = W.to(torch.promote_types(W.dtype, torch.float32))  # no SVD in half precision
    U, S, Vh = torch.linalg.svd(wide, full_matrices=False)
    root = (S[:rank] / gamma).sqrt()
    B, A = (U[:, :rank] * root).to(W.dtype), (root[:, None] * Vh[:rank]).to(W.dtype)
    # What is taken off the base is the product of the factors as they are stored: then the sum is W to one rounding.
    return {"B": B, "A": A}, (wide - gamma * B.to(wide.dtype) @ A.to(wide.dtype)).to(W.dtype)


def _weight(base, factors, *, gamma, rank):
    return base + gamma * factors["B"] @ factors["A"]


_WHY = (
    "its factors at init are singular vectors of the base weight, whose spectrum is data; with a spectrum stated, as laws"
    " B=principal_components(columns, decay=...) and A=principal_components(rows, decay=...), it is derivable"
)

pissa = WrappedAdapter(
    "pissa",
    lora.with_init(B=PrincipalComponents("columns"), A=PrincipalComponents("rows")).renamed("pissa-flat"),
    {"symbolic": _WHY, "montecarlo": _WHY},
    _start,
    _weight,
    lambda r, d_in, d_out: min(r, d_in, d_out) * (d_in + d_out),
    ("B", "A"),
    rule="alpha/r",
    source="Meng et al. 2024, arXiv 2404.02948; algebra of PEFT 0.21.2",
    counts="rows of A, up to min(d_in, d_out)",
    tags=frozenset({"residual-base"}),
    note="B and A carry gamma**-1/2 each, so that gamma B A is the principal part; the base becomes the residual.",
    init_alone=True,
)
