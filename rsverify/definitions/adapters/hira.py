"""HiRA: the base weight, entry by entry, times a low-rank weight."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import KaimingUniform, Zero, frozen

hira = Adapter(
    "hira",
    "o i, o r, r i -> o i",
    W=frozen(KaimingUniform(fan_in="i")),
    B=Zero(),
    A=KaimingUniform(fan_in="i"),
    rule="1",
    source="openreview.net TwJrTz9cRS, as PEFT cites it; algebra and laws of PEFT 0.21.2",
    counts="rows of A; the added weight has rank up to r times that of the base",
    tags={"base-weight"},
    note="W is the base weight: data, not a draw. It is declared as a frozen factor of the law that nn.Linear starts from; a pretrained"
    " weight has its own, which changes constants and no power of r. Modules built here multiply by the real base weight.",
)
