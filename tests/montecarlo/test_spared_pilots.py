"""Draws at a rank follow what the rank needs: ranks too large to look at have their spread foretold, and a wrong foretelling is mended."""

import math

import numpy as np
import pytest

from rsverify.definitions.claims import setting
from rsverify.montecarlo import Budget, estimate, procedure
from rsverify.montecarlo.planning import Pilot, spreads
from rsverify.montecarlo.problem import make_problem
from rsverify.montecarlo.procedure import Question, answer
from rsverify.montecarlo.samplers import Sample, Sampler, Task
from rsverify.statistics.design import FEWEST_DRAWS, LEAST_DRAWS, least_draws
from rsverify.statistics.intervals import student_quantile
from rsverify.statistics.streams import stream

RANKS = tuple(2**k for k in range(2, 15))


class Scripted(Sampler):
    """Numbers r**2 (1 + spread z), the spread falling as r**-1/2 but for the largest rank; a rank costs its own size."""

    name = "scripted"

    def __init__(self, last: float) -> None:
        asked = setting("lora", "alpha/r", optimizer="sgd")
        self.task = Task(asked, make_problem(0, d_in=4, d_out=3, cosine=1.0), 20.0, 1e-3, 0, Budget(entries=1e12))
        self.last, self.taken = last, {}

    def entries(self, rank):
        return 100 * rank

    def sample(self, rank, phase, draws):
        self.taken[rank, phase] = draws
        spread = self.last if rank == RANKS[-1] else 1 / math.sqrt(rank)
        return Sample(rank, rank**2 * (1 + spread * stream(0, "scripted", rank, phase).standard_normal(draws)))


def _asked(last):
    sampler = Scripted(last)
    question = Question(
        ranks=RANKS, level=1 - 1e-8, margin=0.1, precision=None, curve=None, data={"d_in": 4, "d_out": 3}, samples=1, width=1,
        sequential=False,
    )  # fmt: skip
    return answer(question, sampler), sampler


def test_large_ranks_are_not_looked_at_and_have_the_draws_that_they_need():
    found, sampler = _asked(1 / math.sqrt(RANKS[-1]))
    looked = {rank for rank, phase in sampler.taken if phase == "pilot"}
    assert looked == {rank for rank in RANKS if LEAST_DRAWS * 100 * rank <= procedure.PILOT_MOST}
    assert FEWEST_DRAWS <= sampler.taken[RANKS[-1], "sample"] < LEAST_DRAWS
    for point in found.curve:
        assert point.lo < point.rank < point.hi and (point.hi - point.lo) / point.rank < 0.1
    assert found.interval[0] < 1 < found.interval[1]


@pytest.mark.parametrize("mended", [True, False])
def test_a_spread_larger_than_foretold_is_drawn_for(monkeypatch, mended):
    """One draw at the last rank spreads by 0.3 where 0.008 was foretold: without fresh draws its point would be known to 50 %."""
    if not mended:
        monkeypatch.setattr(procedure, "_surprise", lambda *a: 0)
    found, sampler = _asked(0.3)
    last = found.curve[-1]
    assert ((last.hi - last.lo) / last.value < 0.06) is mended
    assert (sampler.taken.get((RANKS[-1], "sample, wider"), 0) > 1000) is mended


def test_a_foretold_spread_falls_no_faster_than_channels_average_out():
    rng = stream(0, "foretold")
    seen = [Pilot(r, 1 + rng.standard_normal(4000) / r, r, 1e-6) for r in (4, 8, 16)]
    ahead = Pilot(64, seen[-1].values, 64, 1e-6, looked=False)
    spread = spreads([*seen, ahead], "rms")
    assert spread[-1] == pytest.approx(spread[-2] / 2) and np.allclose(spread[:3] * [4, 8, 16], 0.5, rtol=0.1)
    assert ahead.enough == 0 and seen[0].enough == 4000


@pytest.mark.parametrize("level", [1 - 1e-6, 1 - 2e-9])
def test_fewer_draws_than_32_are_enough_only_where_students_quantile_is_paid(level):
    counts = [least_draws(spread, level) for spread in (0.0, 1e-3, 3e-3, 6e-3, 0.01, 0.1, math.inf)]
    assert counts[0] == FEWEST_DRAWS and counts[-1] == LEAST_DRAWS and counts == sorted(counts)
    for spread, n in zip((1e-3, 3e-3, 6e-3), counts[1:4], strict=True):
        assert student_quantile(level, n - 1) * spread / math.sqrt(n) <= 0.02


def test_the_epsilon_regime_is_seen_at_ranks_that_were_not_looked_at():
    """The median gradient entry falls as 1/r and passes 100 eps between 2048, the last rank looked at, and 16384."""
    asked = {"optimizer": "adamw:eps=1e-6", "alpha": 1.0, "precision": 0.05, "d_in": 4, "d_out": 3}
    noted = [estimate("lora", "alpha/r", ranks=ranks, **asked).notes for ranks in ("4:2048", "4:16384")]
    assert ["epsilon regime" in " ".join(notes) for notes in noted] == [False, True]
