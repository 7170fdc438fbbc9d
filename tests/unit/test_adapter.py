"""Adapters: declarations that do not add up are refused with the place marked; sizes, shapes and parameters follow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsverify.definitions import Adapter, Constant, Gaussian, KaimingUniform, Orthonormal, Zero, as_adapter, frozen, registry
from rsverify.errors import AdapterError, UnknownName

A, B, C = Gaussian(), Zero(), Gaussian(std=2)


@pytest.mark.parametrize(
    ("expression", "factors", "problem", "marked"),
    [
        ("o r, r i", {"B": B, "A": A}, "exactly one '->'", "o r, r i"),
        ("o r -> r i -> o i", {"B": B, "A": A}, "exactly one '->'", "o r -> r i -> o i"),
        ("o r, r i -> o q", {"B": B, "A": A}, "'q' of the result is bound by no factor", "q"),
        ("o r, r pi -> i o", {"B": B, "A": A}, "'i' of the result is bound by no factor", "i"),
        ("o r, r i -> pi i", {"B": B, "A": A}, "'pi' of the result is bound by no factor", "pi"),
        ("o r, r i -> o i", {"A": A}, "2 operands but 1 factors (A)", "o r, r i"),
        ("o i -> o i", {"B": B, "A": A}, "1 operands but 2 factors (B, A)", "o i"),
        ("o r, r i -> o i", {}, "2 operands but 0 factors (none)", "o r, r i"),
        ("o r, r i -> o", {"B": B, "A": A}, "two axes or groups", "o"),
        ("o r, r i -> o r i", {"B": B, "A": A}, "two axes or groups", "o r i"),
        ("o r, r i -> o o", {"B": B, "A": A}, "an axis twice in the result", "o o"),
        ("o r, r i -> () i", {"B": B, "A": A}, "do not pair up around axes", "() i"),
        ("o r, r i -> o) i", {"B": B, "A": A}, "do not pair up around axes", "o) i"),
        ("o r, r i -> ((o r)) i", {"B": B, "A": A}, "do not pair up around axes", "((o r)) i"),
        ("o r, 2r i -> o i", {"B": B, "A": A}, "'2r' is not an axis name", "2r"),
        ("o r, r-s i -> o i", {"B": B, "A": A}, "'r-s' is not an axis name", "r-s"),
        ("o r r, r i -> o i", {"B": B, "A": A}, "names an axis twice", "o r r"),
        ("o r, , r i -> o i", {"B": B, "C": C, "A": A}, "an operand without axes", " "),
        ("o s, s i -> o i", {"B": B, "A": A}, "rank axis 'r' stands in no operand", "o s, s i"),
        ("o r t, r i -> o i", {"B": Orthonormal(), "A": A}, "factor B (orthonormal(gain=1)) needs two axes", "o r t, r i"),
    ],
)
def test_every_declaration_that_does_not_add_up_is_refused_with_its_place(expression, factors, problem, marked) -> None:
    with pytest.raises(AdapterError) as caught:
        Adapter("mine", expression, **factors)
    message, shown, mark = str(caught.value).splitlines()
    assert problem in message and "'mine'" in message and shown == f"  {expression}"
    assert shown[mark.index("^") : mark.rindex("^") + 1] == marked


@pytest.mark.parametrize(
    ("factors", "problem"),
    [
        ({"B": B, "A": 1.0}, "factor A=1.0 is not a law"),
        ({"B": frozen(B), "A": frozen(A)}, "every factor is frozen"),
        ({"B": B, "A": Gaussian(std="1/sqrt(width)")}, "spread of factor A: unknown quantity 'width'"),
        ({"B": B, "A": KaimingUniform(fan_in="q")}, "spread of factor A: unknown quantity 'q'"),
        ({"B": B, "A": Gaussian(std=float("nan"))}, "unknown quantity 'nan'"),
    ],
)
def test_laws_that_do_not_fit_are_refused(factors, problem) -> None:
    with pytest.raises(AdapterError, match=problem):
        Adapter("mine", "o r, r i -> o i", **factors)


def test_a_law_that_does_not_parse_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="does not parse"):
        Adapter("mine", "o r, r i -> o i", B=B, A=Gaussian(std="1/sqrt("))


LOKR = "a b, p r, r q -> (a p) (b q)"


def lokr(sizes) -> Adapter:
    return Adapter("lokr-like", LOKR, C=A, B=B, A=A, sizes=sizes)


def test_lora_is_declared_as_published() -> None:
    lora = as_adapter("lora")
    assert lora.operands == {"B": ("o", "r"), "A": ("r", "i")} and lora.result == (("o",), ("i",))
    assert lora.axes == ("o", "r", "i") and lora.trainable == ("B", "A") and lora.init == "B=zero, A=kaiming_uniform(fan_in=i)"
    assert lora.shapes(4, 48, 32) == {"B": (32, 4), "A": (4, 48)}
    assert lora.parameters(4, 48, 32) == 4 * (48 + 32)
    assert lora.axis_sizes(4, 48, 32) == {"r": 4, "o": 32, "i": 48}


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_shapes_contract_to_the_weight(r: int, d_in: int, d_out: int) -> None:
    lora = as_adapter("lora")
    shapes = lora.shapes(r, d_in, d_out)
    assert np.einsum("or,ri->oi", *(np.ones(shape) for shape in shapes.values())).shape == (d_out, d_in)


@pytest.mark.parametrize(
    "sizes",
    [{"a": "4", "b": "2", "p": "d_out/4", "q": "d_in/2"}, lambda d_in, d_out, r: {"a": 4, "b": 2, "p": d_out // 4, "q": d_in // 2}],
    ids=["formula", "function"],
)
def test_groups_take_their_sizes_from_formulas_or_a_function(sizes) -> None:
    adapter = lokr(sizes)
    assert adapter.result == (("a", "p"), ("b", "q"))
    assert adapter.shapes(3, 10, 24) == {"C": (4, 2), "B": (6, 3), "A": (3, 5)}
    assert adapter.parameters(3, 10, 24) == 8 + 18 + 15
    with pytest.raises(AdapterError):
        adapter.shapes(3, 10, 23)


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        (None, "no size follows for axis 'a'"),
        ({"a": "4", "b": "2", "p": "d_out/4"}, "no size follows for axis 'q'"),
        ({"a": "4", "b": "2", "p": "d_out/4", "q": "d_in"}, r"axes b q has two sizes, d_in=10 and b \* q=20"),
        ({"a": "5", "b": "2", "p": "d_out/5", "q": "d_in/2"}, "axis 'p' would have size 4.8"),
        ({"a": "0*r", "b": "2", "p": "d_out", "q": "d_in/2"}, "axis 'a' would have size 0"),
        ({"a": "4", "b": "2", "p": "d_out/(r - 3)", "q": "d_in/2"}, "size p='d_out/\\(r - 3\\)' cannot be computed"),
        ({"a": "sqrt(r - 4)", "b": "2", "p": "d_out", "q": "d_in/2"}, "axis 'a' would have size nan"),
    ],
)
def test_sizes_that_do_not_follow_are_refused(sizes, problem) -> None:
    with pytest.raises(AdapterError, match=problem):
        lokr(sizes).axis_sizes(3, 10, 24)


@pytest.mark.parametrize(
    ("text", "problem"), [("width/4", "unknown quantity 'width'"), ("d_in/", "does not parse"), ("f(r)", "may not be called")]
)
def test_size_formulas_are_read_at_declaration(text: str, problem: str) -> None:
    with pytest.raises(AdapterError, match=f"size of axis a: .*{problem}"):
        lokr({"a": text})


def test_several_rank_axes_share_the_rank() -> None:
    loha = Adapter("loha-like", "o r, r i, o s, s i -> o i", rank_axes=("r", "s"), B1=B, A1=A, B2=A, A2=A)
    assert loha.shapes(3, 5, 7) == {"B1": (7, 3), "A1": (3, 5), "B2": (7, 3), "A2": (3, 5)}
    with pytest.raises(AdapterError, match="rank axis 't' stands in no operand"):
        Adapter("x", "o r, r i -> o i", rank_axes=("r", "t"), B=B, A=A)


def test_frozen_factors_cost_nothing() -> None:
    vera = Adapter("vera-like", "o, o r, r, r i -> o i", b=B, B=frozen(A), d=Constant(0.1), A=frozen(A))
    assert vera.trainable == ("b", "d") and vera.parameters(3, 5, 7) == 7 + 3


def test_with_init_changes_one_law_and_nothing_else() -> None:
    lora = as_adapter("lora")
    other = lora.with_init(A=Gaussian(std="1/r"))
    assert (
        other.init == "B=zero, A=gaussian(std=1/r)"
        and other.name == "lora"
        and other.expression == lora.expression
        and other.source == lora.source
    )
    assert other != lora and other.with_init(A=KaimingUniform(fan_in="i")) == lora and hash(other.with_init(A=lora.laws["A"])) == hash(lora)
    assert lora.renamed("mine").name == "mine"
    with pytest.raises(UnknownName, match=r"factor='C' is not known"):
        lora.with_init(C=A)


def test_declarations_cannot_be_changed() -> None:
    lora = as_adapter("lora")
    with pytest.raises(AttributeError):
        lora.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        lora.laws["A"] = B  # type: ignore[index]


def test_unknown_adapters_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"adapter='lorra' is not known; did you mean 'lora'"):
        as_adapter("lorra")


def test_registered_adapters_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {})
    mine = registry.register(as_adapter("lora").renamed("mine"))
    assert as_adapter("mine") is mine and registry.adapters()["mine"] is mine and as_adapter(mine) is mine
