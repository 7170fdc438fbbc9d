"""MiSS (Bone): one trained row for each class of inputs, indices modulo r."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Zero, frozen

miss = Adapter(
    "miss",
    "r o, k -> o (k r)",
    sizes={"k": "d_in/r"},
    D=Zero(),
    ones=frozen(Constant(1)),
    rule="1",
    source="arXiv 2409.15371, as PEFT cites it; algebra of PEFT 0.21.2",
    counts="classes of input indices (i mod r); r must divide d_in",
    note="delta[o, i] = D[i mod r, o]. PEFT pads x with zeros where r does not divide d_in; the variants bat and mini are not declared.",
)
