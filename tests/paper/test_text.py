"""No number of the paper is typed, and none is without evidence; the scans are seen to catch what they are for."""

from __future__ import annotations

import json
import re

import pytest

from paper.build import FOLDER, LAYOUT, TEXT
from paper.figures import PICTURES
from paper.naming import Names, all_names, load
from paper.scan import computed_names, typed_numbers, unknown_names, used_names, without_comments

SOURCE = TEXT.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> Names:
    return all_names()


def test_no_number_is_typed():
    assert [str(it) for it in typed_numbers(SOURCE)] == []
    for path in LAYOUT:
        assert [str(it) for it in typed_numbers(path.read_text(encoding="utf-8"), layout=True)] == []


def test_every_name_has_evidence(names):
    assert unknown_names(SOURCE + LAYOUT[1].read_text(encoding="utf-8"), names) == []
    assert computed_names(SOURCE) == []
    assert len(list(used_names(SOURCE))) > 150


@pytest.mark.parametrize(
    "planted",
    [
        "The loss falls by 0.37 nats.",
        "Of 61 defects",
        "rsLoRA wins by 5 percent",
        "in 95 % of repeats",
        "a rate of $0.05$",
        "grows as $r^0.48$",
        "within $10^(-6)$",
        "over ranks $4$ to $65536$",
        "at rank 2048",
        "All seven optimizers",
        "Twelve claims",
        "about a thousand draws",
        "twice as fast",
        'it is "99" here',
        "see #text[7]",
        "a margin of 8pt",
        "see `adam:lr=3` for it",
    ],
)
def test_a_planted_number_is_seen(planted):
    text = SOURCE + "\n" + planted + "\n"
    (found, *_) = typed_numbers(text)
    assert found.line == text.count("\n", 0, text.index(planted)) + 1


@pytest.mark.parametrize(
    "honest",
    [
        "as $r^(-1\\/2)$ and $gamma^2 r$, $A_0$, $1\\/sqrt(r)$",
        "arXiv:2312.03732 and Theorem 3.2, Definition 3.1, Figure 2",
        "in float64, not bfloat16",
        '#n("reproduce.rank-64") and @table-2 <fig-3>',
        "one rule, two witnesses, three answers",
        "// 77 in a comment",
        "their half-width",
    ],
)
def test_what_is_allowed_passes(honest):
    assert typed_numbers(honest) == []


def test_the_layout_has_lengths_and_no_results():
    assert typed_numbers("#set text(size: 10pt)", layout=True) == []
    assert typed_numbers("#let x = [61 defects]", layout=True)
    assert typed_numbers("#set text(size: 10pt)")


def test_a_planted_name_is_seen(names):
    assert unknown_names('#n("reproduce.wishful")', names) == ["n('reproduce.wishful')"]
    assert unknown_names('#choose("verify.wishful", yes: [])', names) == ["choose('verify.wishful')"]
    assert computed_names('#n("a" + key)') == [] and computed_names("#n(key)") == ["#n(key"]


def test_numbers_come_from_declared_evidence_alone():
    with pytest.raises(KeyError, match="hearsay"):
        load("hearsay")


def test_every_reference_is_used_and_says_what_was_opened():
    references = json.loads((FOLDER / "references.json").read_text(encoding="utf-8"))
    used = set(re.findall(r'#r\("([\w-]+)"\)', without_comments(SOURCE)))
    assert used == set(references)
    for key, it in references.items():
        assert it["url"].startswith("https://") and it["opened"], key


def test_every_picture_is_shown():
    assert set(re.findall(r'#picture\("([\w-]+)"', SOURCE)) == set(PICTURES)
