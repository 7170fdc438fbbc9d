"""What an estimate may cost, and the refusal that names its price before starting."""

from __future__ import annotations

from dataclasses import dataclass

from rsverify.errors import BudgetError, InputError

SAMPLE_WORK = 10_000
"""What drawing a sample and adding it to the span costs, in numbers computed with: some 100 microseconds of streams and small products."""
FEW_STEPS = 100
"""Steps up to which only the draws are bounded: their work is then within two orders of what is foretold for one step."""


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

    def check_samples(self, samples: int, d_in: int, d_out: int) -> None:
        """Refuse samples whose drawing alone is out of reach, before the first is drawn.

        Raises: BudgetError.
        """
        needed = 8 * samples * (2 * d_in + d_out)
        if needed > self.bytes:
            raise BudgetError(
                f"{samples} samples of a {d_out} x {d_in} layer hold {needed:.3g} bytes, bytes={self.bytes:.3g} are allowed; "
                "ask for fewer samples or raise Budget(bytes=...)",
                needed=needed, allowed=self.bytes, unit="bytes",
            )  # fmt: skip
        work = samples * SAMPLE_WORK
        if self.entries is not None and work > self.entries:
            raise BudgetError(
                f"{samples} samples, each drawn from streams of its own, cost what {work:.3g} numbers do; entries={self.entries:.3g} are "
                "allowed; ask for fewer samples or raise Budget(entries=...)",
                needed=work, allowed=self.entries, unit="entries",
            )  # fmt: skip

    def check_steps(self, steps: int, work: float) -> None:
        """Refuse many steps whose least draws are out of reach; few steps are left to the bounds on draws.

        Args: work: the numbers that the steps of the least draws compute with.
        Raises: BudgetError.
        """
        if steps > FEW_STEPS and self.entries is not None and work > self.entries:
            raise BudgetError(
                f"{steps} steps take at least {work:.3g} numbers at these ranks; entries={self.entries:.3g} are allowed; ask for fewer "
                f"steps (some {max(1, int(steps * self.entries / work))}), leave out the largest ranks, or raise Budget(entries=...)",
                needed=work, allowed=self.entries, unit="entries",
            )  # fmt: skip

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
