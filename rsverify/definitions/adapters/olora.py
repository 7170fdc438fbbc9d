"""OLoRA: LoRA that starts from the QR factors of the base weight, whose product it takes off the base."""

from rsverify.definitions.adapters.lora import lora
from rsverify.definitions.laws import Orthonormal
from rsverify.definitions.wrapped import WrappedAdapter


def _start(W, drawn, *, gamma, rank):
    import torch

    wide = W.to(torch.promote_types(W.dtype, torch.float32))  # no QR in half precision
    Q, R = torch.linalg.qr(wide)
    B, A = Q[:, :rank].to(W.dtype), R[:rank].to(W.dtype)
    return {"B": B, "A": A}, (wide - gamma * B.to(wide.dtype) @ A.to(wide.dtype)).to(W.dtype)


def _weight(base, factors, *, gamma, rank):
    return base + gamma * factors["B"] @ factors["A"]


_WHY = "its factors at init are QR factors of the base weight: data that no law of independent draws describes"

olora = WrappedAdapter(
    "olora",
    lora.with_init(B=Orthonormal(), A=Orthonormal()).renamed("lora-orthonormal"),
    {"symbolic": _WHY, "montecarlo": _WHY},
    _start,
    _weight,
    lambda r, d_in, d_out: min(r, d_in, d_out) * (d_in + d_out),
    ("B", "A"),
    rule="alpha/r",
    source="Buyukakyuz 2024, arXiv 2406.01775; algebra of PEFT 0.21.2",
    counts="rows of A, up to min(d_in, d_out)",
    tags=frozenset({"residual-base"}),
    note="gamma is not absorbed: the base becomes W - gamma B A, with B orthonormal and A of the size of W.",
)
