"""Laws of init as the user writes them: "gaussian(std=1/sqrt(i))", "kaiming_uniform(fan_in=i)", "frozen(zero)"."""

from __future__ import annotations

import re
from collections.abc import Callable

from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Law, Orthonormal, PrincipalComponents, Uniform, Zero, frozen
from rsverify.errors import InputError, RsverifyError, UnknownName

_KINDS: dict[str, tuple[Callable[..., Law], str, str | None]] = {
    "zero": (Zero, "", None),
    "constant": (Constant, "value", None),
    "gaussian": (Gaussian, "std", "1"),
    "uniform": (Uniform, "bound", "1"),
    "kaiming_uniform": (KaimingUniform, "fan_in", "i"),
    "orthonormal": (Orthonormal, "gain", "1"),
}
"""How each law is made, the name of its one argument, and what that is where it is left out (None: it may not be)."""


def parse_law(text: str) -> Law:
    """The law that a text names, as `Law.text` writes it; the argument's name may be left out.

    Raises: UnknownName, InputError for a text that names no law or gives a law what it has no use for.
    """
    match = re.fullmatch(r"\s*([a-z_]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if match is None:
        raise InputError(f"law={text!r}; expected a name with its arguments, e.g. gaussian(std=1/sqrt(i)) or zero")
    kind, inside = match[1], (match[2] or "").strip()
    if kind == "frozen":
        return frozen(parse_law(inside))
    if kind == "principal_components":
        return _components(text, inside)
    if kind not in _KINDS:
        raise UnknownName("law", kind, [*_KINDS, "principal_components", "frozen"])
    make, argument, default = _KINDS[kind]
    value = re.sub(rf"^{argument}\s*=(?!=)", "", inside).strip() if argument else inside
    if not argument and value:
        raise InputError(f"law={text!r}: {kind} takes no argument")
    if argument and not value and default is None:
        raise InputError(f"law={text!r}: {kind} needs its {argument}, e.g. {kind}(0.1)")
    if not argument:
        return make()
    law = make(value or default)
    try:
        _ = law.spread
    except RsverifyError as error:
        raise InputError(f"law={text!r}: {argument}={value!r} is no formula in r and axis names: {error}") from None
    return law


def _components(text: str, inside: str) -> Law:
    """principal_components(rows, decay=1/2, largest=3): where the components stand, and of their spectrum what is not flat or 1."""
    given: dict[str, str] = {}
    for place, part in enumerate(inside.split(",") if inside else ()):
        name, equals, value = part.partition("=")
        name, value = (name.strip(), value.strip()) if equals else ("components" if place == 0 else "", part.strip())
        if name not in ("components", "decay", "largest") or not value or name in given:
            raise InputError(f"law={text!r}: {part.strip()!r}; expected principal_components(rows, decay=1/2, largest=3), or columns")
        given[name] = value
    if "components" not in given:
        raise InputError(f"law={text!r}: say where the components stand: principal_components(rows) for A, (columns) for B")
    try:
        law = PrincipalComponents(**given)
        _ = law.spread
    except RsverifyError as error:
        raise InputError(f"law={text!r}: {error}") from None
    return law


def parse_init(text: str) -> tuple[str, Law]:
    """A factor and its law, from a text such as "A=gaussian(std=1/sqrt(i))"."""
    name, equals, law = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise InputError(f"init={text!r}; expected FACTOR=LAW, e.g. A=gaussian(std=1/sqrt(i))")
    return name.strip(), parse_law(law)
