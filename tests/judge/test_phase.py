"""The phase diagram: its regions are the exponent's signs, its line the solver's, its picture the same every time."""

from fractions import Fraction as Q

from rsverify.records import StableScaling, from_json, to_json
from rsverify.report.phase import PhaseDiagram, draw, phase, phase_diagram

SGD = StableScaling("lora", "sgd", "update", Q(1, 2), "unique", ((Q(2), Q(1), Q(1)),))
NOTHING = StableScaling("lora", "sgd", "output", None, "any", ())


def test_regions_by_hand():
    found = phase_diagram(SGD, cells=12)
    at = {(p, q): found.phases[j][i] for j, q in enumerate(found.q) for i, p in enumerate(found.p)}
    assert at[Q(1, 2), Q(0)] == "stable"
    assert at[Q(1), Q(0)] == "collapses" and at[Q(1), Q(1)] == "stable"
    assert at[Q(0), Q(0)] == "explodes" and at[Q(0), Q(-1)] == "stable"
    for p, q in zip(found.p, found.line, strict=True):
        assert q is not None and 1 - 2 * p + q == 0


def test_the_margin_is_part_of_stable():
    assert phase(Q(1, 10), 0.1) == "stable" and phase(Q(11, 100), 0.1) == "explodes" and phase(Q(-11, 100), 0.1) == "collapses"
    assert phase(None, 0.1) == "zero"


def test_to_json_and_back():
    found = phase_diagram(SGD, cells=4)
    assert from_json(PhaseDiagram, to_json(found)) == found


def test_the_picture_is_the_same_every_time_and_names_its_regions():
    first = draw(phase_diagram(SGD))
    assert first == draw(phase_diagram(SGD)) and first.startswith("<svg")
    other = StableScaling("lora", "adamw", "update", Q(1), "unique", ((Q(1), Q(1), Q(1)),))
    assert draw(phase_diagram(other)) != first
    assert len(first) < 200_000
    assert draw(phase_diagram(NOTHING)).startswith("<svg")
