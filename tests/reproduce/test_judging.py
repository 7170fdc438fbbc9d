"""Questions are answered yes, no and open where they should be, and a flip between repeats is open and said."""

import math

import pytest

from rsverify.studies.reproduce import full, quick
from rsverify.studies.reproduce.judging import ask, conclude, fact, slopes

PLAN = quick()
FIRST, SECOND = PLAN.groups


def values(first, second):
    return dict(zip(PLAN.all_seeds, (*first, *second), strict=True))


@pytest.mark.parametrize(
    ("found", "answer", "flipped"),
    [
        (values((-0.50, -0.51, -0.49), (-0.52, -0.50, -0.51)), "yes", False),
        (values((0.50, 0.51, 0.49), (0.52, 0.50, 0.51)), "no", False),
        (values((-1.0, 1.0, 0.3), (0.5, -0.7, 0.1)), "open", False),
        (values((-0.50, -0.51, -0.49), (0.52, 0.50, 0.51)), "open", True),
        (values((-0.50, -0.51, -0.49), (-1.0, 1.0, 0.3)), "open", False),
        (values((-0.50, -0.51, math.nan), (-0.52, -0.50, -0.51)), "open", False),
    ],
)
def test_three_answers(found, answer, flipped):
    part = ask("below -0.1", PLAN, found, (-math.inf, -0.1))
    assert (part.answer, part.flipped) == (answer, flipped)


def test_an_answer_that_a_fresh_run_need_not_give_is_open_and_says_so():
    """Both repeats exclude the edge by a little, and the spread within them is what it is."""
    found = values((-0.115, -0.130, -0.145), (-0.114, -0.130, -0.146))
    part = ask("below -0.09", PLAN, found, (-math.inf, -0.09), short="a little")
    assert {answer for *_, answer in part.repeats} == {"yes"}
    assert (part.answer, part.leaning) == ("open", "yes") and part.again is not None and 0.2 < part.again < 0.95
    finding = conclude([fact("b", True), part])
    assert finding.answer == "inconclusive" and f"with probability {math.floor(100 * part.again) / 100:.2f} only" in finding.sentence
    far = ask("below 0.2", PLAN, found, (-math.inf, 0.2))
    assert (far.answer, far.leaning) == ("yes", "yes") and far.again is not None and far.again > 0.95
    assert ask("above -0.09", PLAN, found, (-0.09, math.inf)).leaning == "no"


def test_equality_is_a_region_not_a_failure_to_tell():
    noisy = values((-1.0, 1.0, 0.0), (1.0, -1.0, 0.0))
    assert ask("within 0.1", PLAN, noisy, (-0.1, 0.1)).answer == "open"
    assert ask("within 0.1", PLAN, values((0.001, 0.0, -0.001), (0.0, 0.001, 0.002)), (-0.1, 0.1)).answer == "yes"


def test_findings():
    yes, no = fact("a", True, short="a"), fact("b", False, short="b")
    unsettled = ask("c", PLAN, values((-1.0, 1.0, 0.3), (0.5, -0.7, 0.1)), (-0.1, 0.1), short="c")
    assert conclude([yes, yes]).answer == "holds"
    assert conclude([no]).answer == "does not hold here"
    assert conclude([yes, no]).answer == "holds only for"
    assert conclude([yes, unsettled]).answer == "inconclusive"
    assert conclude([no, unsettled]).answer == "does not hold here" and "Open: c" in conclude([no, unsettled]).sentence
    flipped = ask("d", PLAN, values((-0.50, -0.51, -0.49), (0.52, 0.50, 0.51)), (-math.inf, -0.1), short="d")
    assert "opposite answer" in conclude([yes, flipped]).sentence


def test_context_does_not_decide():
    context = fact("b", False, deciding=False)
    assert conclude([fact("a", True), context]).answer == "holds"


def test_slopes_are_powers():
    assert slopes([4, 8, 32], {1: [4**-0.5, 8**-0.5, 32**-0.5]})[1] == pytest.approx(-0.5)


def test_repeats_share_no_seed_and_another_seed_shares_none():
    assert not set(FIRST) & set(SECOND)
    assert not set(PLAN.all_seeds) & set(quick(seed=1).all_seeds)


def test_a_question_of_few_seeds_says_how_many_it_had():
    plan = full()
    mine = dict.fromkeys(plan.few_seeds, -1.0) | {plan.few_seeds[0]: -1.1}
    part = ask("below 0", plan, mine, (-math.inf, 0))
    assert part.answer == "yes" and part.seeds == plan.few == 3 < plan.swept < plan.seeds
    assert part.mean == pytest.approx(-1 - 0.1 / 6)
