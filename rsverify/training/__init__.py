"""The witness that trains: adapters on a really pretrained transformer, every rank, rule and draw in one pass."""

from rsverify.training.configuration import Configuration, grid
from rsverify.training.data import fine_tuning_problem, fine_tuning_task, transformer_task
from rsverify.training.problem import Problem
from rsverify.training.stacked import StackedRun, train_stacked
from rsverify.training.task import Task, module_task
from rsverify.training.witness import measure, measure_all

__all__ = [
    "Configuration", "Problem", "StackedRun", "Task", "fine_tuning_problem", "fine_tuning_task", "grid", "measure", "measure_all",
    "module_task", "train_stacked", "transformer_task",
]  # fmt: skip
