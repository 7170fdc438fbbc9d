"""Each figure, in worlds made up so that its claim holds, fails, or cannot be told, says so."""

import math
from functools import partial

import pytest
import worlds

from rsverify.studies.reproduce import all_figures, quick
from rsverify.studies.reproduce.plan import LORA, RSLORA

PLAN = quick(wide=(512,), steps=3, narrow=(4, 16, 64), sweep=(0, 1, 2, 3, 4))
FIGURES = all_figures()


def paper(rule, rank, lr, c):
    """The article's world: rsLoRA gains from rank, LoRA and every other rule do not."""
    return 2.0 - (0.05 * math.log2(rank / 4) if rule == RSLORA and c["init"] == "1" else 0.0)


def flat(rule, rank, lr, c):
    return 2.0


def opposite(rule, rank, lr, c):
    """LoRA gains from rank, rsLoRA loses, other rules are better than both."""
    gain = {LORA: -0.05, RSLORA: 0.05}.get(rule, -0.1)
    return 2.0 + gain * math.log2(rank / 4) - (0.2 if c["init"] != "1" else 0.0)


TRAINED = ("perplexity", "attention-only", "init-corrections", "other-powers", "optimizers")


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_trained(name):
    figure = FIGURES[name]
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=paper))[0].answer == "holds"
    # The gradient norms, too, turn round: nothing of the claim is left.
    turned = partial(worlds.train, loss=opposite, gradient=lambda rule, rank: rank**2.0)
    assert worlds.judged(figure, PLAN, turned)[0].answer == "does not hold here"
    noisy = worlds.judged(figure, PLAN, partial(worlds.train, loss=paper, noise=3.0))[0]
    assert noisy.answer == "inconclusive"


def test_a_claim_that_holds_in_part_names_the_part():
    def both_gain(rule, rank, lr, c):
        return 2.0 - 0.05 * math.log2(rank / 4) - (0.1 if rule == RSLORA else 0)

    finding, _ = worlds.judged(FIGURES["perplexity"], PLAN, partial(worlds.train, loss=both_gain))
    assert finding.answer == "holds only for"
    assert "does not for: under LoRA rank 64 is as good as rank 4" in finding.sentence


def test_gradient_norms():
    figure = FIGURES["gradient-norm"]
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=flat))[0].answer == "holds"
    steep = partial(worlds.train, loss=flat, gradient=lambda rule, rank: rank**2.0)
    assert worlds.judged(figure, PLAN, steep)[0].answer == "does not hold here"
    swapped = partial(worlds.train, loss=flat, gradient=lambda rule, rank: 1.0)
    assert worlds.judged(figure, PLAN, swapped)[0].answer == "holds only for"
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=flat, noise=0.5))[0].answer == "inconclusive"


def valley(rule, rank, lr, c, *, powers, depth=0.0):
    """A sweep whose optimum goes as a power of r, with a floor that rsLoRA's rank lowers by depth."""
    best = 1.2e-3 * (rank / 16) ** powers[rule]
    return 1.6 + 0.1 * math.log2(lr / best) ** 2 - (depth * math.log2(rank / 4) if rule == RSLORA else 0.0)


def test_the_control_reads_optimum_and_exponent():
    figure = FIGURES["control"]
    theory = {LORA: 0.0, RSLORA: -0.5}
    same = worlds.judged(figure, PLAN, partial(worlds.train, loss=partial(valley, powers=theory), noise=0.001))[0]
    assert same.answer == "does not hold here"  # at their own best rates the rules are equal: the advantage was the rate's
    by_short = {part.short: part.answer for part in same.parts}
    assert by_short["LoRA's best rate goes as r**(0)"] == "yes" and by_short["rsLoRA's best rate goes as r**(-1/2)"] == "yes"
    assert by_short["at rank 64 the two rules are equally good at their own best rates"] == "yes"
    deeper = partial(valley, powers=theory, depth=0.05)
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=deeper, noise=0.001))[0].answer == "holds"
    other = partial(valley, powers={LORA: 0.5, RSLORA: 0.0})
    parts = worlds.judged(figure, PLAN, partial(worlds.train, loss=other, noise=0.001))[0].parts
    assert {part.answer for part in parts if "best rate goes as" in part.short} == {"no"}
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=deeper, noise=2.0))[0].answer == "inconclusive"


def test_a_sweep_grows_where_its_best_stands_at_an_end():
    figure = FIGURES["control"]
    far = partial(valley, powers={LORA: 0.0, RSLORA: 0.0})
    high = partial(worlds.train, loss=lambda rule, rank, lr, c: far(rule, rank, lr / 8, c), noise=0.001)
    results = worlds.fill(figure, quick(narrow=(4, 64), wide=(), steps=1, sweep=(0, 1, 2), rounds=3), high)
    from rsverify.studies.reproduce.figures.perplexity import FAMILIES

    assert max(results.rates(FAMILIES[0], 4)) > max(quick().lr * 2.0**k for k in (0, 1, 2))


def test_lr_sweep():
    figure = FIGURES["lr-sweep"]
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=paper))[0].answer == "holds"
    tuned = partial(worlds.train, loss=lambda rule, rank, lr, c: 2.0 - (0.5 if lr > 2 * PLAN.lr else 0.0))
    assert worlds.judged(figure, PLAN, tuned)[0].answer == "does not hold here"
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=paper, noise=3.0))[0].answer == "inconclusive"


def test_spectra():
    figure = FIGURES["spectra"]
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=flat))[0].answer == "holds only for"
    one = partial(worlds.train, loss=flat, growth=lambda rule, rank: rank**0.5 if rule == RSLORA else 1.0)
    assert worlds.judged(figure, PLAN, one)[0].answer == "holds"
    other = partial(worlds.train, loss=flat, growth=lambda rule, rank: rank**0.5 if rule == LORA else 1.0)
    assert worlds.judged(figure, PLAN, other)[0].answer == "does not hold here"
    assert worlds.judged(figure, PLAN, partial(worlds.train, loss=flat, noise=3.0))[0].answer == "inconclusive"


def test_rank_without_limit():
    figure = FIGURES["any-rank"]
    assert worlds.judged(figure, PLAN, worlds.rank_free)[0].answer == "holds"
    assert worlds.judged(figure, PLAN, partial(worlds.rank_free, learns=False))[0].answer == "holds only for"
    assert worlds.judged(figure, PLAN, partial(worlds.rank_free, noise=2.0))[0].answer == "inconclusive"


def test_the_limit():
    figure = FIGURES["limit"]
    assert worlds.judged(figure, PLAN, worlds.distance)[0].answer == "holds"
    assert worlds.judged(figure, PLAN, partial(worlds.distance, power=-0.1))[0].answer == "does not hold here"
    finding, _ = worlds.judged(figure, PLAN, partial(worlds.distance, odd=-0.3))
    assert finding.answer in ("holds only for", "does not hold here")
    assert worlds.judged(figure, PLAN, partial(worlds.distance, noise=2.0))[0].answer == "inconclusive"


def test_merging():
    figure = FIGURES["merging"]
    assert worlds.judged(figure, PLAN, worlds.merging)[0].answer == "holds"
    finding, _ = worlds.judged(figure, PLAN, partial(worlds.merging, difference=1e-3, restored=False))
    assert finding.answer == "holds only for" and "no further bytes" in finding.sentence


def test_every_figure_foretells_and_says_where_its_claim_was_read():
    for name, figure in FIGURES.items():
        assert figure.prediction(PLAN).sentences, name
        assert "notes" in figure.source or "not seen" in figure.source or "could be read" in figure.source, name
