"""A run against an earlier one: what came again, what was lost, what was contradicted; and records that cannot be compared."""

import json
from functools import partial

import pytest
import worlds

from rsverify.cli import main
from rsverify.errors import InputError
from rsverify.studies.reproduce import all_figures, quick
from rsverify.studies.reproduce import plan as plans
from rsverify.studies.reproduce.comparing import compare, read_record
from rsverify.studies.reproduce.figure import Foretold
from rsverify.studies.reproduce.plan import RSLORA
from rsverify.studies.reproduce.study import Report, Section
from rsverify.studies.reproduce.writing import as_json, write

PLAN = quick(wide=(), steps=1, narrow=(4, 16, 64))


def report(loss, *, seed=0, noise=0.0005, names=("perplexity", "other-powers")):
    plan, sections = plans.changed(PLAN, seed=seed), []
    for name in names:
        figure = all_figures()[name]
        finding, _ = worlds.judged(figure, plan, partial(worlds.train, loss=loss, noise=noise))
        sections.append(Section(figure, Foretold((), {}), finding, "<svg></svg>", 1))
    return Report(plan, tuple(sections), 1, 0, 1.0)


def gains(by):
    return lambda rule, rank, lr, c: 2.0 - (by * (rank > 16) if rule == RSLORA else 0.0)


def record(*args, **kwargs):
    return as_json(report(*args, **kwargs), kind="quick")


def test_the_same_world_gives_the_same_answers():
    found = compare(record(gains(0.2)), record(gains(0.2), seed=1))
    assert found.seeds == (0, 1) and len(found.questions) == 9 and not found.changed
    assert (
        "settled 9; all repeats of this run say the same to 9" in found.sentence()
        and "So 2 of its 2 verdicts come again." in found.sentence()
    )


def test_the_opposite_world_contradicts():
    found = compare(record(gains(0.2)), record(gains(-0.2), seed=1))
    # The other rules were worse than rsLoRA and are better now; rsLoRA gained and loses.
    assert [q.outcome for q in found.changed] == ["contradicted"] * 5
    assert all(not q.returned for q in found.changed)
    assert "5 are contradicted" in found.sentence() and "perplexity: holds, now holds only for" in found.sentence()
    assert found.repeated["perplexity"] == "holds only for"


def test_a_settled_answer_that_is_open_now_is_told_apart_from_one_that_leans_elsewhere():
    weaker = compare(record(gains(0.2)), record(gains(0.019), seed=1, noise=0.0006))
    assert {q.outcome for q in weaker.changed} == {"settled in one"} and all(q.returned for q in weaker.changed)
    assert all(q.earlier == "yes" and q.now == "open" and q.again[1] < 0.95 for q in weaker.changed)
    # As a repeat of the earlier run it says the same: all of its repeats do. By itself it would leave it open.
    assert set(weaker.repeated.values()) == {"holds"} and {now for _, now in weaker.findings.values()} == {"inconclusive"}
    assert "So 2 of its 2 verdicts come again. By itself this run would give 0 of them" in weaker.sentence()
    lost = compare(record(gains(0.2)), record(gains(0.019), seed=1, noise=0.1))
    assert any(not q.returned for q in lost.changed) and "inconclusive" in lost.repeated.values()
    assert "So 2 of its 2" not in lost.sentence()


def test_the_page_and_the_record_say_it(tmp_path):
    earlier = record(gains(0.2))
    data = write(report(gains(-0.2), seed=1), tmp_path, kind="quick", command="rsverify reproduce", earlier=earlier)
    assert json.loads((tmp_path / "reproduce.json").read_text())["against"]["findings"]["perplexity"] == ["holds", "holds only for"]
    page = (tmp_path / "reproduce.html").read_text()
    assert "On fresh seeds" in page and data["against"]["sentence"].split(";")[0] in page
    write(report(gains(-0.2), seed=1), tmp_path, kind="quick", command="rsverify reproduce")
    assert "On fresh seeds" not in (tmp_path / "reproduce.html").read_text()


def test_what_cannot_be_compared_is_refused_before_the_work(tmp_path, capsys):
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(record(gains(0.2))))
    assert read_record(path, plans.changed(PLAN, seed=1))["kind"] == "quick"
    with pytest.raises(InputError, match="the same seeds"):
        read_record(path, PLAN)
    with pytest.raises(InputError, match="was run with steps=1, this run with steps=2"):
        read_record(path, plans.changed(PLAN, seed=1, steps=2))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="no record of"):
        read_record(tmp_path / "other.json", PLAN)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "--quick", "--seed", "1", "--against", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2 and "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
