"""Each figure, in worlds made up so that its claim holds, fails, or cannot be told, says so."""

import math
from functools import partial

import pytest
import worlds

from rsverify.errors import InputError
from rsverify.studies.reproduce import all_figures, quick, sweeping
from rsverify.studies.reproduce import plan as plans
from rsverify.studies.reproduce.figures import other_powers, perplexity
from rsverify.studies.reproduce.plan import LORA, RSLORA

PLAN = quick(wide=(512,), steps=3, narrow=(4, 16, 64), sweep=(0, 1, 2, 3, 4), beyond=3)
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


def parts_of(name, loss, *, plan=PLAN, noise=0.0005):
    """The answers of a figure's questions by their short names, and its finding, in a world of these losses."""
    finding, _ = worlds.judged(FIGURES[name], plan, partial(worlds.train, loss=loss, noise=noise))
    return {part.short: part.answer for part in finding.parts}, finding


def test_ranks_above_the_widths_are_swept_and_decide_nothing():
    theory = {LORA: 0.0, RSLORA: -0.5}

    def bent(rule, rank, lr, c):
        """Above the width the optimum no longer goes with the rank, and the loss is far lower."""
        return valley(rule, min(rank, 64), lr, c, powers=theory) - (0.5 if rank > 128 and rule == RSLORA else 0.0)

    straight, same = parts_of("control", partial(valley, powers=theory))
    assert straight["rsLoRA's best rate goes as r**(-1/2) up to rank 512"] == "yes"
    bends, finding = parts_of("control", bent)
    assert bends["rsLoRA's best rate goes as r**(-1/2)"] == "yes" and bends["rsLoRA's best rate goes as r**(-1/2) up to rank 512"] == "no"
    assert finding.answer == same.answer == "does not hold here"
    wide = finding.tables[0]["rows"][-1]
    assert wide[0] == "512 (above the width)" and wide[2].endswith("(6 seeds)")
    assert "rank 512" not in " ".join(part.says for part in finding.parts if "held-out loss" in part.says)


def test_a_question_about_wide_ranks_rests_on_their_few_seeds():
    plan = quick(wide=(512,), steps=1, narrow=(4, 16, 64), sweep=(0, 1, 2, 3, 4), seeds=7, swept=5, few=4, beyond=3)
    theory = {LORA: 0.0, RSLORA: -0.5}
    finding, results = worlds.judged(FIGURES["control"], plan, partial(worlds.train, loss=partial(valley, powers=theory), noise=0.001))
    seeds = {part.short: part.seeds for part in finding.parts}
    assert seeds["rsLoRA's best rate goes as r**(-1/2)"] == 5 and seeds["rsLoRA's best rate goes as r**(-1/2) up to rank 512"] == 3
    family = perplexity.FAMILIES[1]
    assert set(results.runs(family, 512)) <= set(plan.few_seeds) and results.rates(family, 512)
    assert [row[2][-9:] for row in finding.tables[1]["rows"]] == ["(6 seeds)"] * 4


def test_no_seed_is_judged_at_a_rate_that_its_own_repeat_chose():
    """A world in which each repeat has a best learning rate of its own, at which the other does badly."""
    plan = quick(wide=(512,), steps=1, narrow=(4, 64), sweep=(0, 1, 2, 3, 4), rounds=1)
    first = set(plan.groups[0])

    def divided(cell, plan):
        best = plan.lr * (2 if cell.seed in first else 8)
        return worlds.train(cell, plan, loss=lambda rule, rank, lr, c: 1.6 + 0.1 * math.log2(lr / best) ** 2, noise=0.0)

    results = worlds.fill(FIGURES["control"], plan, divided)
    family = perplexity.FAMILIES[0]
    for rank in (4, 512):
        judged = sweeping.losses_at_best(plan, results, family, rank)
        assert set(judged) == set(plan.seeds_of(rank))
        for seed, loss in judged.items():
            own = min(results.losses(sweeping.at(family, lr), rank)[seed] for lr in results.rates(family, rank))
            assert loss > own + 0.05


def test_wide_ranks_begin_about_the_best_of_the_widest_narrow_one():
    plan = quick(wide=(512,), steps=1, narrow=(4, 64), sweep=(0, 1, 2, 3, 4, 5, 6), rounds=4)
    flat_optimum = partial(valley, powers={LORA: 0.0, RSLORA: 0.0})
    results = worlds.fill(FIGURES["control"], plan, partial(worlds.train, loss=flat_optimum, noise=0.001))
    tried = [lr / plan.lr for lr in results.rates(perplexity.FAMILIES[0], 512) if lr != plan.lr]
    assert tried == pytest.approx([2, 4, 8], rel=1e-5)  # in octaves: no claim is judged there
    halves = [lr / plan.lr for lr in results.rates(perplexity.FAMILIES[0], 64)]
    assert {round(x, 2) for x in halves} >= {2.83, 4.0, 5.66}


def test_second_tables_compare_all_ranks_on_the_same_seeds():
    """A world in which the seeds that the wide ranks lack are easy: the first table flatters the narrow ranks, the second does not."""
    plan = quick(wide=(512,), steps=1, narrow=(4, 64), seeds=5, swept=5)

    def uneven(cell, plan):
        ease = 0.0 if cell.seed in plan.few_seeds else 0.5
        return worlds.train(cell, plan, loss=lambda rule, rank, lr, c: 2.0 - ease, noise=0.0)

    for name, column in (("perplexity", 1), ("control", 2)):
        finding, _ = worlds.judged(FIGURES[name], plan, uneven)
        first, second = ([row[column].split()[0] for row in table["rows"]] for table in finding.tables)
        assert first[-1] == "7.389" and set(first[:-1]) == {"6.050"}
        assert set(second) == {"7.389"}


def test_rates_are_judged_on_seeds_that_had_no_part_in_choosing_them():
    """A world in which the swept seeds like a rate at which all others do badly: what is judged shows it."""
    plan = quick(wide=(), steps=1, narrow=(4, 16, 64), seeds=6, swept=2)
    swept = set(plan.swept_seeds)

    def flattering(cell, plan):
        best = plan.lr * 4

        def loss(rule, rank, lr, c):
            near = abs(math.log2(lr / best)) < 0.1
            return 1.6 + 0.1 * math.log2(lr / best) ** 2 + (0.5 if near and cell.seed not in swept else 0.0)

        return worlds.train(cell, plan, loss=loss, noise=0.0)

    for name, family in (("control", perplexity.FAMILIES[0]), ("lr-sweep", perplexity.FAMILIES[0])):
        results = worlds.fill(FIGURES[name], plan, flattering)
        judged = sweeping.losses_at_best(plan, results, family, 4)
        assert set(judged) == set(plan.all_seeds)
        assert {seed: round(loss, 6) for seed, loss in judged.items()} == {s: 1.6 if s in swept else 2.1 for s in plan.all_seeds}
        # Elsewhere they are not run: each costs as much as a swept one.
        assert set(results.runs(sweeping.at(family, plan.lr * 2), 4)) == swept
        assert not results.runs(sweeping.at(family, plan.lr * 4), 16).keys() - swept


def test_further_seeds_are_run_at_the_judged_ranks_alone():
    plan = quick(wide=(512,), steps=1, narrow=(4, 16, 64), seeds=6, swept=4, few=2, named=3)
    further = set(plan.all_seeds) - set(plan.swept_seeds)
    for name in TRAINED:
        figure = FIGURES[name]
        results = worlds.fill(figure, plan, partial(worlds.train, loss=paper))
        ranks = {rank for cell in figure.cells(plan, results) if cell.seed in further for rank in cell.configuration["ranks"]}
        assert ranks <= {4, 64} and 64 in ranks
        finding = figure.judge(plan, results, figure.prediction(plan))
        assert {part.seeds for part in finding.parts if "held-out loss" in part.says} == {6}
        assert {part.seeds for part in finding.parts if "gradient norm at init" in part.says} <= {4}
        assert finding.answer == "holds"
    results = worlds.fill(FIGURES["lr-sweep"], plan, partial(worlds.train, loss=paper))
    parts = FIGURES["lr-sweep"].judge(plan, results, None).parts
    assert next(part for part in parts if part.deciding).seeds == 3


def test_first_steps_alone_are_no_runs():
    """They lend their gradient norm, and nothing else: a world whose losses after one step are absurd."""
    plan = quick(wide=(512,), steps=3, narrow=(4, 16, 64), seeds=6, swept=4, few=2, named=3)

    def absurd(cell, plan):
        short = cell.configuration["steps"] == 1
        return worlds.train(cell, plan, loss=lambda *a: 100.0 if short else paper(*a))

    finding, results = worlds.judged(FIGURES["other-powers"], plan, absurd)
    assert finding.answer == "holds"
    family = other_powers.FAMILIES[0]
    seed = plan.swept_seeds[3]
    assert results.run(family, 16, seed) is None and results.norm_at_init(family, 16, seed) is not None
    assert results.norm_at_init(family, 16, plan.all_seeds[5]) is None


def valley_of_sgd(rule, rank, lr, c, *, powers, depth=0.0):
    best = 0.06 * (rank / 4) ** powers[rule]
    return 1.6 + 0.1 * math.log2(lr / best) ** 2 - (depth * math.log2(rank / 4) if rule == RSLORA else 0.0)


def test_the_control_under_sgd():
    theory = {LORA: 1.0, RSLORA: 0.0}
    short = ("LoRA's best rate goes as r**(1)", "rsLoRA's best rate goes as r**(0)")
    found, finding = parts_of("control-sgd", partial(valley_of_sgd, powers=theory, depth=0.05))
    assert finding.answer == "holds" and [found[s] for s in short] == ["yes", "yes"]
    found, finding = parts_of("control-sgd", partial(valley_of_sgd, powers=theory))
    assert finding.answer == "holds only for" and [found[s] for s in short] == ["yes", "yes"]
    assert "does not for: at rank 64 rsLoRA at its best rate is better" in finding.sentence
    # AdamW's powers are not SGD's: a cell that ran the wrong optimizer would be seen.
    found, finding = parts_of("control-sgd", partial(valley_of_sgd, powers={LORA: 0.0, RSLORA: -0.5}))
    assert finding.answer == "does not hold here" and [found[s] for s in short] == ["no", "no"]
    assert parts_of("control-sgd", partial(valley_of_sgd, powers=theory, depth=0.05), noise=2.0)[1].answer == "inconclusive"


def test_an_optimum_at_the_end_of_what_was_tried_leaves_its_exponent_open():
    plan = quick(wide=(), steps=1, narrow=(4, 16, 64), rounds=1)
    far = partial(valley_of_sgd, powers={LORA: 2.0, RSLORA: 0.0}, depth=0.05)
    found, finding = parts_of("control-sgd", far, plan=plan)
    assert found["LoRA's best rate goes as r**(1)"] == "open" and found["rsLoRA's best rate goes as r**(0)"] == "yes"
    (part,) = [part for part in finding.parts if part.note]
    assert "rank 64 is the last one tried" in part.note
    assert finding.tables[0]["rows"][-1][1].endswith("(the last one tried)")
    # With room to grow the same world is settled, and against theory.
    assert parts_of("control-sgd", far, plan=plans.changed(plan, rounds=6))[0]["LoRA's best rate goes as r**(1)"] == "no"


def test_no_run_of_a_sweep_is_made_twice():
    """Figures share their cells, and a learning rate that two ranks ask for in different rounds is not run again."""
    plan = quick(narrow=(4, 16, 64), wide=(128, 512), steps=2, rounds=4, seeds=5, swept=3, few=2, named=3)
    powers = {LORA: 0.9, RSLORA: -0.4}
    seen = []
    names = ("perplexity", "lr-sweep", "control", "optimizers", "control-sgd", "other-powers", "init-corrections", "attention-only")
    for name in names:
        results = worlds.fill(FIGURES[name], plan, partial(worlds.train, loss=partial(anywhere, powers=powers)))
        seen.append(set(results.of_cell))
    cells = {c.key: c for name in names for c in swept_cells(name, plan, powers)}
    assert set(cells) == set.union(*seen)
    settings = ("rule", "optimizer", "init", "targets", "lr", "steps")
    runs = [(*(c.configuration[s] for s in settings), rank, c.seed) for c in cells.values() for rank in c.configuration["ranks"]]
    assert len(runs) == len(set(runs))


def swept_cells(name, plan, powers):
    results = worlds.fill(FIGURES[name], plan, partial(worlds.train, loss=partial(anywhere, powers=powers)))
    return FIGURES[name].cells(plan, results)


def anywhere(rule, rank, lr, c, *, powers):
    """A valley under every rule and optimizer."""
    return (valley if c["optimizer"] == "adamw" else valley_of_sgd)(
        rule, rank, lr, c, powers={"alpha/r**0.25": 0, "alpha/r**2": 0, "alpha": 0} | powers
    )


def test_a_plan_sweeps_the_optimizers_that_it_has_grids_for():
    with pytest.raises(InputError, match="optimizer='adafactor' has no learning-rate sweep"):
        PLAN.grid(LORA, "adafactor")


def test_a_sweep_grows_where_its_best_stands_at_an_end():
    figure = FIGURES["control"]
    far = partial(valley, powers={LORA: 0.0, RSLORA: 0.0})
    high = partial(worlds.train, loss=lambda rule, rank, lr, c: far(rule, rank, lr / 8, c), noise=0.001)
    results = worlds.fill(figure, quick(narrow=(4, 64), wide=(), steps=1, sweep=(0, 1, 2), rounds=3), high)
    assert max(results.rates(perplexity.FAMILIES[0], 4)) > max(quick().lr * 2.0**k for k in (0, 1, 2))


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
