"""Before the first result something is shown: a line on stderr for each stage where it is no terminal, and the log of the package."""

from __future__ import annotations

import logging
import sys

import pytest

from rsverify import cli
from rsverify.cli.stages import shown
from rsverify.stages import SECONDS, Stages


class Begun(BaseException):
    """The first piece of work was asked for."""


def begin(*_, **__):
    raise Begun


def lines_before_work(capsys, *words):
    """What stands on stderr when the verb asks for its first piece of work."""
    with pytest.raises(Begun):
        cli.main(list(words))
    out = capsys.readouterr()
    assert out.out == "" or words[0] == "train"
    return out.err.splitlines()


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_verify(capsys, monkeypatch):
    import rsverify.symbolic

    monkeypatch.setattr(rsverify.symbolic, "derive", begin)
    assert lines_before_work(capsys, "verify", "--quick") == ["verify: derive, 0 of 16 done"]


def test_atlas(capsys, monkeypatch):
    from rsverify.studies.atlas import study

    monkeypatch.setattr(study, "run_sweep", begin)
    (line,) = lines_before_work(capsys, "atlas", "lora", "--quick")
    assert line.startswith("atlas: derive and simulate, 0 of ")


def test_reproduce(capsys, monkeypatch):
    from rsverify.studies.reproduce import study

    monkeypatch.setattr(study, "_run", begin)
    assert lines_before_work(capsys, "reproduce", "limit", "--quick") == ["reproduce: predict"]


@pytest.mark.training
def test_train(capsys, monkeypatch):
    import rsverify.training

    monkeypatch.setattr(rsverify.training, "train_stacked", begin)
    first, second = lines_before_work(capsys, "train", "lora", "--ranks", "4", "--steps", "2", "--seeds", "1")
    assert first == "train: load the base"
    assert second == "train: steps of all configurations, 0 of 4 done"


def test_check_of_every_method(capsys, monkeypatch):
    pytest.importorskip("peft")
    from rsverify.interop.peft import everything

    monkeypatch.setattr(everything, "subject_from_peft", begin)
    first, second = lines_before_work(capsys, "check", "peft:all")
    assert first == "check peft:all: load the methods of PEFT"
    assert second.startswith("check peft:all: peft:") and " 0 of " in second


def test_check_of_one(capsys, monkeypatch):
    from rsverify.conformance import runner

    monkeypatch.setattr(runner, "check_adapter", begin)
    (line,) = lines_before_work(capsys, "check", "lora")
    assert line.startswith("check: lora, 0 of ")


def test_prove(capsys, monkeypatch):
    from rsverify.proving import library

    monkeypatch.setattr(library, "prove", begin)
    (line,) = lines_before_work(capsys, "prove")
    assert line.startswith("prove: run the lemmas, 0 of ")


def test_verify_tells_through_logging(caplog):
    import rsverify as rv

    with caplog.at_level(logging.INFO, logger="rsverify"):
        rv.verify("lora", "alpha/sqrt(r)", optimizers="sgd", ranks="4,8", quick=True)
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["derive", "simulate"]
    assert {record.name for record in caplog.records} == {"rsverify.studies.verify"}


def test_a_long_stage_shows_now_and_then_that_it_lives(caplog):
    now, calls = [0.0], []
    stages = Stages("rsverify.test", lambda *call: calls.append(call), clock=lambda: now[0])
    with caplog.at_level(logging.INFO, logger="rsverify"):
        for done in range(4):
            stages("simulate", done, 4)
            now[0] += SECONDS / 2
        stages("load", 0, 1)
    assert caplog.messages == ["simulate, 0 of 4 done", "simulate, 2 of 4 done", "load"]
    assert len(calls) == 5


def test_a_terminal_shows_a_bar_and_the_log_is_as_before(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    logger = logging.getLogger("rsverify")
    before = logger.level, list(logger.handlers)
    with shown("verify") as progress:
        progress("simulate", 1, 2)
        assert (logger.level, logger.handlers) == before
    assert "simulate" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with shown("verify"):
        assert logger.level == logging.INFO
    assert (logger.level, logger.handlers) == before
