"""Several quantities at once: what one rule can do for all of them, and the command line that asks."""

import json
from fractions import Fraction as Q

import pytest

import rsverify as rv
from rsverify import cli
from rsverify.records import StableScaling
from rsverify.symbolic.answers.demands import together


def scaling(status, exponent=None, interval=None):
    return StableScaling("x", "sgd", "update", exponent, status, (), rule_interval=interval)


HALF, ONE = scaling("unique", Q(1, 2)), scaling("unique", Q(1))
ANY, NONE = scaling("any"), scaling("none")
FROM, BETWEEN = scaling("interval", interval=(Q(1, 2), None)), scaling("interval", interval=(Q(3, 4), Q(2)))


@pytest.mark.parametrize(
    ("asked", "common", "pairs"),
    [
        ((HALF, HALF), (Q(1, 2), Q(1, 2)), ()),
        ((HALF, ONE), None, ((0, 1),)),
        ((HALF, ANY), (Q(1, 2), Q(1, 2)), ()),
        ((ANY, ANY), (None, None), ()),
        ((FROM, BETWEEN, ONE), (Q(1), Q(1)), ()),
        ((FROM, BETWEEN, HALF), None, ((1, 2),)),
        ((NONE, ANY), None, ((0, 1),)),
    ],
)
def test_by_hand(asked, common, pairs):
    found = together(asked)
    assert (found.common, found.contradictions) == (common, pairs)


def test_sgd_agrees_with_its_gradient_norm_and_adam_does_not():
    def both(optimizer):
        return together([rv.solve("lora", optimizer=optimizer), rv.solve("lora", optimizer=optimizer, quantity="gradient_norm", steps=0)])

    assert both("sgd").common == (Q(1, 2), Q(1, 2))
    assert both("adamw").contradictions == ((0, 1),)


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def test_the_command_line(capsys, tmp_path):
    words = ["solve", "lora", "--optimizer", "adamw", "--quantity", "update", "--quantity", "loss_decrease"]
    code, out, _ = run(capsys, *words, "--out", str(tmp_path / "p.svg"), "--json", str(tmp_path / "s.json"))
    assert code == 0 and "p = 1 keeps all of them stable" in out
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    first, second = json.loads((tmp_path / "s.json").read_text())
    assert first["rule_exponent"] == second["rule_exponent"] == "1" and first["lr_exponents"]["alpha/sqrt(r)"] == "-1/2"
    code, out, _ = run(capsys, "solve", "lora", "--optimizer", "adamw", "--explain")
    assert code == 0 and "moves B alone" in out and "the stable rule is alpha/r" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lorra"], "did you mean 'lora'"),
        (["lora", "--optimizer", "sdg"], "did you mean 'sgd'"),
        (["lora", "--rule", "alpha/log(r + 1)"], "no power law"),
        (["lora", "--rule", "rslorra"], "did you mean 'rslora'"),
        (["lora", "--quantity", "updat"], "did you mean 'update'"),
        (["lora", "--quantity", "gradient:C"], "factor='C' is not known"),
        (["lora", "--probe", "sideways"], "expected aligned"),
        (["lora", "--steps", "0"], "nothing by definition"),
        (["lora", "--steps", "-1"], "steps"),
        (["lora", "--regime", "depth"], "regime"),
        (["dora"], "multilinear core 'lora'"),
        (["lora", "--out", "no/such/folder/x.svg"], "out='no/such/folder/x.svg' cannot be written"),
    ],
)
def test_bad_input_is_one_clear_message(capsys, words, said):
    code, _, message = run(capsys, "solve", *words)
    assert code == 2 and said in message and "Traceback" not in message


def test_derive_shows_a_range_and_a_power_without_a_magnitude(capsys):
    code, out, _ = run(capsys, "derive", "adalora", "--optimizer", "signsgd", "--regime", "width", "--rule", "alpha")
    assert code == 0 and "between r**(1/2) and r**(1)" in out and "None" not in out
    code, out, _ = run(capsys, "derive", "adalora", "--optimizer", "signsgd", "--rule", "alpha/r")
    assert code == 0 and "exponent  r**(0)" in out and "the power alone" in out
