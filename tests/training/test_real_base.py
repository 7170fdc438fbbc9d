"""The training witness on the pretrained base: what it confirms, that it equals autograd, and that a broken one is noticed."""

from __future__ import annotations

import pytest
import torch

from rsverify.definitions import as_adapter, as_optimizer, as_rule
from rsverify.definitions.claims import setting
from rsverify.errors import CheckpointError, InputError
from rsverify.records import Measurement, dumps, loads
from rsverify.training.first_step import closed_form as firststep
from rsverify.training.first_step import witness
from rsverify.training.first_step.by_autograd import first_step_by_autograd
from rsverify.training.first_step.small_lr import loss_decrease_check
from rsverify.training.first_step.witness import measure, measure_all
from rsverify.training.model.base import base_manifest, load_base, verify_checkpoint
from rsverify.training.model.data import draw_batch, fine_tuning_problem
from rsverify.training.model.pretraining import bits_per_byte
from rsverify.training.model.text import english
from rsverify.training.stack.loop import train

pytestmark = pytest.mark.training

RULES = ("alpha/r", "alpha/sqrt(r)")
HEADLINES = (("gradient_norm", "frobenius", 0), ("loss_decrease", "rms", 1), ("update", "projection", 1))
CONTEXT = (("update", "rms", 1), ("input_gradient", "rms", 1), ("output", "rms", 1), ("output", "rms", 0), ("gradient:A", "frobenius", 1))
EXPECTED = {
    ("alpha/r", "sgd"): (-0.5, -1.0, -1.0),
    ("alpha/sqrt(r)", "sgd"): (0.0, 0.0, 0.0),
    ("alpha/r", "adamw"): (-0.5, 0.0, 0.0),
    ("alpha/sqrt(r)", "adamw"): (0.0, 0.5, 0.5),
}
LEVEL = 1 - 1e-8


def ask(rule, optimizer, quantity, statistic, steps, **kw):
    return setting("lora", rule, optimizer=optimizer, quantity=quantity, statistic=statistic, steps=steps, **kw)


@pytest.fixture(scope="module")
def problem():
    return fine_tuning_problem()


@pytest.fixture(scope="module")
def table(problem):
    asked = [ask(rule, optimizer, *q) for rule, optimizer in EXPECTED for q in (*HEADLINES, *CONTEXT)]
    return {(s.rule.text, s.optimizer.text, s.claim.quantity, s.claim.statistic, s.claim.steps): m
            for s, m in zip(asked, measure_all(asked, problem=problem, level=LEVEL).values(), strict=True)}  # fmt: skip


@pytest.mark.parametrize(("rule", "optimizer"), EXPECTED)
def test_headlines_are_confirmed(table, rule, optimizer):
    for q, expected in zip(HEADLINES, EXPECTED[rule, optimizer], strict=True):
        m = table[rule, optimizer, *q]
        lo, hi = m.interval
        assert expected - 0.1 <= lo <= hi <= expected + 0.1, (q, m.exponent, m.interval)
        assert m.draws == 32 and m.marked == (128, 256)
        if q[0] == "update":  # layer by layer too, on the mean curve of each of the 28 layers
            assert expected - 0.1 <= m.data["layer_exponent_min"] <= m.data["layer_exponent_max"] <= expected + 0.1


@pytest.mark.parametrize(("rule", "optimizer"), EXPECTED)
def test_context_is_inside_its_bracket(table, rule, optimizer):
    for q in CONTEXT[:3]:
        m = table[rule, optimizer, *q]
        assert m.bracket[0] <= m.interval[0] <= m.interval[1] <= m.bracket[1], (q, m.interval, m.bracket)
    assert table[rule, optimizer, *CONTEXT[3]].zero
    assert table[rule, optimizer, *CONTEXT[2]].per_seed == table[rule, optimizer, *CONTEXT[0]].per_seed


def test_records_travel(table):
    for m in table.values():
        assert loads(Measurement, dumps(m)) == m


def few(problem, optimizer="sgd"):
    asked = [ask("alpha/r", optimizer, *q) for q in HEADLINES[1:]]
    return list(measure_all(asked, problem=problem, ranks=(4, 16, 64), draws=8, level=LEVEL).values())


def test_a_flipped_step_is_noticed(problem, monkeypatch):
    assert all(m.exponent is not None for m in few(problem))
    honest = firststep.first_step
    monkeypatch.setattr(firststep, "first_step", lambda optimizer, g: -honest(optimizer, g))
    for m in few(problem):
        assert m.exponent is None and all(point.value < 0 for point in m.curve) and "wrong sign" in m.notes[-1]


def test_a_dropped_gamma_is_noticed(problem, monkeypatch):
    for m in few(problem):
        assert m.interval[0] < -1.0 < m.interval[1]
    monkeypatch.setattr(witness, "DEGREE", {**witness.DEGREE, "sgd": 0})  # gamma once instead of twice
    for m in few(problem):
        assert not m.interval[0] - 0.1 <= -1.0 <= m.interval[1] + 0.1


@pytest.mark.parametrize("optimizer", ["sgd", "adamw:weight_decay=0", "adamw:eps=0.01,weight_decay=0", "lion", "signsgd:lr_ratio=4"])
def test_closed_form_equals_autograd(problem, optimizer):
    ranks, lr, draw = (3, 24, 160), 1e-3, 1
    asked = {
        "gradient_norm": ask("alpha/sqrt(r)", optimizer, *HEADLINES[0]),
        "gradient:B": ask("alpha/sqrt(r)", optimizer, "gradient:B", "frobenius", 0),
        "loss_decrease": ask("alpha/sqrt(r)", optimizer, *HEADLINES[1]),
        "update_projection": ask("alpha/sqrt(r)", optimizer, *HEADLINES[2]),
        "update_rms": ask("alpha/sqrt(r)", optimizer, *CONTEXT[0]),
        "input_gradient_rms": ask("alpha/sqrt(r)", optimizer, *CONTEXT[1]),
    }
    closed = measure_all(list(asked.values()), problem=problem, ranks=ranks, draws=2, level=0.9, lr=lr)
    for j, rank in enumerate(ranks):
        gamma = as_rule("alpha/sqrt(r)").gamma(rank)
        direct = first_step_by_autograd(
            problem, as_adapter("lora"), rank=rank, gamma=gamma, optimizer=as_optimizer(optimizer), lr=lr, draw=draw
        )
        for name, s in asked.items():
            # Sums of 256 tokens and up to 344 entries in float64, some with cancellation: an order of magnitude for its condition.
            assert closed[s.claim].per_seed[draw][j] == pytest.approx(direct[name], rel=344 * 256 * 2.3e-16 * 10), (name, rank)


def test_real_loss_decreases_reach_their_first_order_at_small_lr(problem):
    for rule in RULES:
        for optimizer in ("sgd", "adamw"):
            check = loss_decrease_check(problem, rule=rule, optimizer=optimizer, ranks=(4, 32, 256), draws=1)
            assert abs(check.deviation).max() < 1e-3
            assert abs(check.shrinkage - 2).max() < 0.05  # halving lr halves what is beyond first order
    # At a practical lr the slope is another number: between the stable 0 and the limit's 1/2.
    assert check.practical_exponent is not None and 0.1 < check.practical_exponent < 0.49


def test_epsilon_regime_is_marked(problem):
    asked = [ask("alpha/r", optimizer, *HEADLINES[1]) for optimizer in ("adamw", "adamw:eps=10")]
    plain, drowned = measure_all(asked, problem=problem, ranks=(4, 16, 64), draws=8).values()
    assert not any("epsilon" in note for note in plain.notes)
    assert any("epsilon regime at ranks 4, 16, 64" in note for note in drowned.notes)
    assert drowned.interval[0] < -0.9  # SGD's exponent returns


def test_silence_has_reasons(problem):
    asked = [
        setting("lora", "alpha/r", optimizer="muon"),
        setting("lora", "alpha/r", statistic="log"),
        setting("lora", "alpha/r", probe="orthogonal"),
        setting("lora", "alpha/r", quantity="gradient_norm", statistic="projection"),
    ]
    for answer, part in zip(
        measure_all(asked, problem=problem, ranks=(4, 8), draws=2).values(),
        ("muon", "Monte Carlo", "orthogonal", "no direction"),
        strict=True,
    ):
        assert isinstance(answer, str) and part in answer
    with pytest.raises(InputError, match="cannot measure"):
        measure("lora", "alpha/r", optimizer="muon", problem=problem)
    with pytest.raises(InputError, match="draws=1"):
        measure("lora", "alpha/r", problem=problem, seeds=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_training_goes_down_and_reads_its_probes(dtype):
    small = fine_tuning_problem(tokens=48, sequences=1, dtype=dtype)
    run = train(small, "lora", rule="rslora", rank=8, steps=4, lr=1e-3)
    assert run.losses[-1] < run.losses[0] and run.diverged is None
    first, *later = run.records
    assert first.output_rms == 0 and first.factor_gradients["A"] == 0 and first.factor_gradients["B"] == first.gradient_norm
    assert all(record.output_rms > 0 and record.factor_gradients["A"] > 0 for record in later)
    for record, after in zip(run.records, run.losses[1:], strict=False):
        assert record.decrease == record.loss - after
    assert train(small, "lora", rule="alpha", rank=8, optimizer="sgd", steps=30, lr=1e6).diverged


def test_batches_and_bad_input():
    assert draw_batch(b"x" * 100, seed=0, tokens=10, sequences=3).shape == (3, 10)
    with pytest.raises(InputError, match="text of 5 bytes is shorter than one batch of 2 x 128 = 256"):
        fine_tuning_problem(text=b"short")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device='cuda' is not there: torch sees no CUDA device; use --device cpu"):
            load_base(device="cuda")
    with pytest.raises(InputError, match="is not a device"):
        load_base(device="gpu7")


def test_a_wrong_checkpoint_is_refused():
    with pytest.raises(CheckpointError, match=r"has sha256=.*, its manifest says .*; reinstall"):
        verify_checkpoint(b"not the base", base_manifest()["sha256"])


def test_bits_per_byte_of_the_base():
    manifest, corpus = base_manifest(), english()
    same = corpus.sha256 == manifest["text_sha256"]
    text = corpus.held_out if same else corpus.held_out[:20_000]
    bits = bits_per_byte(load_base(dtype=torch.float32), text)
    assert bits <= 2.4
    if same:
        assert bits == pytest.approx(manifest["held_out_bits_per_byte"], abs=1e-3)
