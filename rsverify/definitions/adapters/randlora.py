"""RandLoRA: a sum of frozen random bases of rank r, each with trained diagonals, together of full rank."""

from rsverify.definitions.adapter import Adapter, RoundedSizes
from rsverify.definitions.laws import Constant, Uniform, Zero, frozen


def sizes(d_in: int, d_out: int, r: int) -> dict[str, int]:
    """As many bases as make the sum full-rank."""
    return {"n": -(-min(d_in, d_out) // r)}


randlora = Adapter(
    "randlora",
    "o n r, n r, r i, n i -> o i",
    sizes=RoundedSizes(sizes, {"n": "min(d_in, d_out)/r"}),
    B=frozen(Uniform(bound="sqrt(3)")),
    L=Zero(),
    A=frozen(Uniform(bound="sqrt(3)")),
    G=Constant("1/max(n, min(d_in, d_out))"),
    rule="alpha/r",
    source="Albert et al. 2025, arXiv 2502.00987; laws of PEFT 0.21.2 (alpha 640 there)",
    counts="rank of one random base: parameters fall as it grows, n = ceil(min(d_in, d_out)/r)",
    note="The trained diagonal G stands at the input, as in PEFT where d_in <= d_out; PEFT puts it on the smaller side."
    " PEFT divides the uniform draws by their measured deviation and shares them among layers; here they have variance 1 by law."
    " PEFT pairs (rank, base) of A with (base, rank) of B by position: a permutation of independent entries, the same in law.",
)
