"""The atlas: its answers, a wrong shipped rule, a corrupted witness, bad input, resuming."""

import json
import re
from dataclasses import replace
from fractions import Fraction
from html import unescape
from pathlib import Path

import pytest
from rich.console import Console

import rsverify as rv
from rsverify.errors import InputError, UnknownName
from rsverify.records import Agreement, to_json
from rsverify.report.atlas import markdown, matrix, page, show
from rsverify.studies.atlas import atlas, cells, plainly, study, variants
from rsverify.studies.atlas.answers import witnesses_of
from rsverify.studies.atlas.fingerprint import fingerprint
from rsverify.studies.atlas.rules import power_text, rule_with_power
from rsverify.studies.atlas.variants import built_in
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
    assert of(lora, "adamw").sentence.startswith("1/sqrt(r) is wrong here (grows as r**(1/2)); the shipped alpha/r is stable")
    assert agreements(lora) == {"confirmed"} and lora.exit_code == 0
    assert of(lora, "sgd").stable_from == ("symbolic", "montecarlo")


def test_every_silence_has_its_reason(lora):
    for entry in lora.entries:
        for witness, record in witnesses_of(entry.row).items():
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


def test_no_workers_are_refused(capsys):
    from rsverify.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["atlas", "lora", "--workers", "0"])
    assert stop.value.code == 2 and "whole number from 1" in capsys.readouterr().err


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
        assert "1/sqrt(r) is right here" in text and "after 1 step" in text and "--quick simulates" in text
        assert "no: use alpha/r" in text and "1/sqrt(r) keeps that free of r" in text
    assert "<script" not in page(data, command="x") and "http" not in page(data, command="x")


def test_the_matrix_has_a_cell_for_every_answer(lora):
    data = to_json(lora)
    columns, rows = matrix(data)
    cells = {(variant, *column): a for variant, answers in rows for column, a in zip(columns, answers, strict=True) if a is not None}
    assert cells == {(a["variant"], a["optimizer"], a["regime"]): a for a in data["answers"]}
    shown = page(data, command="x")
    a = cells["lora", "sgd", "rank"]
    assert (a["shipped_stability"], a["root_stability"]) == ("collapses", "stable")
    assert 'title="alpha/r: collapses">↓</b>' in shown and 'title="1/sqrt(r): stable">=</b>' in shown


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


def test_a_quick_atlas_answers_the_seven_in_words():
    """Each word is held to the judged rows that it stands for, by a reading that shares nothing with `plainly`."""
    found = atlas(plainly.ASKED, quick=True)
    assert [(p.variant, p.optimizer) for p in found.plain] == [(v, o) for v in plainly.ASKED for o in ("sgd", "adamw")]
    for p in found.plain:
        of_p = [e for e in found.entries if (e.variant, e.row.claim.optimizer) == (p.variant, p.optimizer) and "context" not in e.roles]
        rows = [e.row for e in of_p if "1/sqrt(r)" in e.roles]
        said = {row.stability for row in rows}
        right = {"yes": said == {"stable"}, "open": "inconclusive" in said, "no": not said & {"stable", "inconclusive"},
                 "depends": "stable" in said and len(said) > 1}  # fmt: skip
        assert right[p.word], (p, said)
        stable = {e.row.claim.rule for e in of_p if e.row.stability == "stable"}
        assert all(part.split(" for ")[0] in stable | {"none known"} for part in p.instead.split("; ")) or p.word == "open"
    words = {(p.variant, p.optimizer): (p.word, p.instead) for p in found.plain}
    assert words["lora", "sgd"] == ("yes", "alpha/sqrt(r)") and words["lora", "adamw"] == ("no", "alpha/r")
    assert words["hira", "sgd"] == ("yes", "1/sqrt(r)") and words["vera", "adamw"] == ("no", "1")


@pytest.mark.parametrize(
    ("p", "written"),
    [(Fraction(1, 2), "r**(1/2)"), (Fraction(-1), "r**-1"), (Fraction(1), "r"), (Fraction(-5, 2), "r**(-5/2)"), (0.5, "r**0.50"),
     (-1.437, "r**-1.44"), (0.997, "r"), (-0.001, "r**0.00"), (-0.0, "r**0.00")],
)  # fmt: skip
def test_a_derived_power_is_a_fraction_and_a_simulated_one_has_two_decimals(p, written):
    assert power_text("r", p) == written


@pytest.mark.parametrize(
    ("p", "rule"), [("2", "alpha/r**2"), ("3/2", "alpha/r**(3/2)"), ("1/2", "alpha/sqrt(r)"), ("0", "alpha"), ("-1/2", "alpha*sqrt(r)"),
                    ("-1", "alpha*r"), ("-2", "alpha*r**2")],
)  # fmt: skip
def test_a_rule_has_its_powers_in_the_same_form(p, rule):
    assert rule_with_power("alpha/r", Fraction(p)).text == rule and rv.ScalingRule(rule).power == Fraction(p)
    matched = rule_with_power("alpha/r", Fraction(p), match_at=9)
    assert "**(-1)" not in matched.text and rv.ScalingRule(matched.text).gamma(9, 20.0) == pytest.approx(20 / 9, rel=1e-12)


def test_whatever_is_printed_has_its_powers_in_one_form(capsys):
    """Theory's powers are fractions and no decimals stand in a text whose numbers are all derived; decimals have two places."""
    found = atlas(["lora", "loha", "lokr-lycoris", "fourierft"], quick=True)
    show(to_json(found), Console(width=1000))
    data = to_json(found)
    printed = {"terminal": capsys.readouterr().out, "page": unescape(page(data, command="x")), "markdown": markdown(data)}
    assert any("**" in flag for flag in found.flags), "the page would show no power of a flag"
    for where, text in printed.items():
        powers = re.findall(r"\*\*(\(.*?\)|[-\d./]*\d)", text)
        assert powers and not [p for p in powers if not re.fullmatch(r"-?\d+|\(-?\d+/\d+\)|-?\d+\.\d\d", p)], where
    for answer in found.answers:
        rows = [e.row for e in found.entries if (e.variant, e.row.claim.optimizer) == (answer.variant, answer.optimizer)
                and e.row.claim.regime == answer.regime and "context" not in e.roles]  # fmt: skip
        if all(row.predicted is not None and row.predicted.exponent is not None for row in rows):
            assert "." not in "".join(re.findall(r"\*\*([-\d.]*\d)", answer.sentence)), answer.sentence
    for plain in found.plain:
        if "simulated" not in plain.why:
            assert "." not in "".join(re.findall(r"\*\*([-\d.]*\d)", plain.why)), plain.why
    assert any("**(" in a.sentence for a in found.answers) and any("**(" in p.why for p in found.plain)


def test_a_wrong_row_changes_the_word(monkeypatch):
    wrong = replace(variants()["vera"], rule="1/sqrt(r)")
    monkeypatch.setattr(study, "chosen", lambda names: (wrong,))
    (plain,) = atlas(["vera"], quick=True, optimizers=["sgd"]).plain
    assert (plain.word, plain.instead) == ("no", "1")


def test_pefts_own_layer_is_a_witness_and_one_under_another_rule_is_seen():
    """PEFT's LoRA as a black box under AdamW: free of r where alpha/r is applied, and not where another scale is."""
    pytest.importorskip("peft")
    asked = {"optimizer": "adamw", "regime": "rank", "quantity": "update", "statistic": "rms", "probe": "aligned", "steps": 1}
    common = {
        "variant": "lora", "rule": "alpha/r", "asked": asked, "alpha": 20.0, "margin": 0.1, "error_budget": 1e-6, "statements": 100,
        "box": {"fresh": False}, "sizes": {"ranks": [256, 1024, 4096], "d_in": 16, "d_out": 12, "alpha": None, "far": None},
    }  # fmt: skip
    seen = {target: cells.library_cell({**common, "target": target}, 0)["estimate"]
            for target in ("peft:lora", "peft:lora?use_rslora=true")}  # fmt: skip
    lo, hi = seen["peft:lora"]["interval"]
    assert -0.1 < lo < 0 < hi < 0.1
    assert seen["peft:lora?use_rslora=true"]["interval"][0] > 0.4


def test_a_layer_that_peft_lacks_is_silent_with_its_reason():
    from rsverify.studies.atlas.libraries import BLACK_BOXES, black_box

    sizes = BLACK_BOXES["loha"].sizes
    assert black_box("moe-lora", sizes, "alpha/r", shipped="alpha/r", root="alpha/sqrt(r)")[1] == "PEFT 0.21.2 has no such layer"
    assert "cannot be asked" in black_box("loha", sizes, "alpha", shipped="alpha/r", root="alpha/sqrt(r)")[1]
    assert black_box("loha", sizes, "alpha/r", shipped="alpha/r", root="alpha/sqrt(r)") == ("peft:loha", "")
    assert "width" in black_box("pissa", sizes, "alpha/r", shipped="alpha/r", root="alpha/sqrt(r)")[1]
    assert BLACK_BOXES.keys() <= variants().keys()
    for name, box in BLACK_BOXES.items():
        assert box.sizes.regime in {sizes.regime for sizes in variants()[name].regimes}, name


DOCS = Path(__file__).parents[2] / "docs" / "atlas.md"
EVIDENCE = Path(__file__).parents[2] / "paper" / "evidence" / "atlas.json"


def test_the_page_and_the_evidence_are_of_the_present_declarations():
    """Whoever changes a declaration, a size or a setting of the atlas runs it again: `rsverify atlas --markdown ... --evidence ...`."""
    now, evidence = fingerprint(), json.loads(EVIDENCE.read_text(encoding="utf-8"))
    assert f"<!-- made of: {now} -->" in DOCS.read_text(encoding="utf-8")
    assert evidence["provenance"]["hashes"]["atlas"] == now
    assert evidence["sentence"] in DOCS.read_text(encoding="utf-8")
    assert {a["variant"] for a in evidence["answers"]} == built_in().keys()


def test_the_evidence_says_what_theory_says_now():
    evidence = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    now = {(a.variant, a.optimizer, a.regime): to_json(a.terms) for a in atlas(["vera", "miss"], quick=True).answers}
    held = {(a["variant"], a["optimizer"], a["regime"]): a["terms"] for a in evidence["answers"]}
    assert {key: held[key] for key in now} == now


def test_a_changed_declaration_has_another_fingerprint(monkeypatch):
    from rsverify.studies.atlas import fingerprint as module

    before = fingerprint()
    changed = {**built_in(), "lora": replace(built_in()["lora"], rule="alpha/sqrt(r)")}
    monkeypatch.setattr(module, "built_in", lambda: changed)
    assert fingerprint() != before


def test_the_words_of_the_evidence_are_those_of_its_numbers():
    """The committed table: 1/sqrt(r) is called right exactly where every judged number under it is stable."""
    evidence = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    assert [(p["variant"], p["optimizer"]) for p in evidence["plain"]] == [(v, o) for v in plainly.ASKED for o in ("sgd", "adamw")]
    for p in evidence["plain"]:
        of_p = [e for e in evidence["entries"] if (e["variant"], e["row"]["claim"]["optimizer"]) == (p["variant"], p["optimizer"])]
        said = {e["row"]["stability"] for e in of_p if "1/sqrt(r)" in e["roles"]}
        assert (p["word"] == "yes") == (said == {"stable"}) and (p["word"] == "open") == ("inconclusive" in said), (p, said)
    for row in (entry["row"] for entry in evidence["entries"]):
        assert row["agreement"] != "refuted"
        for witness, record in (("symbolic", "predicted"), ("montecarlo", "estimated"), ("library", "measured")):
            assert row[record] is not None or row["silent"][witness], row["claim"]
