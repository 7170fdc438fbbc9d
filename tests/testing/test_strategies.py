"""Strategies draw what the definitions accept, all kinds of it, and shrink to what one would write by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from rsverify.definitions import Adapter, Zero, as_adapter, registry
from rsverify.errors import InputError
from rsverify.expressions import Expression
from rsverify.statistics.streams import stream
from rsverify.testing import strategies as s

FEW = settings(max_examples=40)


def everything(_: object) -> bool:
    return True


def smallest(strategy: st.SearchStrategy, that=everything):
    return find(strategy, that, settings=settings(max_examples=2000, database=None, derandomize=True))


def test_everything_shrinks_to_what_one_would_write() -> None:
    assert smallest(s.ranks()) == 1
    assert smallest(s.dimensions()) == (1, 1)
    assert smallest(s.dimensions(), lambda d: d[0] != d[1]) in {(1, 2), (2, 1)}
    assert smallest(s.rank_lists()) == (1, 2)
    assert smallest(s.alphas()) == 20.0
    assert smallest(s.powers()) == 1 and smallest(s.powers(), lambda p: p.denominator > 1) == Fraction(1, 2)
    assert smallest(s.rules()).text == smallest(s.rules(["power"])).text == smallest(s.rules(["callable"])).text == "alpha/r"
    assert smallest(s.rules(), lambda rule: rule.function is not None).text == "alpha/r"
    assert smallest(s.formulas()) == "r" and smallest(s.formulas(), lambda text: {"r", "alpha"} <= Expression(text).names) == "r*alpha"
    assert smallest(s.laws(("r", "i"))) == Zero() and smallest(s.laws(("r", "i"), zero=False)).text() == "kaiming_uniform(fan_in=i)"
    assert smallest(s.expressions()) == "o r, r i -> o i"
    assert smallest(s.expressions(), lambda text: "s" not in text and text.count(",") == 2) == "o r, r i, o -> o i"
    assert smallest(s.expressions(), lambda text: "(" in text) == "a b, p r, r q -> (a p) (b q)"


def test_whole_adapters_shrink_to_lora_with_the_one_thing_changed() -> None:
    lora = as_adapter("lora")
    found = smallest(s.adapters())
    assert (found.expression, found.init) == (lora.expression, lora.init)
    frozen = smallest(s.adapters(), lambda adapter: len(adapter.trainable) < len(adapter.laws))
    assert (frozen.expression, frozen.init) == (lora.expression, "B=zero, A=frozen(kaiming_uniform(fan_in=i))")
    dead = smallest(s.adapters(sound=False), lambda adapter: all(isinstance(law, Zero) for law in adapter.laws.values()))
    assert (dead.expression, dead.init) == (lora.expression, "B=zero, A=zero")
    layer = smallest(s.adapters().flatmap(s.layers))
    assert (layer.rank, layer.d_in, layer.d_out) == (1, 1, 1)
    assert smallest(s.declared_adapters()).name == "lora"


def test_a_false_property_fails_at_the_minimal_example() -> None:
    """What a user sees: the rule of the published kind, at rank 2, where halving the rank stops doubling gamma."""

    @settings(max_examples=200, database=None, derandomize=True)
    @given(s.rules(), s.ranks())
    def claim(rule, r) -> None:
        assert rule.gamma(2 * r, 20.0) >= rule.gamma(r, 20.0)

    with pytest.raises(AssertionError) as caught:
        claim()
    notes = "\n".join(getattr(caught.value, "__notes__", []))
    assert "alpha/r'" in notes and "r=1" in notes


@FEW
@given(s.rules(), s.ranks(1, 2**20), s.alphas())
def test_rules_have_a_usable_value_everywhere(rule, r, alpha) -> None:
    assert rule.gamma(r, alpha) > 0 and alpha != r


@FEW
@given(s.rules(["callable"]), s.ranks())
def test_a_callable_says_what_it_computes(rule, r) -> None:
    text = type(rule)(rule.text)
    assert math.isclose(rule.gamma(r, 20.0), text.gamma(r, 20.0), rel_tol=1e-14) and text.power >= 0


@FEW
@given(s.formulas(("r", "alpha", "d_in")))
def test_formulas_are_of_the_language_and_positive(text) -> None:
    with np.errstate(all="ignore"):
        value = (
            Expression(text)
            .require_names({"r", "alpha", "d_in"})
            .evaluate({"r": np.float64(4), "alpha": np.float64(20), "d_in": np.float64(48)})
        )
    assert value >= 0  # large powers of small numbers may underflow, nothing else is zero


@settings(max_examples=100)
@given(st.data())
def test_drawn_adapters_fit_layers_and_contract_to_their_weight(data) -> None:
    adapter = data.draw(s.adapters(sound=False))
    layer = data.draw(s.layers(adapter, max_rank=3, max_width=8))
    shapes = adapter.shapes(layer.rank, layer.d_in, layer.d_out)
    letters = {axis: chr(ord("a") + k) for k, axis in enumerate(adapter.axes)}
    left = ",".join("".join(letters[axis] for axis in axes) for axes in adapter.operands.values())
    right = "".join(letters[axis] for axes in adapter.result for axis in axes)
    delta = np.einsum(f"{left}->{right}", *(np.ones(shape) for shape in shapes.values()))
    assert delta.size == layer.d_in * layer.d_out


@settings(max_examples=100)
@given(st.data())
def test_sound_adapters_add_nothing_at_init_and_can_learn(data) -> None:
    adapter = data.draw(s.adapters())
    zero = [name for name, law in adapter.laws.items() if isinstance(law, Zero)]
    assert len(zero) == 1 and zero[0] in adapter.trainable
    layer = data.draw(s.layers(adapter, max_rank=3, max_width=8))
    sizes = {**adapter.axis_sizes(layer.rank, layer.d_in, layer.d_out), "d_in": layer.d_in, "d_out": layer.d_out}
    shapes = adapter.shapes(layer.rank, layer.d_in, layer.d_out)
    drawn = {name: law.draw(stream(0, "test", name), shapes[name], sizes) for name, law in adapter.laws.items()}
    assert all(values.any() for name, values in drawn.items() if name != zero[0])


@pytest.mark.parametrize(
    ("kind", "mark"),
    [("core", "r s, s i"), ("hadamard", "o s, s i"), ("kronecker", "(a p)"), ("vector", ", o -> o i"), ("three axes", "o r i")],
)
def test_every_kind_of_expression_comes(kind, mark) -> None:
    assert mark in smallest(s.expressions(), lambda text: mark in text), kind


def test_an_adapter_of_the_running_program_is_drawn_at_once() -> None:
    mine = Adapter("drawn-by-test", "o r, r i -> o i", B=Zero(), A=as_adapter("lora").laws["A"])
    registry.register(mine)
    try:
        assert smallest(s.declared_adapters(), lambda adapter: adapter.name == mine.name) == mine
    finally:
        registry._added.pop(mine.name)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: s.ranks(0), "min_rank=0"),
        (lambda: s.dimensions(1, 2.5), "max_size=2.5"),
        (lambda: s.rules([]), "expected some of text, power, callable"),
        (lambda: s.rules(["texts"]), "expected some of text, power, callable"),
        (lambda: s.formulas(()), "leaves nothing"),
    ],
)
def test_what_cannot_be_drawn_is_refused_when_asked(call, said) -> None:
    with pytest.raises(InputError, match=said):
        call()


def test_a_layer_that_nothing_fits_is_refused() -> None:
    tall = Adapter("tall", "a r, r i -> a i", sizes={"a": "8*d_out"}, B=Zero(), A=as_adapter("lora").laws["A"])
    with pytest.raises(InputError, match="fits no layer up to 16 x 16"):
        smallest(s.layers(tall))
