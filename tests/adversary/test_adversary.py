"""A slice of the adversary: random cases hold, and a sign, a factor or a power changed in theory or in any engine is found."""

import os

import numpy as np
import pytest

import rsverify as rv
from benchmarks import adversary
from benchmarks._random_cases import Case, case
from rsverify.montecarlo.channels import moves
from rsverify.montecarlo.dense import engine as dense
from rsverify.montecarlo.gram import sampler as gram
from rsverify.symbolic.answers import witness
from rsverify.symbolic.steps import polynomial

pytestmark = pytest.mark.statistical
SEED = int(os.environ.get("RSVERIFY_FRESH_SEED", "0"))
"""Fixed, and fresh where a nightly job sets it."""


@pytest.mark.parametrize("first", range(0, 32, 8))
def test_nothing_contradicts_and_nothing_crashes(first):
    records = [adversary.judged(number, seed=SEED) for number in range(first, first + 8)]
    wrong = [(r["number"], r["text"], r["contradictions"], r["crashes"]) for r in records if r["contradictions"] or r["crashes"]]
    assert not wrong
    assert all("simulate it: rv.estimate(" in r["refusal"] for r in records if r["answer"] == "refused")


def test_cases_are_what_they_were():
    assert case(3, seed=0).text == case(3, seed=0).text != case(3, seed=1).text
    many = [case(number, seed=0) for number in range(300)]
    assert {len(c.adapter.operands) for c in many} == {2, 3, 4}
    assert {len(c.adapter.rank_axes) for c in many} == {1, 2, 3}
    assert {c.claim["optimizer"].partition(":")[0] for c in many} == set(rv.optimizers())
    assert {type(getattr(law, "law", law)).__name__ for c in many for law in c.adapter.laws.values()} == {
        "Zero", "Gaussian", "Uniform", "Constant", "KaimingUniform", "Orthonormal",
    }  # fmt: skip
    assert any(c.adapter.sizes for c in many) and {c.claim["steps"] for c in many} == {0, 1, 2, 3}


def own(optimizer, law=None, **claim):
    """LoRA, which every engine speaks of, or with both factors drawn, of which the dense one alone does."""
    adapter = rv.Adapter("own", "o r, r i -> o i", B=law or rv.Zero(), A=rv.Gaussian("1/sqrt(i)"))
    asked = {"optimizer": optimizer, "quantity": "update", "statistic": "rms", "probe": "aligned", "steps": 1, "regime": "rank", **claim}
    return Case(adapter, "alpha/r", asked, 0.05, (5, 4))


def refused(asked, who):
    """The contradictions of a case that name a witness."""
    witness._magnitude.cache_clear()
    record = adversary.held(asked, -1)
    witness._magnitude.cache_clear()
    return [text for text in record["contradictions"] if text.startswith(who)]


MUTANTS = {"sign": -1.0, "factor": 1.3, "power": None}


def changed(value, change, rank):
    return value * (MUTANTS[change] if MUTANTS[change] is not None else rank**0.5)


@pytest.mark.parametrize("change", MUTANTS)
def test_a_change_in_theory_is_found(monkeypatch, change):
    right = polynomial.magnitude
    monkeypatch.setattr(
        polynomial, "magnitude", lambda a, o, c: (lambda value, squared: (changed(value, change, witness.s.r), squared))(*right(a, o, c))
    )
    assert refused(own("sgd", statistic="projection"), "theory")


@pytest.mark.parametrize("change", MUTANTS)
def test_a_change_in_the_dense_engine_is_found(monkeypatch, change):
    right = dense.Engine.train

    def wrong(engine, factors, problem, optimizer, **options):
        after = right(engine, factors, problem, optimizer, **options)
        return {name: w if w is None or factors[name] is None else factors[name] + changed(w - factors[name], change, engine.rank)
                for name, w in after.items()}  # fmt: skip

    monkeypatch.setattr(dense.Engine, "train", wrong)
    assert refused(own("sgd", rv.Gaussian("1/sqrt(r)"), statistic="projection"), "dense")


@pytest.mark.parametrize("change", MUTANTS)
def test_a_change_in_the_channels_is_found(monkeypatch, change):
    right = moves.Run.b
    monkeypatch.setattr(moves.Run, "b", lambda run, g: changed(right(run, g), change, np.sqrt(g.shape[1])))
    assert refused(own("adamw", statistic="projection"), "channels")


@pytest.mark.parametrize("change", MUTANTS)
def test_a_change_in_the_gram_engine_is_found(monkeypatch, change):
    right = gram.GramSampler.sample

    def wrong(sampler, rank, phase, draws):
        from dataclasses import replace

        drawn = right(sampler, rank, phase, draws)
        return replace(drawn, values=changed(drawn.values, change, rank))

    monkeypatch.setattr(gram.GramSampler, "sample", wrong)
    assert refused(own("sgd", statistic="projection"), "gram")


def test_unchanged_they_all_hold():
    for asked in (own("sgd", statistic="projection"), own("adamw", statistic="projection"), own("sgd", rv.Gaussian("1/sqrt(r)"))):
        record = adversary.held(asked, -1)
        assert not record["contradictions"] and not record["crashes"]
    assert adversary.held(own("sgd"), -1)["engines"] == ["gram", "channels", "dense"]
