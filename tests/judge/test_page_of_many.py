"""The page of `rsverify check peft:all`: what nobody listed stands first, then a line for each target, then every listed failure."""

import re

import pytest

from rsverify.records import CheckResult
from rsverify.report.checks_of_many import page_of_many
from rsverify.report.provenance import provenance
from tests.judge.pages import assert_stands_alone

SOUND = (
    "peft:lora",
    [CheckResult("check_a", "passed"), CheckResult("check_b", "xfailed", "issue <7> & more"), CheckResult("check_c", "skipped")],
)
WRONG = ("peft:dora", [CheckResult("check_a", "failed", "off by 2"), CheckResult("check_b", "xpassed", "issue 8")])


def page(*answers, verdict):
    return page_of_many(
        answers, unjudged=[("peft:ia3", "not applicable: it has no rank")], target="all", question="Q", verdict=verdict, sentence="S.",
        made=provenance(seed=7), command="rsverify check all", repeat=lambda target, name: f"again {target} {name}",
    )  # fmt: skip


def test_the_verdict_comes_first_and_what_nobody_listed_next():
    text = page(SOUND, WRONG, verdict="does_not_hold")
    titles = ("DOES NOT HOLD", "What failed", "Listed as failing, and did not", "Every target", "<h2>Failed as listed", "Not judged",
              "How it was made", "How to repeat it")  # fmt: skip
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "off by 2" in text[places[1] : places[2]] and "again peft:dora check_a" in text[places[1] : places[2]]
    listed = text[places[4] : places[5]]
    assert "issue &lt;7&gt; &amp; more" in listed and "again peft:lora check_b" in listed and "check_a" not in listed


def test_without_an_unlisted_failure_nothing_is_said_to_have_failed():
    text = page(SOUND, verdict="holds")
    assert "What failed" not in text and "did not</h2>" not in text and "DOES NOT HOLD" not in text


def test_each_target_has_the_number_of_each_answer():
    text = page(SOUND, WRONG, verdict="does_not_hold")
    rows = re.findall(r'<td class="target"[^>]*>([^<]*)</td>(.*)</tr>', text)
    found = {name: dict(re.findall(r'class="count (\w+)" data-label=".">(\d*)<', cells)) for name, cells in rows}
    assert found["peft:lora"] == {"passed": "1", "failed": "", "xfailed": "1", "xpassed": "", "skipped": "1"}
    assert found["peft:dora"] == {"passed": "", "failed": "1", "xfailed": "", "xpassed": "1", "skipped": ""}


@pytest.mark.parametrize("answers", [(SOUND,), (SOUND, WRONG)])
def test_it_stands_alone_and_is_closed(answers):
    assert_stands_alone(page(*answers, verdict="holds"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda text: text.replace("</body>", "", 1), "</html> closes what is not open"),
        (lambda text: text.replace("</html>", "", 1), r"never closed: \['html'\]"),
        (lambda text: text + "</p>", "</p> closes what is not open"),
        (lambda text: text.replace("</body>", '<img src="x.png"></body>'), "src="),
        (lambda text: text.replace("</body>", "<a>http://example.org</a></body>"), "http://"),
    ],
)
def test_a_page_that_leans_on_others_or_is_not_closed_is_seen(wrong, said):
    with pytest.raises(AssertionError, match=said):
        assert_stands_alone(wrong(page(SOUND, verdict="holds")))


def test_on_a_phone_a_sign_without_a_number_is_not_shown():
    """Below the table's width each number stands after its sign; a rule for all cells of numbers would show the signs of empty ones."""
    style = page(SOUND, verdict="holds").partition("@media (max-width")[2].partition("@media print")[0]
    assert "td:empty { display: none; }" in style
    assert re.findall(r"(td\.count[^{,]*) \{ display: (?!none)", style) == ["td.count:not(:empty)"]
