"""LoRA-XS: a small trained matrix between two frozen factors."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Orthonormal, frozen

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
    " A times the largest singular value of a weight as nn.Linear draws it: a declaration knows no base weight. Ranks up to"
    " min(d_in, d_out).",
)
