"""One reader of expected failures for the command line, the pytest plugin and the lists of PEFT."""

import pytest

from rsverify.conformance.xfails import Expected, expected_for, read_xfails
from rsverify.errors import InputError


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "known.txt"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_targets_patterns_and_lines_for_all(written):
    lines = read_xfails(written(
        "# a remark\n\npeft:lora*::check_build_module: because\ncheck_base_frozen: for all: really\n"
        "my.module:Adapter :: check_load_order : see rv::Subject\ncheck_load_function: a::b is not parsed\n"
    ))  # fmt: skip
    assert expected_for("peft:lora?r=4", lines)["check_build_module"] == "because"
    assert "check_build_module" not in expected_for("peft:loha", lines)
    assert expected_for("lora", lines) == {"check_base_frozen": "for all: really", "check_load_function": "a::b is not parsed"}
    assert expected_for("my.module:Adapter", lines)["check_load_order"] == "see rv::Subject"


def test_the_first_line_that_fits_counts(written):
    lines = read_xfails(written("peft:lora?x=1::check_load_order: one\npeft:*::check_load_order: many\ncheck_load_order: all\n"))
    assert [expected_for(target, lines)["check_load_order"] for target in ("peft:lora?x=1", "peft:loha", "lora")] == ["one", "many", "all"]


def test_a_target_with_brackets_fits_itself():
    """fnmatch would take [4] for a set of one character."""
    assert Expected('peft:lora?rank_pattern={"[4]":4}', "check_load_order", "x").fits('peft:lora?rank_pattern={"[4]":4}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lora::check_bild_module: x", "no check is called 'check_bild_module'; did you mean 'check_build_module'"),
        ("lora::check_build_module", "a failure is expected for a reason"),
        ("lora::check_build_module:", "a failure is expected for a reason"),
        ("::check_build_module: x", "expected '\\[target::\\]check_name: reason'"),
        ("peft:lora check_build_module: x", "'::' ends the target"),
        ("a::check_build_module: x\na::check_build_module: y", "line 2.*twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(written, text, said):
    with pytest.raises(InputError, match=said):
        read_xfails(written(text))


def test_checks_of_another_room_are_named_by_who_reads(written):
    path = written("check_of_operations: known\n")
    assert read_xfails(path, ["check_of_operations"]) == [Expected(None, "check_of_operations", "known")]
    with pytest.raises(InputError, match="no check is called"):
        read_xfails(path)
