"""docs/mutants.md is fresh: it names every mutant and every check there is, and a sample of its entries holds when run again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rsverify.conformance import check_adapter
from rsverify.conformance.registry import checks
from rsverify.testing.matrix import Line, counted, read
from rsverify.testing.mutants import mutants

DOCUMENT = Path(__file__).parents[2] / "docs" / "mutants.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
LINES = read(TEXT)
CURE = "run python -m rsverify.testing.matrix"


def test_every_mutant_and_every_check_is_there() -> None:
    assert set(LINES) == set(mutants()), CURE
    rows = {row.split("`")[1] for row in TEXT.partition("\n## Checks\n")[2].splitlines() if row.startswith("| `check_")}
    assert rows == set(checks()), CURE
    for name, mutant in mutants().items():
        assert mutant.source in TEXT and mutant.cause.replace("|", "\\|") in TEXT, f"{name}: {CURE}"


def test_the_count_of_mutants_causes_and_cures_is_todays() -> None:
    assert counted() in TEXT, CURE


def test_every_mutant_is_caught_and_every_check_catches() -> None:
    assert [name for name, line in LINES.items() if not line.caught_by] == []
    assert set(checks()) - {check for line in LINES.values() for check in line.caught_by} == set()


def cheapest(line: Line) -> str:
    """A check that catches it; those that draw samples come last."""
    return min(line.caught_by, key=lambda name: checks()[name].family == "stability")


@pytest.mark.parametrize("name", LINES)
def test_a_mutant_is_caught_as_written(name: str) -> None:
    (result,) = check_adapter(mutants()[name].wrong, only=[cheapest(LINES[name])], on_fail="return")
    assert result.status == "failed" and result.reason, CURE


@pytest.mark.parametrize("name", sorted(name for name, check in checks().items() if check.family != "stability"))
def test_a_check_catches_as_written(name: str) -> None:
    first = next(line.name for line in LINES.values() if name in line.caught_by)
    (result,) = check_adapter(mutants()[first].wrong, only=[name], on_fail="return")
    assert result.status == "failed", CURE


@pytest.mark.training
@pytest.mark.parametrize("name", list(LINES)[::7])
def test_a_number_is_what_is_measured(name: str) -> None:
    """To the two digits that are written, with room for another machine's rounding of what is itself rounding."""
    found = mutants()[name].changed()
    assert (math.isinf(found) and math.isinf(LINES[name].changes)) or found == pytest.approx(LINES[name].changes, rel=0.1)


def test_the_reader_reads_what_the_writer_writes() -> None:
    from rsverify.testing.matrix import _row

    mutant = next(iter(mutants().values()))
    line = Line(mutant.name, 0.25, ("check_a", "check_b"))
    assert read(_row(mutant, line)) == {mutant.name: line}
    assert read(_row(mutant, Line(mutant.name, math.inf, ())))[mutant.name] == Line(mutant.name, math.inf, ())
