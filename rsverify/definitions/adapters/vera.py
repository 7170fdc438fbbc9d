"""VeRA: two frozen random projections, two trained vectors."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Uniform, Zero, frozen

vera = Adapter(
    "vera",
    "o, o r, r, r i -> o i",
    b=Zero(),
    B=frozen(Uniform(bound="sqrt(6/r)")),
    d=Constant("0.1"),
    A=frozen(Uniform(bound="sqrt(6/i)")),
    rule="1",
    source="Kopiczko et al. 2023, arXiv 2310.11454; laws of PEFT 0.21.2 (Kaiming uniform of gain sqrt(2): variance 2/fan)",
    counts="entries of d, rows of the frozen A",
    note="PEFT shares one A and B, sized by the widest layer, among all layers; here every layer draws its own of its own size.",
)
