"""The witness that trains: adapters on a really pretrained transformer, every rank, rule and draw in one pass."""

from rsverify.training.first_step.witness import measure, measure_all
from rsverify.training.model.data import fine_tuning_problem, fine_tuning_task, transformer_task
from rsverify.training.model.problem import Problem
from rsverify.training.model.task import Task, module_task
from rsverify.training.stack.configuration import Configuration, grid
from rsverify.training.stack.train import StackedRun, train_stacked

__all__ = [
    "Configuration", "Problem", "StackedRun", "Task", "fine_tuning_problem", "fine_tuning_task", "grid", "measure", "measure_all",
    "module_task", "train_stacked", "transformer_task",
]  # fmt: skip
