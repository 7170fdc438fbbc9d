"""The solver: the stable rule of each setting, the learning rate that other rules need, and how an answer is made of terms."""

from fractions import Fraction as Q

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsverify as rv
from rsverify.records import StableScaling, decay_exponent
from rsverify.symbolic.answers.solver import deciding, exponent, stable_powers

LORA = rv.adapters()["lora"]


@pytest.mark.parametrize(
    ("adapter", "asked", "p"),
    [
        (LORA, {"optimizer": "sgd"}, Q(1, 2)),
        (LORA, {"optimizer": "adamw"}, Q(1)),
        (LORA, {"optimizer": "sgd", "probe": "orthogonal"}, Q(1, 4)),
        (LORA, {"optimizer": "adamw", "probe": "orthogonal"}, Q(1, 2)),
        (LORA.with_init(A=rv.Gaussian(std="1/r")), {"optimizer": "sgd"}, Q(-1, 2)),
        (LORA, {"optimizer": "sgd", "quantity": "loss_decrease"}, Q(1, 2)),
    ],
)
def test_the_stable_rule(adapter, asked, p):
    found = rv.solve(adapter, **asked)
    assert (found.status, found.rule_exponent) == ("unique", p)
    assert found.lr_exponent(p) == 0
    assert found.exponent(p) == 0


@pytest.mark.parametrize("optimizer", rv.optimizers())
@pytest.mark.parametrize("statistic", ["rms", "frobenius"])
def test_the_gradient_norm_at_init_knows_no_optimizer(optimizer, statistic):
    found = rv.solve("lora", optimizer=optimizer, quantity="gradient_norm", statistic=statistic, steps=0)
    assert (found.status, found.rule_exponent) == ("unique", Q(1, 2))
    assert found.lr_exponent("alpha/r") is None


def test_the_learning_rate_that_another_rule_needs():
    adam, sgd = rv.solve("lora", optimizer="adamw"), rv.solve("lora", optimizer="sgd")
    for rule in ("alpha/sqrt(r)", "rslora", rv.ScalingRule("alpha/sqrt(r)"), Q(1, 2), 0.5):
        assert adam.lr_exponent(rule) == Q(-1, 2)
        assert sgd.lr_exponent(rule) == 0
    assert sgd.lr_exponent("alpha/r") == 1


def test_rules_that_have_no_power_are_refused():
    found = rv.solve("lora")
    for rule in ("alpha/log(r)", rv.ScalingRule(lambda r, alpha: alpha / r), None, True):
        with pytest.raises(rv.RuleError):
            found.lr_exponent(rule)
    with pytest.raises(rv.RsverifyError, match="rslora"):
        found.lr_exponent("rslorra")
    with pytest.raises(rv.RsverifyError, match="unknown quantity"):
        found.lr_exponent("alpha/k")


def test_what_vanishes_is_stable_under_any_rule():
    found = rv.solve("lora", quantity="output", steps=0)
    assert (found.status, found.rule_exponent, found.terms) == ("any", None, ())
    assert "vanishes" in found.explanation[-1]


def test_weight_decay_adds_no_power():
    assert rv.solve("lora", optimizer="adamw").terms == rv.solve("lora", optimizer="adamw:weight_decay=0").terms
    assert rv.solve("lora", optimizer="adamw:weight_decay=0.5").rule_exponent == 1


def test_the_explanation_ends_in_the_rule():
    said = rv.solve("lora", optimizer="adamw").explanation
    assert "moves B alone" in said[1]
    assert "alpha/r" in said[-1] and "p = 1" in said[-1]


def test_terms_by_hand():
    assert stable_powers([(Q(2), Q(1), Q(1))]) == (Q(1, 2), Q(1, 2))
    assert stable_powers([(Q(2), Q(1), Q(1)), (Q(0), Q(0), Q(0))]) == (Q(1, 2), None)
    assert stable_powers([(Q(0), Q(0), Q(0))]) == (None, None)
    assert stable_powers([(Q(0), Q(1), Q(0)), (Q(2), Q(1), Q(1))]) is None
    assert stable_powers([(Q(0), Q(-1), Q(0)), (Q(2), Q(1), Q(1))]) == (Q(1, 2), Q(1, 2))
    assert stable_powers([]) is None
    # The middle of two terms never decides, one above the middle may.
    ends = [(Q(1), Q(1), Q(1)), (Q(1), Q(1), Q(2))]
    assert deciding([*ends, (Q(1), Q(1), Q(3, 2))]) == tuple(ends)
    assert len(deciding([*ends, (Q(1), Q(5, 4), Q(3, 2))])) == 3


halves = st.integers(-4, 4).map(lambda n: Q(n, 2))
terms_strategy = st.lists(st.tuples(halves.map(abs), halves, halves.map(abs)), min_size=1, max_size=6)


@given(terms=terms_strategy, p=halves, q=halves)
def test_leaving_terms_out_changes_no_exponent(terms, p, q):
    assert exponent(deciding(terms), p, q) == exponent(terms, p, q)


@given(terms=terms_strategy, p=halves)
def test_stable_is_where_the_exponent_is_zero(terms, p):
    """Against the definition itself, evaluated; a mutant that takes the smallest term instead of the largest is caught."""
    zeros = stable_powers(terms)
    inside = zeros is not None and (zeros[0] is None or p >= zeros[0]) and (zeros[1] is None or p <= zeros[1])
    assert inside == (exponent(terms, p) == 0)


@given(terms=terms_strategy, p=halves)
def test_the_learning_rate_exponent_makes_it_stable(terms, p):
    found = StableScaling("x", "sgd", "update", None, "none", tuple(terms))
    q = found.lr_exponent(p)
    if q is not None:
        assert found.exponent(p, q) == 0
    else:
        assert all(c == 0 for _, _, c in terms) or max(b - a * p for a, b, c in terms if c == 0) > 0


def test_decay_exponent_of_each_kind_of_rule():
    assert decay_exponent("rslora") == decay_exponent("alpha/sqrt(r)") == decay_exponent(0.5) == decay_exponent(Q(1, 2)) == Q(1, 2)


def test_the_command_says_what_no_learning_rate_decides(capsys):
    """The gradient at init holds no learning rate: 1/sqrt(r) is stable whatever it is, 1/r with none."""
    from rsverify.cli.solve import solve as command

    assert command("lora", quantity=("gradient_norm",), steps=0) == 0
    shown = capsys.readouterr().out
    assert "alpha/r: no learning rate makes it stable" in shown
    assert "alpha/sqrt(r): stable, whatever the learning rate" in shown


def test_the_command_takes_an_init(capsys):
    from rsverify.cli.solve import solve as command

    assert command("lora", init=("A=gaussian(std=1/r)",)) == 0
    assert "p = -1/2" in capsys.readouterr().out
