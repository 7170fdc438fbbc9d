"""The witness that derives: magnitudes as exact formulas in rank, widths and data, from an adapter's declaration alone."""

from rsverify.symbolic.solver import solve
from rsverify.symbolic.witness import derive

__all__ = ["derive", "solve"]
