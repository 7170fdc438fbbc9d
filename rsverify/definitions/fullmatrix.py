"""What stands in for a low-rank factor where the rank makes it no smaller than the matrix: a full one, whose scale is a convention.

LoKr keeps its second factor as one matrix from half of that matrix's longer side on. Its rank then counts nothing, and libraries
disagree about the scale: PEFT goes on dividing alpha by it, LyCORIS sets the scale to 1. A file exchanged between them acts by another
factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rsverify.definitions.adapter import Adapter


@dataclass(frozen=True)
class FullMatrix:
    """The adapter of full matrices that stands in from some rank on, and the scale that then applies.

    Args:
        adapter: the adapter without the low-rank product; its rank axes are none.
        stands_in: stands_in(r, d_in, d_out), whether it stands in at that rank of a layer of these widths.
        rule: the rule of the scale that then applies, as text; None where the adapter's own goes on, rank and all.
        source: whose convention that is.
    """

    adapter: Adapter
    stands_in: Callable[[int, int, int], bool]
    rule: str | None
    source: str

    def __hash__(self) -> int:
        return hash((self.adapter, self.rule, self.source))
