"""The witness that derives: magnitudes as exact formulas in rank, widths and data, from an adapter's declaration alone."""

from rsverify.symbolic.answers.given import given_steps
from rsverify.symbolic.answers.raw import raw_moment
from rsverify.symbolic.answers.solver import solve
from rsverify.symbolic.answers.witness import derive

__all__ = ["derive", "given_steps", "raw_moment", "solve"]
