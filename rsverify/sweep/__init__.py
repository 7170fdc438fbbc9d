"""Sweeps that survive: cells run through any `concurrent.futures.Executor`, are journaled as they finish, and resume."""

from rsverify.sweep.cells import Cell
from rsverify.sweep.executors import open_executor
from rsverify.sweep.journal import Identity, Journal
from rsverify.sweep.run import Outcome, SweepFailed, run_sweep

__all__ = ["Cell", "Identity", "Journal", "Outcome", "SweepFailed", "open_executor", "run_sweep"]
