"""On adapters that Hypothesis draws: theory answers or says why not, its bounds are in order, and solver and derivation agree."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rsverify as rv
from rsverify.testing import strategies

NONLINEAR = (
    "signsgd",
    "lion",
    "adamw",
    "rmsprop",
    "adagrad",
    "adafactor",
    "normalized-sgd",
    "muon",
    "muon-torch",
    "adamw:eps=1",
    "adamw:eps=1e5",
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    adapter=strategies.adapters(max_factors=3), optimizer=st.sampled_from(NONLINEAR),
    quantity=st.sampled_from(["update", "output", "loss_decrease", "input_gradient", "gradient_norm"]),
    probe=st.sampled_from(["aligned", "orthogonal", "cosine:0.5"]), regime=st.sampled_from(["rank", "width"]),
)  # fmt: skip
def test_an_answer_or_a_reason(adapter, optimizer, quantity, probe, regime):
    asked = {"optimizer": optimizer, "quantity": quantity, "probe": probe, "regime": regime}
    try:
        found = rv.derive(adapter, "1", **asked)
    except (rv.NotDerivable, rv.BudgetError) as error:
        with pytest.raises(type(error), match=r"\w{3,} .* \w{3,}"):  # a reason in words, from the solver too
            rv.solve(adapter, **asked)
        return
    solved = rv.solve(adapter, **asked)
    if found.zero:
        assert solved.status == "any" and not solved.terms
        return
    ends = found.exponent_range or (found.exponent, found.exponent)
    assert ends[0] is not None and ends[0] <= ends[1]
    if solved.status == "unique":
        assert solved.exponent(solved.rule_exponent) == 0
        at = rv.derive(adapter, f"alpha/r**({solved.rule_exponent})" if solved.rule_exponent != 0 else "alpha", **asked)
        assert at.exponent == 0
