"""What is known of one release of PEFT is asserted of no other: an unlisted one is said to be unlisted, and gets no verdict by guess."""

from __future__ import annotations

import json

import pytest
from torch import nn

from rsverify import cli
from rsverify.errors import InputError
from rsverify.interop.peft import everything, known, subject
from rsverify.records import CheckResult

pytest.importorskip("peft")
OTHER = "PEFT 0.19.1: not listed for this version (known failures are listed for 0.21.2)"


@pytest.fixture
def another_release(monkeypatch):
    monkeypatch.setattr(known, "version", lambda name: "0.19.1")


def test_the_release_that_is_listed_has_nothing_to_say(monkeypatch):
    monkeypatch.setattr(known, "version", lambda name: "0.21.2")
    assert known.not_listed() == ""
    failed = CheckResult("check_a", "failed", "raised AttributeError: no such name", None, 0.0)
    assert known.without_guesses([failed]) == (failed,)


def test_another_release_is_not_listed(another_release):
    assert known.shipped() is None
    assert known.not_listed() == OTHER


def test_a_name_that_a_release_lacks_is_a_skip_and_a_wrong_number_a_failure(another_release):
    def result(reason: str) -> CheckResult:
        return CheckResult("check_a", "failed", reason, "Traceback", 0.0)

    lacking = [result("raised AttributeError: module has no x"), result("raised TypeError: f() got an unexpected keyword argument 'x'")]
    for judged in known.without_guesses(lacking):
        assert judged.status == "skipped"
        assert judged.reason.startswith(OTHER)
    wrong, broken = result("a scale set while merged leaves 6 times"), result("raised ValueError: math domain error")
    assert known.without_guesses([wrong, broken]) == (wrong, broken)
    assert [r.status for r in known.without_guesses([wrong, broken], refusals=True)] == ["failed", "skipped"]


def test_a_layer_without_conversion_skips_it(another_release, monkeypatch):
    """PEFT 0.15 to 0.18 have no `supports_lora_conversion`: an AttributeError once."""

    layer = nn.Linear(2, 2)  # no method of that name
    monkeypatch.setattr(subject, "_sample", lambda found, alpha: layer)
    assert subject.subject_from_peft("peft:loha").convert is None


def test_another_name_that_is_missing_is_refused_with_the_release(another_release, monkeypatch):
    monkeypatch.setattr(subject, "_sample", lambda found, alpha: nn.Linear(2, 2).no_such_name)
    with pytest.raises(InputError, match=r"PEFT 0.19.1: not listed for this version .*no_such_name"):
        subject.subject_from_peft("peft:loha")


def test_a_case_of_a_method_that_the_release_lacks_is_not_judged(another_release, monkeypatch):
    without = {name: made for name, made in everything.config_classes().items() if name != "hira"}
    monkeypatch.setattr(everything, "config_classes", lambda: without)
    rows = everything.check_everything(targets=["peft:hira@conv2d-circular"])
    assert [(row.results, row.reason) for row in rows] == [((), "not judged: PEFT 0.19.1 has no hira")]


def test_a_list_of_another_release_is_refused(another_release, capsys):
    path = known.FOLDER / "peft-0.21.2.txt"
    with pytest.raises(SystemExit) as stop:
        cli.main(["check", "peft:lora", "--xfails", str(path)])
    assert stop.value.code == 2
    assert "lists the known failures of another release, and PEFT 0.19.1 is installed" in capsys.readouterr().err


def test_check_says_so_and_expects_nothing(another_release, capsys, tmp_path):
    words = ["check", "peft:lora?use_rslora=true", "--only", "check_combine_one", "--json", str(tmp_path / "a.json")]
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    out = " ".join(capsys.readouterr().out.split())
    assert f"{OTHER}: what fails is shown as it is" in out
    assert stop.value.code == 1  # listed as a known failure of 0.21.2, and not of this one
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["known_failures"] == OTHER
    assert [c["status"] for c in data["checks"]] == ["failed"]
