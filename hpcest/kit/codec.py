"""Frozen dataclasses to and from plain JSON values, with errors that name the field.

Annotations that can be decoded: str, int, float, bool, ``X | None``, ``tuple[X, ...]``, ``list[X]``,
``dict[str, X]``, Enum, Any, and other dataclasses.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from hpcest.errors import SpecError, UnknownNameError

T = TypeVar("T")


def encode(value: Any) -> Any:
    """``value`` as JSON values; fields that have their default are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return bool(field.default is not dataclasses.MISSING and value == field.default)


def decode(cls: type[T], data: Any, *, where: str = "") -> T:
    """Build ``cls`` from JSON values. ``where`` is the path so far, for messages (``compute.gpu``).

    Raises SpecError for a value of the wrong type or a missing field, UnknownNameError for a key that
    ``cls`` has not; both have an attribute ``path``, the dotted path of what is wrong.
    """
    if not isinstance(data, Mapping):
        raise _wrong(where, f"a mapping with some of the keys {', '.join(_hints(cls))}", data)  # type: ignore[arg-type]  # a class is hashable
    hints = _hints(cls)  # type: ignore[arg-type]  # likewise
    for key in data:
        if key not in hints:
            unknown = UnknownNameError(f"key in {where}" if where else "key", str(key), hints)
            unknown.path = _join(where, str(key))  # type: ignore[attr-defined]  # of these errors alone: see the docstring
            raise unknown
    values = {key: _value(hints[key], item, _join(where, key)) for key, item in data.items()}
    for field in dataclasses.fields(typing.cast(Any, cls)):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in values:
            raise _spec_error(where, f"{where or cls.__name__} needs the key {field.name!r}")
    return cls(**values)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _value(next(arg for arg in args if arg is not type(None)), value, where)
    if origin in (tuple, list):
        if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
            raise _wrong(where, "a list", value)
        return origin(_value(args[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, "a mapping", value)
        return {str(key): _value(args[1], item, _join(where, str(key))) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, typing.cast(type, hint)) else decode(typing.cast(type, hint), value, where=where)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise _wrong(where, "one of " + ", ".join(str(member.value) for member in hint), value) from None
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # YAML reads 3.10 and 42 as numbers where a text is meant
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (isinstance(value, bool) and hint is not bool) or not isinstance(value, hint):
        raise _wrong(where, {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[hint], value)
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _wrong(where: str, wanted: str, value: Any) -> SpecError:
    return _spec_error(where, f"{where or 'the value'} must be {wanted}, not {value!r}")


def _spec_error(where: str, message: str) -> SpecError:
    error = SpecError(message)
    error.path = where  # type: ignore[attr-defined]  # as decode says
    return error
