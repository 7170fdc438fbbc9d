"""The whole way at tiny sizes: real cells, journal, resume, page, command line; and a wrong cell flips a verdict."""

import json
import shutil
import signal
from functools import partial

import pytest
import torch

from rsverify.cli import main
from rsverify.errors import InputError, UnknownName
from rsverify.report.rooms import ROOT, room_hashes
from rsverify.studies.reproduce import cells, quick, reproduce
from rsverify.studies.reproduce import plan as plans
from rsverify.studies.reproduce.cells import spectrum
from rsverify.studies.reproduce.plan import LORA, RSLORA
from rsverify.studies.reproduce.writing import write
from rsverify.sweep.executors import SerialExecutor
from rsverify.sweep.journal import JournalError

TINY = quick(narrow=(4, 64), wide=(), steps=1, seeds=4, tokens=32, held_out=1)


def run(out, figure="gradient-norm", plan=TINY):
    return reproduce(figure, plan=plan, out=out, executor=SerialExecutor())


@pytest.mark.training
def test_theory_holds_on_the_real_model_and_a_finished_run_is_not_run_again(tmp_path, monkeypatch):
    report = run(tmp_path)
    (section,) = report.sections
    assert section.finding.answer == "holds" and report.exit_code == 0
    data = write(report, tmp_path, kind="tiny", command="rsverify reproduce gradient-norm")
    page = (tmp_path / "reproduce.html").read_text()
    assert "HOLDS" in page and "<svg" in page
    assert not any(word in page for word in ("<script", "src=", 'href="http', "url(http"))
    assert json.loads((tmp_path / "reproduce.json").read_text()) == json.loads(json.dumps(data))
    assert json.loads((tmp_path / "predictions.json").read_text())["gradient-norm"]["numbers"] == {LORA: "-1/2", RSLORA: "0"}

    monkeypatch.setattr(cells, "train", lambda *_: pytest.fail("a finished cell was run again"))
    again = run(tmp_path)
    assert again.resumed == again.cells == report.cells
    assert again.sections[0].finding == section.finding


@pytest.mark.training
def test_a_cell_that_ignores_gamma_flips_the_verdict(tmp_path, monkeypatch):
    """What a library does that drops the rule: all ranks run at one gamma."""
    sound = cells.Configuration

    def careless(rank, rule, **more):
        return sound(rank, gamma=1.0, **more)

    monkeypatch.setattr(cells, "Configuration", careless)
    finding = run(tmp_path).sections[0].finding
    assert finding.answer == "holds only for"
    assert [part.answer for part in finding.parts] == ["no", "no", "yes"]


@pytest.mark.training
def test_a_cell_gives_the_same_numbers_again_and_others_for_another_seed():
    c = {
        "rule": RSLORA,
        "optimizer": "adamw",
        "init": "sqrt(r)",
        "targets": "q,v",
        "lr": 1e-3,
        "ranks": [4],
        "steps": 2,
        "tokens": 32,
        "held_out": 1,
        "alpha": 20.0,
        "spectra": True,
    }
    one, other = cells.train(c, 1), cells.train(c, 2)
    assert cells.train(c, 1) == one and one != other
    assert 1 <= one["runs"][0]["stable_rank"] <= one["runs"][0]["participation"] <= 4


@pytest.mark.training
def test_a_run_that_blows_up_says_so_and_counts_as_guessing():
    from rsverify.studies.reproduce.runs import held_out

    c = {
        "rule": "alpha",
        "optimizer": "sgd",
        "init": "1",
        "targets": "all",
        "lr": 1e4,
        "ranks": [4],
        "steps": 6,
        "tokens": 32,
        "held_out": 1,
        "alpha": 20.0,
        "spectra": True,
    }
    (found,) = cells.train(c, 1)["runs"]
    json.dumps(found, allow_nan=False)
    assert held_out(found) == plans.GUESS


@pytest.mark.training
def test_merging_is_exact_and_a_merge_at_another_scale_is_seen(monkeypatch):
    c = {"ranks": [4], "rule": RSLORA, "alpha": 20.0, "tokens": 32, "spread": 0.01, "repeats": 1, "passes": 1}
    (run,) = cells.merging(c, 1)["runs"]
    assert run["restored"] and run["difference"] < 1e-9 and run["moved"] > 1e-3

    def careless(attached):
        with torch.no_grad():
            for name, module in attached.adapters.items():
                weight = attached.model.get_submodule(name).weight
                attached._originals[name] = weight.detach().clone()
                weight += 1.01 * module.delta()
        attached.merged = True

    monkeypatch.setattr(cells, "merge", careless)
    assert cells.merging(c, 1)["runs"][0]["difference"] > 1e-4


def test_spectra():
    assert spectrum(torch.diag(torch.tensor([2.0, 2.0, 0.0]))) == (2.0, 2.0)
    stable, participation = spectrum(torch.diag(torch.tensor([2.0, 1.0])))
    assert stable == pytest.approx(5 / 4) and participation == pytest.approx(25 / 17)
    assert all(value != value for value in spectrum(torch.zeros(2, 3)))


def test_a_journal_of_another_plan_or_other_code_is_refused_with_the_difference(tmp_path, monkeypatch):
    from rsverify.studies.reproduce import study

    plan = quick(narrow=(4, 8), wide=(), steps=1, seeds=2, tokens=32, held_out=1)
    fake = {
        "runs": [
            {
                "rank": r,
                "loss": [2.0],
                "gradient_norm": [1.0],
                "output_rms": [0.0],
                "held_out": 2.0,
                "diverged": None,
                "stable_rank": 1.0,
                "participation": 1.0,
            }
            for r in (4, 8)
        ]
    }
    monkeypatch.setattr(cells, "train", lambda *_: fake)
    run(tmp_path, plan=plan)
    with pytest.raises(JournalError, match="setting steps: journal has 1, this run 2"):
        run(tmp_path, plan=plans.changed(plan, steps=2))
    house = tmp_path / "house"
    shutil.copytree(ROOT / "rsverify", house / "rsverify", ignore=shutil.ignore_patterns("__pycache__"))
    with (house / "rsverify" / "training" / "native" / "vec.h").open("a") as header:
        header.write("/* changed */\n")
    monkeypatch.setattr(study, "room_hashes", partial(room_hashes, root=house))
    with pytest.raises(JournalError, match=r"\(setting room rsverify/training: journal has \S+, this run \S+\)"):
        run(tmp_path, plan=plan)


def test_an_interrupted_run_keeps_what_is_finished(tmp_path, monkeypatch):
    plan = quick(narrow=(4, 8), wide=(), steps=1, seeds=2)
    fake = {
        "runs": [
            {
                "rank": r,
                "loss": [2.0],
                "gradient_norm": [1.0],
                "output_rms": [0.0],
                "held_out": 2.0,
                "diverged": None,
                "stable_rank": 1.0,
                "participation": 1.0,
            }
            for r in (4, 8)
        ]
    }
    done = []

    def interrupted(*_):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return fake

    monkeypatch.setattr(cells, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, plan=plan)
    monkeypatch.setattr(cells, "train", lambda *_: done.append(1) or fake)
    report = run(tmp_path, plan=plan)
    assert report.resumed == 3 and len(done) == report.cells


def test_bad_input(tmp_path, capsys):
    with pytest.raises(UnknownName, match="did you mean 'gradient-norm'"):
        run(tmp_path, figure="gradientnorm")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="at least 2 seeds"):
        quick(seeds=1)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "perplexty", "--out", str(tmp_path)])
    assert stop.value.code == 2 and "perplexity" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
