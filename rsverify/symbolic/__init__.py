"""The witness that derives: magnitudes as exact formulas in rank, widths and data, from an adapter's declaration alone."""

from rsverify.symbolic.given import given_steps
from rsverify.symbolic.raw import raw_moment
from rsverify.symbolic.solver import solve
from rsverify.symbolic.witness import derive

__all__ = ["derive", "given_steps", "raw_moment", "solve"]
