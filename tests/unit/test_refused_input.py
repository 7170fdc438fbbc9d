"""Input that means nothing is refused alike by every verb, with what came and what was expected; and silence names what simulates."""

import pytest

import rsverify as rv


def lora(law):
    return rv.Adapter("own", "o r, r i -> o i", B=rv.Zero(), A=law)


@pytest.mark.parametrize("spread", [1e300, 1e-300, -1, "1/0", "-1/r", "1/(r-r)", "sqrt(-r)", "log(0)", "0*r - 2"])
@pytest.mark.parametrize("law", [rv.Gaussian, rv.Uniform, rv.Orthonormal])
def test_a_spread_of_no_use_is_refused_where_it_is_declared(law, spread):
    with pytest.raises(rv.RsverifyError, match=r"factor A.*expected zero or a number from 1e-30 to 1e\+30"):
        lora(law(spread))


def test_a_value_may_be_negative_and_a_spread_may_hold_at_some_sizes():
    assert rv.derive(lora(rv.Constant(-2)), "1").exponent == 1
    some = lora(rv.Gaussian("1/(r-4)"))
    with pytest.raises(rv.RsverifyError, match="below zero"):
        rv.estimate(some, "1", ranks=(2, 8))
    with pytest.raises(rv.RsverifyError, match="divides by zero"):
        rv.estimate(some, "1", ranks=(4, 8))


BAD_RULES = {
    "alpha/0": "divides by zero", "-alpha/r": "negative", "alpha*sqrt(-r)": "complex|finite", "alpha*log(0)": "finite", "alpha*0": "zero",
    "0": "zero", "(0-1)**0.5*alpha": "complex", "alpha*(r-r)": "zero",
}  # fmt: skip


@pytest.mark.parametrize("rule", BAD_RULES)
def test_a_rule_that_scales_nothing_is_refused_by_every_verb(rule):
    asks = (
        lambda: rv.derive("lora", rule), lambda: rv.solve("lora", optimizer="sgd").lr_exponent(rule),
        lambda: rv.estimate("lora", rule, ranks=(4, 8)), lambda: rv.verify("lora", rule, quick=True),
        lambda: rv.transfer(rank=4, alpha=1, lr=1, to_rank=8, rule=rule),
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(rv.RsverifyError, match=BAD_RULES[rule]):
            ask()


@pytest.mark.parametrize("rule", ["alpha/(r-16)", "alpha*(r-1)", "alpha*(300-r)"])
def test_a_rule_that_fails_at_one_rank_has_no_power(rule):
    with pytest.raises(rv.RuleError, match="at every rank"):
        rv.derive("lora", rule)


@pytest.mark.parametrize("rule", ["alpha/r**400", "alpha*r**99", "alpha/(r + 3)", "alpha/r**0.1234567890123"])
def test_a_rule_beyond_floats_still_has_its_power(rule):
    assert rv.derive("lora", rule).exponent is not None


@pytest.mark.parametrize("rule", ["alpha*(1.0001**999)**999", "alpha*1e-320", "alpha/r**30", "alpha*(9**99)**9/r"])
def test_a_rule_that_leaves_floats_is_told_and_not_nothing(rule):
    with pytest.raises(rv.RuleError, match="range|computed"):
        rv.estimate("lora", rule, ranks=(16, 64))


@pytest.mark.parametrize("alpha", [1e-320, 0, -1, float("nan"), float("inf"), 1e300])
def test_alpha_is_a_number_that_can_be_computed_with(alpha):
    for ask in (rv.estimate, rv.verify):
        with pytest.raises(rv.RsverifyError, match="alpha"):
            ask("lora", "alpha/r", alpha=alpha, ranks=(4, 8))


def test_what_is_given_twice_is_refused():
    with pytest.raises(rv.RsverifyError, match=r"rule 'alpha/r' is given twice"):
        rv.verify("lora", ["alpha/r", "lora"], quick=True)
    with pytest.raises(rv.RsverifyError, match=r"optimizer 'sgd' is given twice"):
        rv.verify("lora", ["alpha/r"], optimizers=["sgd", rv.optimizers()["sgd"]], quick=True)


def test_one_rank_and_unknown_arguments_are_told():
    with pytest.raises(rv.RsverifyError, match="ranks=64 is one number; expected several"):
        rv.estimate("lora", "alpha/r", ranks=64)
    with pytest.raises(rv.RsverifyError, match=r"verify\(\) has no argument rule=; did you mean 'rules'"):
        rv.verify("lora", rule="alpha/r")
    with pytest.raises(rv.RsverifyError, match=r"no argument optimiser=; did you mean 'optimizer'"):
        rv.derive("lora", "alpha/r", optimiser="sgd")


def test_silence_names_the_call_that_simulates():
    with pytest.raises(rv.NotDerivable, match=r'simulate it: rsverify estimate loha --rule "alpha/r" --optimizer adafactor --steps 2'):
        rv.derive("loha", "alpha/r", optimizer="adafactor", steps=2)
    law = {"a": rv.Zero(), "b": rv.Gaussian(1), "c": rv.Gaussian(1), "d": rv.Gaussian(1)}
    own = rv.Adapter("own", "o r, r i, o s, s i -> o i", rank_axes=("r", "s"), **law)
    with pytest.raises(rv.NotDerivable, match=r"simulate it: rv.estimate\(adapter, '1', optimizer='adafactor', steps=2\)") as silent:
        rv.solve(own, optimizer="adafactor", steps=2)
    call = (
        silent.value.instead.replace("adapter, ", "own, ", 1).rstrip(")") + ", ranks=(4, 8), d_in=8, d_out=8, budget=rv.Budget(draws=80))"
    )
    assert eval(call, {"rv": rv, "own": own}).curve  # noqa: S307 - the refusal's own words run


def test_a_formula_too_long_to_write_leaves_the_power(monkeypatch):
    from rsverify import expressions
    from rsverify.symbolic.answers import witness

    monkeypatch.setattr(expressions, "_MAX_LENGTH", 40)
    prediction = rv.derive(lora(rv.Uniform("1/i")), "1")
    assert prediction.formula is None and prediction.exponent == 1 and witness.LONG in prediction.notes
