"""Records to plain JSON and back unchanged, for any frozen dataclass of plain parts."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from rsverify.expressions import Expression

SCHEMA = "rsverify/1"

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


def from_json(cls: type[T], data: Any) -> T:
    """The record that `to_json` wrote, equal to the original."""
    return _restore(cls, data)


def dumps(record: Any) -> str:
    return json.dumps(to_json(record), indent=2, allow_nan=False)


def loads(cls: type[T], text: str) -> T:
    return from_json(cls, json.loads(text))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _restore(kind: Any, data: Any) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return data
    if origin is Literal:
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return _restore(next(k for k in get_args(kind) if k is not type(None)), data)
    if origin is tuple:
        inner = get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_restore(inner[0], value) for value in data)
        return tuple(_restore(k, value) for k, value in zip(inner, data, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        value_kind = get_args(kind)[1]
        return {key: _restore(value_kind, value) for key, value in data.items()}
    if kind is Fraction:
        return Fraction(data)
    if kind is Expression:
        return Expression(data)
    if kind is float:
        return float(data)
    if is_dataclass(kind):
        make = typing.cast(type, kind)
        hints = _hints(make)
        return make(**{f.name: _restore(hints[f.name], data[f.name]) for f in fields(kind) if f.name in data})
    return data
