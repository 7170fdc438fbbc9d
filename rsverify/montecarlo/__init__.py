"""The witness that simulates: curves and exponents of any declared adapter, with intervals at declared error rates."""

from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.comparison import Comparison, compare
from rsverify.montecarlo.estimation import estimate
from rsverify.montecarlo.store import Store

__all__ = ["Budget", "Comparison", "Store", "compare", "estimate"]
