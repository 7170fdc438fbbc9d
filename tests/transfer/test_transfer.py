"""Alpha and learning rate at another rank: what must stay does stay, in the other witness's numbers too."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsverify as rv
from benchmarks import _autograd
from rsverify import cli
from rsverify.definitions.claims import setting
from rsverify.studies import transfer as study
from rsverify.studies import transfer_simulated

USUAL = {"rank": 16, "alpha": 32.0, "lr": 2e-4, "to_rank": 128}
RULES = ("alpha/r", "alpha/sqrt(r)", "alpha/r**0.75", "alpha")


def test_adam_needs_no_change_under_alpha_over_r():
    found = rv.transfer(**USUAL)
    assert (found.to_alpha, found.to_lr, found.to_lr_range) == (32.0, pytest.approx(2e-4), None)


def test_adam_needs_a_smaller_rate_under_rslora_and_a_range_for_long_runs():
    """Early lr ~ r**-(1 - g), late lr ~ r**-(1 - g)/2, of arXiv 2602.06204, at g = 1/2."""
    found = rv.transfer(**USUAL, rule="rslora")
    assert found.to_lr == pytest.approx(2e-4 * 8**-0.5)
    assert found.to_lr_range == (pytest.approx(2e-4 * 8**-0.5), pytest.approx(2e-4 * 8**-0.25))
    assert any("long run" in caveat for caveat in found.caveats)
    assert any("weight_decay = 0.02828" in caveat for caveat in found.caveats)


def test_sgd_wants_rslora():
    assert rv.transfer(**USUAL, rule="rslora", optimizer="sgd").to_lr == pytest.approx(2e-4)
    assert rv.transfer(**USUAL, rule="alpha/r", optimizer="sgd").to_lr == pytest.approx(2e-4 * 8)


def test_a_change_of_rule_keeps_the_function_at_the_old_rank():
    found = rv.transfer(**USUAL, to_rule="alpha/sqrt(r)")
    assert found.to_alpha == pytest.approx(8.0)
    assert rv.ScalingRule("alpha/sqrt(r)").gamma(16, found.to_alpha) == pytest.approx(found.gamma)
    assert found.to_lr == pytest.approx(2e-4 * 8**-0.5)
    assert "same function" in found.reasons[0]


def test_muon_is_a_range_by_its_batch():
    found = rv.transfer(**USUAL, rule="rslora", optimizer="muon")
    assert found.to_lr is None and found.alpha_at_same_lr is None
    assert found.to_lr_range == (pytest.approx(2e-4 * 8**-0.5), pytest.approx(2e-4))
    assert any("stable rank R" in caveat for caveat in found.caveats)


def test_muon_torch_keeps_its_shape_factor_below_the_width():
    """16 to 128 at d 512 under alpha/r: sqrt(d/r) cancels sqrt(r), so that one direction wants 8 times the rate; 0.076 was measured."""
    usual = {**USUAL, "lr": 0.01, "optimizer": "muon-torch"}
    for widths in ({"width": 512}, {"d_in": 300, "d_out": 512}, {}):
        found = rv.transfer(**usual, **widths)
        assert (
            found.to_lr_range == (pytest.approx(0.01 * 8**0.5), pytest.approx(0.08)) and found.to_lr_range[0] < 0.076 < found.to_lr_range[1]
        )
    narrow = rv.transfer(**usual, d_in=512, d_out=8)  # rank above the width: no shape factor at either rank
    assert narrow.ways[0].lr == pytest.approx(0.01 * 8**0.5)


DRAWN = rv.Adapter("drawn", "o r, r i -> o i", B=rv.Gaussian("1/sqrt(r)"), A=rv.KaimingUniform("i"))
MEAN = rv.Adapter("mean", "o r, r i -> o i", B=rv.Zero(), A=rv.Constant("1/i"))


@pytest.mark.parametrize(
    "adapter", [DRAWN, MEAN, rv.adapters()["lora"], rv.adapters()["loha"], rv.adapters()["lora-fa"]], ids=lambda a: a.name
)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion", "normalized-sgd"])
def test_the_first_step_stays_at_the_widths_given(adapter, optimizer):
    """By a simulation that shares no code: the update at the new rank and rate is what it was, to its draws' error and a few percent."""
    optimizer = rv.optimizers()[optimizer].with_options(weight_decay=0.0)
    widths = {"d_in": 64, "d_out": 48}
    found = rv.transfer(adapter, rank=4, alpha=8.0, lr=1e-4, to_rank=16, optimizer=optimizer, **widths)
    rate = next(way.lr for way in found.ways if way.first)
    data = _autograd.flat_data(64, 48, 1.0, draws=96, seed=4)
    square = []
    for rank, lr in ((4, 1e-4), (16, rate)):
        asked = _autograd.asked(setting(adapter, found.rule, optimizer=optimizer), rank=rank, alpha=8.0, lr=lr, theory=True, **widths)
        square.append(float(_autograd.simulate(asked, data, draws=96, seed=rank).mean()))
    assert math.sqrt(square[1] / square[0]) == pytest.approx(1, abs=0.15)


def test_a_simulated_transfer_reads_its_draws(monkeypatch):
    found = rv.transfer(DRAWN, rank=16, alpha=8.0, lr=1e-4, to_rank=64, width=256)
    assert found.ways[0].how == "simulated" and found.to_lr > 3e-4  # nearly gamma's fall, which the power of the rank would cancel
    again = rv.transfer(DRAWN, rank=16, alpha=8.0, lr=1e-4, to_rank=64, width=256)
    assert again == found
    monkeypatch.setattr(transfer_simulated, "observe", lambda *a, **k: SimpleNamespace(values=np.ones(k["draws"])))
    assert rv.transfer(DRAWN, rank=16, alpha=8.0, lr=1e-4, to_rank=64, width=256).to_lr == pytest.approx(4e-4)


def test_without_widths_it_is_said():
    assert any("far below the widths" in caveat for caveat in rv.transfer(**USUAL).caveats)
    assert any("d_in = 512" in caveat for caveat in rv.transfer(DRAWN, rank=2, alpha=8.0, lr=1e-4, to_rank=4).caveats)


def test_regimes_that_want_another_alpha_are_a_range():
    found = rv.transfer(rank=16, alpha=1.0, lr=1e-3, to_rank=256, rule="alpha", optimizer="adam:eps=1e-3")
    assert found.to_lr == pytest.approx(1e-3 / 16) and found.alpha_at_same_lr is None
    assert found.alpha_at_same_lr_range == (pytest.approx(1 / 16), pytest.approx(1 / 4))


def test_several_layers_are_asked_together(capsys):
    from torch import nn

    model = nn.ModuleDict({"up": nn.Linear(24, 96), "down": nn.Linear(96, 24)})
    found = rv.transfer(**USUAL, rule="rslora", model=model)
    assert set(found.widths) == {(24, 96), (96, 24)} and {way.widths for way in found.ways} == set(found.widths)


def test_widths_are_given_once_and_whole():
    wrong = (
        ({"d_in": 4}, "d_out is missing"), ({"width": 4, "d_in": 4, "d_out": 4}, "given by width and by d_in"), ({"width": 0}, "width=0"),
        ({"d_in": True, "d_out": 2}, "d_in=True"),
    )  # fmt: skip
    for widths, message in wrong:
        with pytest.raises(rv.RsverifyError, match=message):
            rv.transfer(**USUAL, **widths)


def test_adafactor_beyond_its_cap_is_told():
    found = rv.transfer(rank=4, alpha=4, lr=0.5, to_rank=64, rule="alpha/r**2", optimizer="adafactor")
    assert any("no rate keeps it" in caveat for caveat in found.caveats)


def test_an_epsilon_beside_the_gradient_is_a_range():
    found = rv.transfer(**USUAL, rule="rslora", optimizer="adamw:eps=1e-6")
    assert found.to_lr is None and found.to_lr_range == (pytest.approx(2e-4 * 8**-0.5), pytest.approx(2e-4))
    assert rv.transfer(**USUAL, rule="rslora", optimizer="adamw:eps=1e4").to_lr == pytest.approx(2e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "normalized-sgd", "adafactor", "muon-torch"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("to_rule", [None, "alpha/sqrt(r)"])
def test_the_first_step_stays(optimizer, rule, to_rule):
    """The formula at both ranks, decay off: the update agrees to the corrections of order 1/r, at most 1/64 here; under SGD 2/64."""
    optimizer = rv.optimizers()[optimizer].with_options(weight_decay=0.0)
    found = rv.transfer(rank=64, alpha=32.0, lr=1e-3, to_rank=512, rule=rule, to_rule=to_rule, optimizer=optimizer)
    first = next(way.lr for way in found.ways)
    updates = [
        rv.derive("lora", "1", optimizer=optimizer).at([r], d_in=64, d_out=2048, lr=lr, gamma=[gamma])[0]
        for r, gamma, lr in ((64, found.gamma, found.lr), (512, found.to_gamma, first))
    ]
    within = 1 / 32
    assert updates[1] / updates[0] == pytest.approx(1, abs=within)


def test_a_transfer_with_a_wrong_power_is_seen(monkeypatch):
    """The mutant forgets that gamma enters SGD's update twice."""
    way = study._Asked.way

    def wrong(asked, regime, widths):
        a, b, c = regime.term
        return way(asked, replace(regime, term=(a / 2, b, c)), widths)

    monkeypatch.setattr(study._Asked, "way", wrong)
    assert rv.transfer(**USUAL, rule="rslora", optimizer="sgd").to_lr != pytest.approx(2e-4)


@given(
    rank=st.integers(1, 512), to_rank=st.integers(1, 512), alpha=st.floats(0.5, 64), rule=st.sampled_from(RULES),
    to_rule=st.sampled_from(RULES), optimizer=st.sampled_from(["sgd", "adamw", "normalized-sgd"]),
)  # fmt: skip
def test_there_and_back_again(rank, to_rank, alpha, rule, to_rule, optimizer):
    there = rv.transfer(rank=rank, alpha=alpha, lr=1e-3, to_rank=to_rank, rule=rule, optimizer=optimizer)
    back = rv.transfer(rank=to_rank, alpha=there.to_alpha, lr=there.to_lr, to_rank=rank, rule=rule, optimizer=optimizer)
    assert back.to_lr == pytest.approx(1e-3)
    changed = rv.transfer(rank=rank, alpha=alpha, lr=1e-3, to_rank=rank, rule=rule, to_rule=to_rule, optimizer=optimizer)
    assert changed.to_lr == pytest.approx(1e-3) and changed.to_gamma == pytest.approx(changed.gamma)


def test_keeping_the_rate_instead():
    found = rv.transfer(**USUAL, rule="rslora")
    again = rv.transfer(rank=128, alpha=found.alpha_at_same_lr, lr=2e-4, to_rank=16, rule="rslora")
    assert again.to_lr == pytest.approx(2e-4 * again.gamma / again.to_gamma * 8)
    assert again.gamma * 128 == pytest.approx(found.gamma * 16)


@pytest.mark.parametrize("changed", [{"rank": 0}, {"rank": 2.5}, {"to_rank": True}, {"lr": math.nan}, {"alpha": 0.0}])
def test_python_refuses_the_same(changed):
    with pytest.raises(rv.RsverifyError, match=f"{next(iter(changed))}="):
        rv.transfer(**{**USUAL, **changed})


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


BASE = {"--rank": "16", "--alpha": "32", "--lr": "2e-4", "--to-rank": "128"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--rank": "0"}, "0 is not a rank"),
        ({"--rank": "-4"}, "-4 is not a rank"),
        ({"--rank": "4.5"}, "'4.5' is not a whole number"),
        ({"--rank": "4,8"}, "expected one whole number"),
        ({"--to-rank": "0"}, "0 is not a rank"),
        ({"--lr": "0"}, "lr=0"),
        ({"--lr": "inf"}, "lr=inf"),
        ({"--alpha": "-1"}, "alpha=-1"),
        ({"--alpha": "nan"}, "alpha=nan"),
        ({"--rule": "rslorra"}, "did you mean 'rslora'"),
        ({"--rule": "alpha/(r-16)"}, "divides by zero at r=16"),
        ({"--to-rule": "1/r"}, "not proportional to alpha"),
        ({"--optimizer": "adamv"}, "did you mean"),
        ({"--adapter": "lorra"}, "did you mean 'lora'"),
        ({"--adapter": "dora"}, "multilinear core 'lora'"),
        ({"--optimizer": "adam:weight_decay=0.1"}, "coupled weight decay"),
        ({"--json": "no/such/folder/x.json"}, "does not exist"),
    ],
)
def test_bad_input_is_one_clear_message(capsys, changed, said):
    words = [word for pair in {**BASE, **changed}.items() for word in pair]
    code, _, message = run(capsys, "transfer", *words)
    assert code == 2 and said in message and "Traceback" not in message


def test_the_command_line_says_it_and_writes_it(capsys, tmp_path):
    words = [word for pair in BASE.items() for word in pair]
    code, out, _ = run(capsys, "transfer", *words, "--rule", "alpha/sqrt(r)", "--json", str(tmp_path / "t.json"))
    assert code == 0
    assert "lr     7.071e-05" in out and "range  lr from 7.071e-05 to 0.0001189" in out
    written = json.loads((tmp_path / "t.json").read_text())
    assert written["to_lr"] == pytest.approx(7.0710678e-05) and written["ways"][0]["law"] == "gamma * lr * r"
