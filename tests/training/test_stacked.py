"""Every configuration of a stack equals itself trained alone; mutants of the stack are seen to differ."""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rsverify.definitions import Constant, Gaussian, as_adapter, frozen
from rsverify.definitions.laws import KaimingUniform
from rsverify.errors import InputError
from rsverify.training.adapters.factors import Factors
from rsverify.training.autograd import block_linear
from rsverify.training.model import compact
from rsverify.training.model.data import transformer_task
from rsverify.training.model.text import Corpus
from rsverify.training.model.transformer import Transformer, TransformerConfig
from rsverify.training.native import build
from rsverify.training.stack import stack, stepping
from rsverify.training.stack.configuration import Configuration, grid
from rsverify.training.stack.stack import Stack
from rsverify.training.stack.train import train_stacked

sys.path.insert(0, str(Path(__file__).parent))  # import-mode importlib adds no folder of its own

from naive_training import rounding_bound, train_alone

pytestmark = pytest.mark.training
LORA = as_adapter("lora")
TEXT = Corpus("letters", bytes(range(32, 127)) * 20, b"")
MOVED = LORA.with_init(B=Gaussian(std="0.1/sqrt(r)"))


def small_task(*, tokens=9, sequences=2, dtype=torch.float64, known=True):
    """The compact transformer; known=False hides that it is one, so that its passes go through autograd as those of any model."""
    torch.manual_seed(3)
    model = Transformer(TransformerConfig(d=12, layers=2, heads=2, kv_heads=1, ffn=20, vocabulary=128)).to(dtype)
    task = transformer_task(model, TEXT, tokens=tokens, sequences=sequences)
    return task if known else replace(task, losses=lambda *given: task.losses(*given))


every_pass = pytest.mark.parametrize("way", ["native", "autograd"])


def on(way, monkeypatch):
    """The small task, to be trained by the native kernels or by autograd."""
    monkeypatch.setenv(build.SWITCH, "on" if way == "native" else "off")
    if way == "native" and build.kernels(torch.float64) is None:
        pytest.skip(str(build.remark(torch.float64)))
    return small_task(known=way == "native")


MIXED = [
    Configuration(2, "alpha/r", lr=1e-2),
    Configuration(2, "alpha/sqrt(r)", lr=3e-3, seed=4),
    Configuration(3, "alpha/r", optimizer="sgd", lr=0.1, data=1),
    Configuration(3, "alpha/sqrt(r)", optimizer="momentum", lr=0.05),
    Configuration(3, gamma=0.7, adapter=LORA.with_init(A=Gaussian(std="1/r")), lr=1e-3),
    Configuration(40, "alpha/r", lr=1e-3, draw=2),
    Configuration(40, "alpha/sqrt(r)", optimizer="sgd:weight_decay=0.1", lr=1e-2),
    Configuration(5, "alpha/r", targets=("q", "v", "down"), lr=1e-2),
    Configuration(5, "alpha/r", adapter=LORA.with_init(A=frozen(KaimingUniform(fan_in="i"))), lr=1e-2),
    Configuration(4, "alpha/r", optimizer="adamw:lr_ratio=16,eps=0.001", lr=1e-3),
    Configuration(4, "alpha/r", optimizer="adamw:clip=0.1,weight_decay=0.2", lr=1e-3),
]


def assert_equal(task, run, steps, chosen=None):
    for i, c in enumerate(run.configurations):
        if chosen is not None and i not in chosen:
            continue
        alone = train_alone(task, c, steps)
        bound = rounding_bound(task, c, steps, alone)
        for name in ("loss", "gradient_norm", "output_rms"):
            ours, theirs, allowed = getattr(run, name)[i], getattr(alone, name), getattr(bound, name)
            assert (np.abs(ours - theirs) <= allowed).all(), (c.text, name, ours - theirs, allowed)
        for layer, mine in run.factors(i).items():
            for key, value in mine.items():
                gap = float(np.linalg.norm(value.numpy() - alone.factors[layer][key]))
                assert gap <= bound.factors[layer][key], (c.text, layer, key, gap)


@every_pass
def test_each_configuration_equals_itself_trained_alone(way, monkeypatch):
    task = on(way, monkeypatch)
    assert compact.applies(task, dtype=torch.float64) is (way == "native")
    run = train_stacked(task, MIXED, steps=4)
    assert run.complete
    assert run.steps == (4,) * len(MIXED)
    assert_equal(task, run, 4)


@every_pass
def test_an_up_factor_that_is_not_zero_at_init(way, monkeypatch):
    task = on(way, monkeypatch)
    run = train_stacked(task, [Configuration(r, "alpha/r", adapter=MOVED, lr=1e-3) for r in (2, 30)], steps=3)
    assert (run.output_rms[:, 0] > 0).all()
    assert_equal(task, run, 3)


@pytest.mark.parametrize("optimizer", ["signsgd", "lion", "adam", "rmsprop", "adagrad", "adafactor", "muon"])
def test_optimizers(optimizer):
    task = small_task()
    # With B moved from zero no gradient vanishes: a sign or a polar factor of rounding noise is no number to compare.
    run = train_stacked(task, [Configuration(r, "alpha/r", adapter=MOVED, optimizer=optimizer, lr=1e-3 * r) for r in (2, 3)], steps=3)
    assert_equal(task, run, 3)


class _Float64(torch.Tensor):
    """A tensor that torch.optim.Muon's iteration cannot round to bfloat16."""

    def bfloat16(self):
        return self


def test_newton_schulz_is_that_of_torch():
    from torch.optim._muon import _zeropower_via_newtonschulz

    matrices = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 7, 4)))
    for batch in (matrices, matrices.mT.contiguous()):
        ours = stepping.newton_schulz(batch)
        for one, found in zip(batch, ours, strict=True):
            theirs = _zeropower_via_newtonschulz(one.clone().as_subclass(_Float64), stepping.NEWTON_SCHULZ, 5, 1e-7)
            # Five steps multiply a rounding by at most 3.4445**5 = 485 for small singular values; a dozen operations each.
            torch.testing.assert_close(found, theirs.as_subclass(torch.Tensor), rtol=0, atol=485 * 60 * 2.3e-16)


def test_muon_torch_takes_torchs_steps(monkeypatch):
    """torch.optim.Muon itself, momentum, decay and factor of shape, its iteration kept in float64."""
    from torch.optim import _muon

    inner = _muon._zeropower_via_newtonschulz
    monkeypatch.setattr(
        _muon, "_zeropower_via_newtonschulz", lambda g, *rest: inner(g.as_subclass(_Float64), *rest).as_subclass(torch.Tensor)
    )
    task = small_task()
    run = train_stacked(task, [Configuration(r, "alpha/r", adapter=MOVED, optimizer="muon-torch", lr=1e-3 * r) for r in (2, 3)], steps=3)
    assert_equal(task, run, 3)


@every_pass
@pytest.mark.parametrize("memory", [1, 60_000, 1 << 30])
def test_chunks_change_nothing_but_rounding(memory, way, monkeypatch):
    task = on(way, monkeypatch)
    whole = train_stacked(task, MIXED[:7], steps=3)
    parts = train_stacked(task, MIXED[:7], steps=3, memory=memory)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-12)  # some 1e3 roundings of 1e-16 on numbers of order one
    np.testing.assert_allclose(parts.gradient_norm, whole.gradient_norm, rtol=1e-11)


def test_the_shared_first_step_is_the_full_one():
    task = small_task()
    shared = train_stacked(task, MIXED, steps=2)
    full = train_stacked(task, MIXED, steps=2, share_first=False)
    np.testing.assert_allclose(shared.loss, full.loss, rtol=1e-12)
    np.testing.assert_allclose(shared.gradient_norm, full.gradient_norm, rtol=1e-12)


def test_the_model_is_left_as_it_was():
    task = small_task()
    task.model.train()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    train_stacked(task, MIXED[:2], steps=2)
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in task.model.parameters())
    assert task.model.training
    assert not any("forward" in module.__dict__ for module in task.model.modules())


def _gamma_missing_backward(monkeypatch):
    inner, views = block_linear._BlockLinear.backward, Factors.views

    def backward(ctx, *gradients):
        with monkeypatch.context() as patch:
            patch.setattr(Factors, "views", lambda *a: replace(views(*a), gamma=torch.ones_like(views(*a).gamma)))
            return inner(ctx, *gradients)

    monkeypatch.setattr(block_linear._BlockLinear, "backward", staticmethod(backward))


def _states_shared(monkeypatch):
    inner = Stack.__init__

    def init(self, *args, **kwargs):
        inner(self, *args, **kwargs)
        for states in self.states:
            for state in states:
                for name, value in state.items():
                    state[name] = value[:1].expand_as(value)  # every configuration writes the first one's moments

    monkeypatch.setattr(Stack, "__init__", init)


def _one_lr_for_all(monkeypatch):
    inner = Stack.draw

    def draw(self):
        inner(self)
        for group in self.groups:
            group.factors.lr = {name: value[:1].expand_as(value) for name, value in group.factors.lr.items()}
            group.lrs = {name: value[:1] * len(value) for name, value in group.lrs.items()}

    monkeypatch.setattr(Stack, "draw", draw)


def _decay_of_the_other_sign(monkeypatch):
    monkeypatch.setitem(stepping.ENTRYWISE, "sgd", (lambda o, w, g, s, lr, t: w.sub_((g - o.option("weight_decay") * w) * lr), ()))


def _probe_without_gamma(monkeypatch):
    inner = block_linear._add
    monkeypatch.setattr(
        block_linear, "_add", lambda run, part, square, n: inner(run, part, square / part.factors.gamma[part.rows].view(-1) ** 2, n)
    )


@pytest.mark.parametrize(
    "mutate", [_gamma_missing_backward, _probe_without_gamma, _states_shared, _one_lr_for_all, _decay_of_the_other_sign]
)
def test_a_wrong_stack_is_seen(mutate, monkeypatch):
    task = on("autograd", monkeypatch)
    mutate(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError)):
        assert_equal(task, train_stacked(task, MIXED[:7], steps=3), 3)


def test_a_configuration_that_diverges_moves_no_other_of_its_pass(monkeypatch):
    """Groups of other sizes round otherwise at the last digit; a row that leaked would move all of them."""
    task = on("native", monkeypatch)
    wild = Configuration(3, "alpha/r", optimizer="sgd", lr=1e200)
    alone = train_stacked(task, MIXED[:3], steps=4, workers=1)
    beside = train_stacked(task, [*MIXED[:3], wild], steps=4, workers=1)
    assert beside.diverged[3] is not None
    np.testing.assert_allclose(beside.loss[:3], alone.loss, rtol=1e-12)


@pytest.mark.parametrize("change", ["hook", "subclass"])
def test_a_model_that_was_touched_goes_through_autograd(change):
    task = small_task()
    if change == "hook":
        task.model.norm.register_forward_hook(lambda module, inputs, output: output * 1.01)
    else:
        task.model.norm.__class__ = type("Other", (type(task.model.norm),), {})
    assert not compact.applies(task, dtype=torch.float64)
    assert_equal(task, train_stacked(task, MIXED[:2], steps=2), 2)


def test_divergence_of_one_leaves_the_others_alone():
    task = small_task()
    wild = Configuration(3, gamma=1e100, optimizer="sgd", lr=1e200)
    good = [Configuration(3, "alpha/r", optimizer="sgd", lr=0.1), Configuration(2, "alpha/r")]
    run = train_stacked(task, [good[0], wild, good[1]], steps=4)
    assert run.diverged == (None, 1, None)
    assert np.isnan(run.loss[1, 1:]).all() and np.isfinite(run.loss[1, 0])
    assert_equal(task, run, 4, chosen=(0, 2))
    assert run.to_json()["configurations"][1]["loss"][1] is None


@pytest.mark.parametrize("optimizer", ["muon", "muon-torch", "adafactor"])
def test_divergence_under_matrix_optimizers(optimizer):
    task = small_task()
    same = {"rank": 3, "optimizer": optimizer, "lr": 1e-3}
    run = train_stacked(task, [Configuration(gamma=g, **same) for g in (1e200, 0.5)], steps=4, share_first=False)
    assert run.diverged[1] is None
    assert run.diverged[0] is not None


@pytest.mark.parametrize(
    ("configurations", "said"),
    [
        ([], "at least one"),
        ([Configuration(2, "alpha/r", optimizer="normalized-sgd")], "no update for normalized-sgd"),
        ([Configuration(2, "alpha/r", targets=("value",))], "linears end in: q, k, v, o, gate, up, down"),
        ([Configuration(2, "alpha/r", targets=("q", "*norm"))], "which is no nn.Linear; .* end in: q, k, v, o, gate, up, down"),
        ([Configuration(2, "alpha/r", targets=("(q|v)",))], r"matches no module; .* such as '\*q' \(no regular expression\)"),
        ([Configuration(2, "alpha/r", targets=())], r"targets=\(\) names nothing to adapt; .* end in: q, k, v"),
    ],
)
def test_refused_before_any_work(configurations, said):
    with pytest.raises(InputError, match=said):
        train_stacked(small_task(), configurations, steps=2)


def test_a_linear_that_the_task_does_not_adapt_is_refused():
    task = small_task()
    narrow = replace(task, targets=tuple(name for name in task.targets if name.endswith(".q")))
    said = r"targets='blocks.0.attention.v' is not among the task's targets \(2 linears, e.g. blocks.0.attention.q\): .* leave it out"
    with pytest.raises(InputError, match=f"configuration .*{said}"):
        train_stacked(narrow, [Configuration(2, "alpha/r", targets=("q", "v"))], steps=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rule": None}, "exactly one"),
        ({"gamma": 1.0}, "exactly one"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"rank": 0}, "0 is not a rank"),
        ({"rule": "alpha/(r-4)"}, "divides by zero"),
        ({"targets": "q"}, "is a text"),
    ],
)
def test_configurations_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Configuration(**{"rank": 4, "rule": "alpha/r", **change})


def test_a_short_text_is_refused():
    with pytest.raises(InputError, match="shorter than one batch"):
        transformer_task(small_task().model, Corpus("short", b"abc", b""), tokens=64)


@every_pass
def test_a_finished_pass_is_freed(monkeypatch, way):
    """Passes hold the activations of a step: one that outlives its step (rank 40 is on the merged route) fills the memory step by step."""
    born = []

    class Seen(stack.Pass):
        def __init__(self, *settings):
            super().__init__(*settings)
            born.append(weakref.ref(self))

    monkeypatch.setattr(stack, "Pass", Seen)
    train_stacked(on(way, monkeypatch), [c for c in MIXED if c.rank == 40], steps=3, workers=1)
    gc.collect()
    assert len(born) >= 2  # the first step of the kernels is no pass of configurations
    assert not [alive for alive in born if alive() is not None]


def test_grid_holds_every_combination():
    found = grid([4, 8], ["alpha/r", "alpha/sqrt(r)"], seeds=range(3), lrs=[1e-3, 1e-2])
    assert len(found) == 24
    assert len({c.text for c in found}) == 24
    assert found[0].to_dict() != found[1].to_dict()


def test_evaluate_gives_the_loss_of_the_trained_factors():
    task = small_task()
    two = train_stacked(task, MIXED[:7], steps=2)
    three = train_stacked(task, MIXED[:7], steps=3)
    found = two.evaluate(task.batch(2, 0))
    for i, c in enumerate(MIXED[:7]):
        if c.data == 0:
            assert found[i] == pytest.approx(three.loss[i, 2], rel=1e-12)
    delta = two.delta(0, task.targets[0])
    factors = two.factors(0)[task.targets[0]]
    torch.testing.assert_close(delta, MIXED[0].gamma * factors["B"] @ factors["A"])


def test_evaluate_takes_any_number_of_examples():
    """Sequences laid into one batch give the mean of their losses: for each configuration with its own factors."""
    task = small_task()
    run = train_stacked(task, MIXED[:7], steps=2)
    batches = [task.batch(step, 0) for step in (2, 3, 4)]
    together = run.evaluate({"tokens": torch.cat([batch["tokens"] for batch in batches])})
    assert len(set(together)) > 3
    np.testing.assert_allclose(together, np.mean([run.evaluate(batch) for batch in batches], axis=0), rtol=1e-12)


def test_constant_factor_needs_no_zero():
    task = small_task()
    run = train_stacked(task, [Configuration(2, gamma=0.1, adapter=LORA.with_init(B=Constant(0.1)))], steps=2)
    assert_equal(task, run, 2)
