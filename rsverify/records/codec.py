"""Records to plain JSON and back unchanged, for any frozen dataclass of plain parts."""

from __future__ import annotations

import json
import math
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from rsverify.errors import InputError, RsverifyError, brief
from rsverify.expressions import Expression

SCHEMA = "rsverify/1"

LARGEST = 2**200
"""No rank, seed or count of ours is near it; a file that says more was not written by us."""

_FRACTION = re.compile(r"-?\d{1,40}(/0*[1-9]\d{0,39})?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

T = TypeVar("T")


def to_json(record: Any) -> Any:
    """A record as plain JSON data: fractions as texts, tuples as lists, formulas as their text."""
    if isinstance(record, Expression):
        return record.text
    if isinstance(record, Fraction):
        return str(record)
    if is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_json(getattr(record, f.name)) for f in fields(record)}
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        return str(record)
    scalar: Any = record
    return to_json(scalar.item()) if getattr(record, "ndim", None) == 0 else record


def from_json(cls: type[T], data: Any, *, place: str = "") -> T:
    """The record that `to_json` wrote, equal to the original.

    Args: place is where the data stands in its file, for the message.
    Raises: InputError for data that no record of the class has: a field that is missing or unknown, a value of another type, a number
    beyond bounds, with its place, what came and what was expected.
    """
    return _restore(cls, data, place or cls.__name__)


def dumps(record: Any) -> str:
    return json.dumps(to_json(record), indent=2, allow_nan=False)


def loads(cls: type[T], text: str) -> T:
    return from_json(cls, json.loads(text))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _restore(kind: Any, data: Any, place: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return data
    if origin is Literal:
        if not isinstance(data, str) or data not in get_args(kind):
            raise _refused(place, data, "one of " + ", ".join(map(str, get_args(kind))))
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return _restore(next(k for k in get_args(kind) if k is not type(None)), data, place)
    if origin is tuple:
        return _restore_tuple(get_args(kind), data, place)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise _refused(place, data, "an object")
        value_kind = get_args(kind)[1]
        return {key: _restore(value_kind, value, f"{place}.{key}") for key, value in data.items()}
    if is_dataclass(kind) and kind is not Expression:
        return _restore_record(typing.cast(type, kind), data, place)
    return _restore_scalar(kind, data, place)


def _restore_tuple(inner: tuple[Any, ...], data: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise _refused(place, data, "a list")
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_restore(inner[0], value, f"{place}[{i}]") for i, value in enumerate(data))
    if len(data) != len(inner):
        raise _refused(place, data, f"a list of {len(inner)}")
    return tuple(_restore(k, value, f"{place}[{i}]") for i, (k, value) in enumerate(zip(inner, data, strict=True)))


def _restore_record(make: type, data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise _refused(place, data, f"the object of a {make.__name__}")
    hints, known = _hints(make), {f.name: f for f in fields(make)}
    unknown = next((key for key in data if key not in known), None)
    if unknown is not None:
        raise InputError(f"{place}.{unknown} is not known; a {make.__name__} has {', '.join(known)}")
    for name, f in known.items():
        if name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{place}.{name} is missing")
    values = {name: _restore(hints[name], data[name], f"{place}.{name}") for name in known if name in data}
    try:
        return make(**values)
    except RsverifyError as error:
        raise InputError(f"{place}: {str(error)[:300]}") from None


def _restore_scalar(kind: Any, data: Any, place: str) -> Any:
    if kind is Fraction:
        if not isinstance(data, str) or not _FRACTION.fullmatch(data):
            raise _refused(place, data, 'a fraction as text, e.g. "-1/2"')
        return Fraction(data)
    if kind is Expression:
        if not isinstance(data, str):
            raise _refused(place, data, "a formula as text")
        try:
            return Expression(data)
        except RsverifyError as error:
            raise InputError(f"{place}: {str(error)[:300]}") from None
    if kind is float:
        if isinstance(data, str) and data in ("inf", "-inf", "nan"):
            return float(data)
        if isinstance(data, bool) or not isinstance(data, int | float) or not abs(data) <= sys.float_info.max:
            raise _refused(place, data, "a number")
        return float(data)
    if kind is int and (isinstance(data, bool) or not isinstance(data, int) or abs(data) > LARGEST):
        raise _refused(place, data, f"a whole number up to {LARGEST:.0e}")
    if kind in (bool, str) and not isinstance(data, kind):
        raise _refused(place, data, "true or false" if kind is bool else "a text")
    if isinstance(data, str) and (control := _CONTROL.search(data)):
        raise InputError(f"{place} holds the control character {control[0]!r}; a text that is shown may not")
    return data


def _refused(place: str, data: Any, expected: str) -> InputError:
    return InputError(f"{place}={brief(data)}; expected {expected}")
