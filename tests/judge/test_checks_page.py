"""The page of `rsverify check`: what failed stands on it, readable without colours and without the network."""

import re

import pytest

from rsverify.cli import main
from rsverify.records import CheckResult
from rsverify.report.checks import MARKS, checks_page
from rsverify.report.provenance import provenance
from tests.judge.pages import assert_stands_alone

RESULTS = [
    CheckResult("check_a_one", "passed"),
    CheckResult("check_b_two", "failed", "off by <2> & more"),
    CheckResult("check_b_three", "inconclusive", "ten times the draws would tell"),
    CheckResult("check_c_four", "skipped", "it has no merge"),
]
ABOUT = {"check_a_one": ("a", "One."), "check_b_two": ("b", "Two."), "check_b_three": ("b", "Three."), "check_c_four": ("c", "Four.")}


@pytest.fixture(scope="module")
def page():
    return checks_page(
        RESULTS, about=ABOUT, target="mine:build", question="Q", verdict="does_not_hold", sentence="1 failed.", made=provenance(seed=7),
        command="rsverify check mine:build",
    )  # fmt: skip


def test_the_verdict_comes_first_then_what_failed(page):
    order = [
        page.index(text)
        for text in ("DOES NOT HOLD", "What failed", "What is left open", "Every check", "How it was made", "How to repeat")
    ]
    assert order == sorted(order)
    failed = page[order[1] : order[2]]
    assert "check_b_two" in failed and "off by &lt;2&gt; &amp; more" in failed and "check_a_one" not in failed


def test_every_check_has_a_cell_with_a_sign_of_its_own(page):
    assert len(set(MARKS.values())) == len(MARKS)
    assert re.findall(r'class="cell \w+" title="([^:]*)[^>]*>(.)<', page) == [(r.name, MARKS[r.status]) for r in RESULTS]


def test_it_stands_alone_and_is_closed(page):
    assert_stands_alone(page)


def test_the_command_writes_it(tmp_path, capsys):
    out = tmp_path / "lora.html"
    with pytest.raises(SystemExit) as ended:
        main(["check", "lora", "--only", "check_build_module", "--html", str(out)])
    assert ended.value.code == 0 and "HOLDS: 1 of 1 checks ran" in capsys.readouterr().out
    assert "build_module" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"), [([target, "--html", "/no/folder/x.html"], "does not exist") for target in ("lora", "peft:all")]
)
def test_what_cannot_be_written_is_refused_before_work(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["check", *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err
