"""A transfer by simulation, where theory gives bounds only: the first step is drawn at both ranks, and the rate found that keeps it."""

from __future__ import annotations

import math

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import BudgetError, InputError
from rsverify.montecarlo.dense.drawing import block_size, draw_block
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.problem import make_problem
from rsverify.studies.transfer_widths import Widths

DRAWS = 48
"""Draws at each rank: an update's root mean square to a few percent, whose ratio is what counts."""
CLOSE = 0.01
ROUNDS = 4


def simulated_rate(
    adapter: Adapter, optimizer: Optimizer, *, widths: Widths, ranks: tuple[int, int], gammas: tuple[float, float], lr: float, seed: int
) -> float:
    """The learning rate at the second rank whose first step moves the output as far as `lr` does at the first.

    Raises: InputError where the update vanishes or no rate is met; BudgetError where the draws do not fit.
    """
    options = {"weight_decay": 0.0, **({"eps": optimizer.option("eps")} if "eps" in optimizer.defaults else {})}
    bare = optimizer.with_options(**options)

    problem = make_problem(seed, d_in=widths[0], d_out=widths[1], cosine=1.0)
    asked = setting(adapter, "1", optimizer=bare)

    def update(place: int, rate: float) -> float:
        """The update's mean square over draws and entries."""
        rank, gamma = ranks[place], gammas[place]
        engine = Engine(adapter, rank, gamma, *widths)
        total, count, number, size = 0.0, 0, 0, block_size(adapter, rank, *widths)
        while count < DRAWS:
            block = draw_block(
                adapter, seed=seed, phase="transfer", rank=rank, gamma=gamma, d_in=widths[0], d_out=widths[1], number=number, draws=size,
                chunk=size,
            )  # fmt: skip
            for drawn, factors in block:
                total += float(observe(asked, engine, problem, factors, lr=rate, draws=drawn).values.sum())
                count += drawn
            number += 1
        return math.sqrt(total / count)

    before = update(0, lr)
    if not before > 0:
        raise InputError(f"the first step of {optimizer.text} moves no output of {adapter.name}: nothing is to be kept")
    rate = lr * gammas[0] / gammas[1]
    for _ in range(ROUNDS):
        after = update(1, rate)
        if not (after > 0 and math.isfinite(after)):
            break
        ratio = before / after
        rate *= ratio  # a first step is linear in small rates
        if abs(ratio - 1) < CLOSE:
            return rate
    raise BudgetError(
        f"no learning rate at r = {ranks[1]} was met within {ROUNDS} rounds whose first step moves the output by {before:.3g}: the update"
        " is not linear in the rate there; start from a smaller lr", needed=ROUNDS + 1, allowed=ROUNDS, unit="rounds",
    )  # fmt: skip


def default_widths(ranks: tuple[int, int]) -> Widths:
    """Widths at which ranks are far below them, for a simulation that was given none."""
    side = max(512, 8 * max(ranks))
    return side, side
