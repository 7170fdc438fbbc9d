"""Laws as text: what `text()` writes reads back, and what names no law is refused."""

from __future__ import annotations

import pytest

from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Orthonormal, PrincipalComponents, Uniform, Zero, frozen
from rsverify.definitions.lawtext import parse_init, parse_law
from rsverify.errors import InputError, UnknownName

LAWS = [
    Zero(), Constant("0.1"), Gaussian("1/sqrt(i)"), Uniform("3/(r+1)"), KaimingUniform("q"), Orthonormal("2"), frozen(Gaussian("1")),
    frozen(Zero()), PrincipalComponents("rows"), frozen(PrincipalComponents("columns", "1/2", "3*sqrt(i)")),
]  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_texts_read_back(law) -> None:
    assert parse_law(law.text()).text() == law.text()
    assert type(parse_law(law.text())) is type(law) and parse_law(law.text()).trainable == law.trainable


def test_arguments_may_be_left_out() -> None:
    assert parse_law("gaussian") == parse_law("gaussian(1)") and parse_law(" kaiming_uniform ").text() == "kaiming_uniform(fan_in=i)"
    assert parse_init("A = gaussian(1/r)") == ("A", Gaussian("1/r"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gauss", "did you mean 'gaussian'"), ("gaussian(__import__('os'))", "is no formula"), ("gaussian(1/)", "is no formula"),
        ("zero(3)", "takes no argument"), ("constant", "needs its value"), ("gaussian(1", "expected a name"), ("", "expected a name"),
        ("frozen(gauss)", "did you mean"), ("gaussian(lambda: 1)", "is no formula"),
        ("principal_components", "say where"), ("principal_components(rows, decay=fast)", "expected a number"),
        ("principal_components(rows, rows)", "expected principal_components"), ("principal_components(sides)", "expected rows"),
    ],
)  # fmt: skip
def test_refused(text: str, said: str) -> None:
    with pytest.raises((InputError, UnknownName), match=said.replace("(", r"\(")):
        parse_law(text)
    with pytest.raises(InputError, match="expected FACTOR=LAW"):
        parse_init("2=zero")
