"""The witness that trains: adapters on a really pretrained transformer, every rank, rule and draw in one pass."""

from rsverify.training.data import fine_tuning_problem
from rsverify.training.problem import Problem
from rsverify.training.witness import measure, measure_all

__all__ = ["Problem", "fine_tuning_problem", "measure", "measure_all"]
