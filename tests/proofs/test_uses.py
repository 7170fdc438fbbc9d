"""What one lemma takes from another is an object: corrupted there, it turns red every lemma that uses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rsverify.proving import Step, Taken, library, prove
from rsverify.proving.checks import ProofError
from rsverify.proving.lemma import LemmaResult, lines

pytest.importorskip("z3", reason="z3 is not installed: pip install 'rsverify[proofs]'")
pytest.importorskip("flint", reason="python-flint is not installed: pip install 'rsverify[proofs]'")

KNOWN = library.lemmas()
EDGES = [(user, used) for user, lemma in KNOWN.items() for used in lemma.uses]


def refused_with(user: str, place: tuple[str, str], claim: Any) -> bool:
    """Whether, with another formula taken, a step of the user's own is refuted, or the lemma cannot be written down at all."""
    try:
        lemma = library.reloaded(user, {place: claim})
    except ProofError:
        return True
    return any(step.check.run().status == "refuted" for step in lemma.steps)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    """With which values formulas are taken while a lemma is loaded, by the lemma and the step that holds them."""
    asked: dict[tuple[str, str], list[tuple[object, ...]]] = {}
    original = Taken.__call__

    def recorded(self: Taken, step: str, *values: object, **more: object) -> object:
        asked.setdefault((self.lemma, step), []).append((*values, more))
        return original(self, step, *values, **more)

    monkeypatch.setattr(Taken, "__call__", recorded)
    return asked


@pytest.mark.parametrize(("user", "used"), EDGES, ids=[f"{user}<-{used}" for user, used in EDGES])
def test_a_corrupted_formula_is_refused_where_it_is_used(user: str, used: str, asked_for: dict[tuple[str, str], list[Any]]) -> None:
    """Each formula taken along each edge, with the twins of the step that holds it in its place: the user's own steps refuse.

    A twin that is the formula itself at the values it is taken at (a term with the decay, at decay 0) is none there.
    """
    library.reloaded(user, {})
    taken_from = {step: calls.copy() for (lemma, step), calls in asked_for.items() if lemma == used}
    assert taken_from, "a use is a formula taken"
    for step in (step for step in KNOWN[used].steps if step.name in taken_from):
        claims = [twin.check.claimed for twin in step.check.twins() if isinstance(twin.check, type(step.check))]
        at_values = [(claim, at(used, step, claim, taken_from[step.name])) for claim in claims]
        true = at(used, step, step.check.claimed, taken_from[step.name])
        visible = [claim for claim, formulas in at_values if formulas != true]
        passed = [claim for claim in visible if not refused_with(user, (used, step.name), claim)]
        assert visible and not passed, f"{user} takes {step.name!r} from {used} and holds with {[*map(str, passed)]} in its place"


def at(used: str, step: Step, claim: Any, calls: list[Any]) -> list[Any]:
    """A formula at each of the values that a lemma takes it at."""
    formula = Taken(KNOWN[used], {step.name: claim})
    made = []
    for call in calls:
        *values, more = call
        made.append(formula(step.name, *values, **more))
    return made


def test_a_lemma_holds_no_better_than_what_it_leans_on() -> None:
    merging = KNOWN["merging"]
    red = LemmaResult(merging, tuple(step.check.twins()[0].check.run() for step in merging.steps))
    user = replace(merging, name="user", uses=("merging",))
    other = replace(merging, name="other", uses=("user",))
    leaning = prove(user, {"merging": red})
    assert {finding.status for finding in leaning.findings} == {"proved"}
    assert (red.status, leaning.status, prove(other, {"user": leaning}).status) == ("refuted", "refuted", "refuted")
    assert "  leans on merging, which is refuted" in lines(leaning)
    assert prove(user, {"merging": prove(merging)}).status == "proved"


def test_a_formula_is_called_by_the_names_it_has() -> None:
    channel = library.taken("channel-moments")
    assert str(channel("mean_q", dot=1)) == "r*variance"
    with pytest.raises(ProofError, match="has no step named 'mean_p'; it has mean_one"):
        channel("mean_p")
    with pytest.raises(ProofError, match="speaks of dot, r, variance, and not of power"):
        channel("mean_q", power=1)
