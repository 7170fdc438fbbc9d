"""The atlas: its answers, a wrong shipped rule, a corrupted witness, bad input, resuming."""

from dataclasses import replace

import pytest

import rsverify as rv
from rsverify.errors import InputError, UnknownName
from rsverify.records import Agreement, to_json
from rsverify.report.atlas import markdown, page
from rsverify.studies.atlas import atlas, cells, study, variants
from rsverify.sweep.journal import JournalError


@pytest.fixture(scope="module")
def lora():
    return atlas(["lora"], quick=True)


def of(found, optimizer, regime="rank"):
    return next(a for a in found.answers if (a.optimizer, a.regime) == (optimizer, regime))


def agreements(found) -> set[Agreement]:
    return {e.row.agreement for e in found.entries if e.row.predicted and e.row.estimated}


def test_two_witnesses_say_when_the_root_rule_is_right(lora):
    assert of(lora, "sgd").sentence.startswith("1/sqrt(r) is right here; the shipped alpha/r collapses")
    assert of(lora, "adamw").sentence.startswith("1/sqrt(r) is wrong here (grows as r**0.5); the shipped alpha/r is stable")
    assert agreements(lora) == {"confirmed"} and lora.exit_code == 0
    assert of(lora, "sgd").stable_from == ("symbolic", "montecarlo")


def test_every_silence_has_its_reason(lora):
    for entry in lora.entries:
        for witness, record in (("symbolic", entry.row.predicted), ("montecarlo", entry.row.estimated)):
            assert record is not None or len(entry.row.silent[witness]) > 20


def test_a_wrong_shipped_rule_flips_the_verdict(monkeypatch):
    wrong = replace(variants()["lora"], rule="alpha/sqrt(r)")
    monkeypatch.setattr(study, "chosen", lambda names: (wrong,))
    found = atlas(["lora"], quick=True, optimizers=["adamw"])
    assert (of(found, "adamw").shipped_stability, of(found, "adamw").stable_rule) == ("explodes", "alpha/r")


def test_a_corrupted_witness_is_a_contradiction(monkeypatch):
    honest = cells.simulate_cell

    def corrupted(configuration, seed):
        return honest({**configuration, "rule": f"({configuration['rule']})*r**(1/4)"}, seed)

    monkeypatch.setattr(cells, "simulate_cell", corrupted)
    found = atlas(["lora"], quick=True, optimizers=["sgd"])
    assert found.exit_code == 1 and agreements(found) == {"refuted"}
    assert "rely on none" in of(found, "sgd").sentence


def test_rules_of_different_scale_are_flagged_unless_matched(lora):
    assert "4 times alpha/r" in lora.flags[0]
    matched = atlas(["hira"], quick=True, optimizers=["sgd"], match_at=9)
    assert not matched.flags
    assert {round(e.gamma_at_reference, 12) for e in matched.entries} == {1.0}


def test_loha_needs_another_rule_in_each_library():
    found = atlas(["loha-lycoris", "lokr-lycoris", "lokr"], quick=True, optimizers=["sgd"])
    rules = {a.variant: a.stable_rule for a in found.answers if a.regime == "rank"}
    assert rules == {"loha-lycoris": "alpha/r", "lokr-lycoris": "alpha", "lokr": "alpha"}


def test_pages_carry_the_answers(lora):
    data = to_json(lora)
    for text in (markdown(data), page(data, command="rsverify atlas lora")):
        assert "1/sqrt(r) is right here" in text and "after 1 step" in text and "not simulated" in text
    assert "<script" not in page(data, command="x") and "http" not in page(data, command="x")


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"names": ["lohaa"]}, UnknownName, "loha"),
        ({"optimizers": ["adamv"]}, UnknownName, "adamw"),
        ({"names": ["lora", "lora"]}, InputError, "twice"),
        ({"match_at": 0}, InputError, "match_at=0"),
        ({"margin": 0.3}, InputError, "margin=0.3"),
    ],
)
def test_bad_input_is_refused_before_work(given, error, says):
    with pytest.raises(error, match=says):
        atlas(**given)


def test_a_journal_resumes_and_refuses_another_configuration(tmp_path, monkeypatch):
    kept = tmp_path / "atlas.db"
    first = atlas(["vera"], quick=True, optimizers=["adamw"], journal=kept)

    def never(configuration, seed):
        raise AssertionError("a finished cell ran again")

    monkeypatch.setattr(cells, "simulate_cell", never)
    again = atlas(["vera"], quick=True, optimizers=["adamw"], journal=kept)
    assert again.entries == first.entries
    with pytest.raises(JournalError, match="seed"):
        atlas(["vera"], quick=True, optimizers=["adamw"], journal=kept, seed=1)


def test_the_command_line_refuses_what_cannot_be_written(tmp_path, capsys):
    from rsverify.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["atlas", "lora", "--html", str(tmp_path / "none" / "a.html")])
    assert stop.value.code == 2 and "html=" in capsys.readouterr().err


def test_every_registered_adapter_is_listed():
    assert rv.adapters().keys() <= variants().keys()
