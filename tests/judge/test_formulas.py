"""Formulas in prose: powers in one way, and a text that Markdown shows as it was written."""

import json
import re
from html import unescape
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from rsverify.report.atlas import markdown, page
from rsverify.report.formulas import coded, one_way, power

EVIDENCE = Path(__file__).parents[2] / "paper" / "evidence" / "atlas.json"
DOCS = Path(__file__).parents[2] / "docs" / "atlas.md"


def seen(text: str) -> str:
    """What a reader of the rendered Markdown reads."""
    return unescape(re.sub(r"<[^>]*>", "", MarkdownIt().render(text))).strip()


@pytest.mark.parametrize(
    ("exponent", "written"), [("1", "r"), ("2", "r**2"), ("-1", "r**-1"), ("1/2", "r**(1/2)"), ("-3/4", "r**(-3/4)"), ("0.49", "r**0.49")]
)
def test_a_power_is_written_in_one_way_whatever_it_came_as(exponent, written):
    assert power("r", exponent) == written == one_way(written) == one_way(f"r**({exponent})" if "." not in exponent else written)


def test_powers_of_other_numbers_are_left_alone():
    assert one_way("r**1.5, r**10, r**(1/4) and gamma**1.") == "r**1.5, r**10, r**(1/4) and gamma."


@pytest.mark.parametrize(
    "text",
    [
        "moves the output by lr * gamma**2 * r: under 1/sqrt(r) it falls as r**-1; else as r**(-1/2).",
        "no: use alpha*r**(1/4) for r far below; alpha*sqrt(r) beyond (near r**0.0082)",
        "a * alone, then another * and **two",
        "no star at all: alpha/sqrt(r)",
    ],
)
def test_markdown_shows_a_coded_text_as_it_was(text):
    assert seen(coded(text)) == text


def test_without_the_backticks_it_is_not_as_it_was():
    text = "by lr * gamma**2 * r: it falls as r**-1"
    assert seen(text) == "by lr * gamma2 * r: it falls as r-1"


def test_what_stands_in_backticks_stays():
    assert coded("`r**2` and r**2") == "`r**2` and `r**2`"


def test_the_atlas_reads_the_same_on_every_page():
    """docs/atlas.md is what the clerk makes of the evidence; no power is lost in bold type, and none is written with a caret."""
    data = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    text = markdown(data)
    assert DOCS.read_text(encoding="utf-8") == text
    shown = unescape(re.sub(r"<[^>]*>", "", MarkdownIt().enable("table").render(text)))
    shown_page = unescape(page(data, command="rsverify atlas"))
    for said in [*(a["sentence"] for a in data["answers"]), *(p["why"] for p in data["plain"])]:
        assert one_way(said) in shown and one_way(said) in shown_page
    assert "^" not in shown and "^" not in shown_page
    assert "r**-0.00" not in text and "r**0.00" in text  # what rounds to zero has no sign
