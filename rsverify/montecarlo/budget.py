"""What an estimate may cost, and the refusal that names its price before starting."""

from __future__ import annotations

from dataclasses import dataclass

from rsverify.errors import BudgetError, InputError


@dataclass(frozen=True)
class Budget:
    """Bounds on an estimate: draws over all ranks together, seconds (predicted from the pilot), bytes held at once.

    `entries` bounds the work, whatever the machine: entries of factors over all draws and ranks (some 1e8 per second).

    Raises: InputError for a bound that is not positive, or fewer draws than an interval needs.
    """

    draws: int | None = 4_000_000
    seconds: float | None = None
    bytes: int = 256_000_000
    entries: float | None = 6e8

    def __post_init__(self) -> None:
        if self.draws is not None and (isinstance(self.draws, bool) or self.draws != int(self.draws) or self.draws < 1):
            raise InputError(f"draws={self.draws!r}; expected a whole number from 1, or None for no bound")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds={self.seconds!r}; expected a positive number, or None for no bound")
        if not self.bytes > 0:
            raise InputError(f"bytes={self.bytes!r}; expected a positive number")

    def chunk(self, per_draw: int, block: int, *, rank: int) -> int:
        """How many draws of a block may be held at once.

        Raises: BudgetError where not even one fits.
        """
        if per_draw > self.bytes:
            raise BudgetError(
                f"one draw at rank {rank} holds {per_draw:.3g} bytes, bytes={self.bytes:.3g} are allowed; "
                "raise Budget(bytes=...) or leave out the largest ranks",
                needed=per_draw, allowed=self.bytes, unit="bytes",
            )  # fmt: skip
        return max(1, min(block, self.bytes // per_draw))

    def check_work(self, entries: int, *, rank: int) -> None:
        """Refuse a rank at which one draw alone is more work than all draws may be.

        Raises: BudgetError.
        """
        if self.entries is not None and entries > self.entries:
            raise BudgetError(
                f"one draw at rank {rank} computes with {entries:.3g} numbers, entries={self.entries:.3g} are allowed for all draws; "
                "leave out the largest ranks, raise Budget(entries=...), or ask for a Gaussian A under SGD or momentum, whose "
                "cost does not grow with rank",
                needed=entries, allowed=self.entries, unit="entries",
            )  # fmt: skip
