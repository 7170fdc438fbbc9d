"""Two rules on shared draws: exact where the noise cancels, and sharper than two estimates where it nearly does."""

from __future__ import annotations

import pytest

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Zero
from rsverify.errors import Diverged, InputError
from rsverify.montecarlo import estimate
from rsverify.montecarlo.comparison import compare

GAUSSIAN = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
RANKS = tuple(4**k for k in range(1, 9))


def test_one_step_of_sgd_differs_by_the_rules_alone() -> None:
    """The update is gamma**2 times what the draws say: 1/sqrt(r) over 1/r is r, to rounding."""
    found = compare(GAUSSIAN, "alpha/sqrt(r)", "alpha/r", ranks=RANKS)
    assert found.exponent == pytest.approx(1, abs=1e-9) and found.error < 1e-9 and found.interval[0] <= 1 <= found.interval[1]


@pytest.mark.statistical
def test_several_steps_differ_by_little_noise() -> None:
    asked = {"ranks": RANKS, "steps": 3, "lr": 3e-3, "samples": 3}
    found = compare(GAUSSIAN, "alpha/sqrt(r)", "alpha/r", **asked)
    assert found.interval[0] < 1 < found.interval[1] and found.engine == "gram"
    alone = estimate(GAUSSIAN, "alpha/sqrt(r)", precision=0.02, **asked)
    assert found.error < 0.2 * (alone.design["half_width"] / 5)  # 5 standard errors make a half-width at 1e-6


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"ranks": (4,)}, InputError, "two ranks"), ({"draws": 8}, InputError, "32 draws"),
        ({"error_budget": 0}, InputError, "error_budget"),
        ({"engine": "dense"}, InputError, "no nested draws"), ({"lr": 1e200, "steps": 4}, Diverged, "diverges: at rank 4"),
    ],
)  # fmt: skip
def test_refused(changed, error, said) -> None:
    with pytest.raises(error, match=said):
        compare(GAUSSIAN, "alpha/sqrt(r)", "alpha/r", **{"ranks": (4, 16, 64), **changed})
