"""What a figure of the study is, and where its kind is found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rsverify.errors import UnknownName
from rsverify.studies.reproduce.judging import Finding
from rsverify.studies.reproduce.plan import Plan
from rsverify.studies.reproduce.runs import Results
from rsverify.sweep import Cell


@dataclass(frozen=True)
class Foretold:
    """What theory says, before anything is run: sentences for the reader and the numbers in them."""

    sentences: tuple[str, ...]
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One claim, what theory says of it, the runs that judge it, and its picture.

    Args:
        name, title: for the command line and the page. order: of its place on the page.
        claim: the article's, in our words. source: where it was read, or "not seen".
        prediction: from derived magnitudes, made before the run.
        cells: those that can be named from what is known so far; called again until it names no new one.
        judge: the finding. draw: a matplotlib figure.
        alone: cells that measure time, run one by one when all others are done.
    """

    name: str
    title: str
    order: int
    claim: str
    source: str
    prediction: Callable[[Plan], Foretold]
    cells: Callable[[Plan, Results], Sequence[Cell]]
    judge: Callable[[Plan, Results, Foretold], Finding]
    draw: Callable[[Plan, Results, Foretold], Any]
    alone: Callable[[Plan], Sequence[Cell]] = lambda plan: ()


@cache
def all_figures() -> dict[str, Figure]:
    """Every figure by name, in the order of the page: each file in `figures/` is one."""
    room = importlib.import_module("rsverify.studies.reproduce.figures")

    found = [importlib.import_module(f"{room.__name__}.{module.name}").FIGURE for module in pkgutil.iter_modules(room.__path__)]
    return {figure.name: figure for figure in sorted(found, key=lambda figure: figure.order)}


def as_figures(name: str | None) -> list[Figure]:
    """The figure of that name, or all.

    Raises: UnknownName, with the nearest.
    """
    if name is None:
        return list(all_figures().values())
    if name not in all_figures():
        raise UnknownName("figure", name, all_figures())
    return [all_figures()[name]]
