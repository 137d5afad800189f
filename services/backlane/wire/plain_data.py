"""Plain data (texts, numbers, lists and mappings) as a google.protobuf.Struct, and back."""

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from backlane.wire.violations import Violations

WHOLE_MAX = 2**53
"""Whole numbers up to this one are exact on the wire."""
DEPTH_MAX = 20
"""Mappings and lists within each other."""
_KEY_SHOWN = 80


def struct_from_plain(content: Mapping[str, Any], field: str) -> Struct:
    """Returns the message for a mapping; `field` is what it is called.

    Raises InvalidRequestError, with a violation for each, for what the message cannot hold: NaN,
    infinity, whole numbers beyond 2^53, keys that are no text, and values of other types.
    """
    found = Violations()
    struct = _struct(content, field, found, 0)
    found.raise_if_any()
    return struct


def plain_from_struct(struct: Struct, field: str, found: Violations) -> dict[str, Any]:
    """Returns the mapping of a message from outside; notes what is too deep or no number.

    Numbers without a fraction become int; a value of no kind counts as null.
    """
    return _mapping(struct, field, found, 0)


def _struct(content: Mapping[Any, Any], path: str, found: Violations, depth: int) -> Struct:
    struct = Struct()
    for key, value in content.items():
        if not isinstance(key, str):
            found.add(path, f"has the key {str(key)[:_KEY_SHOWN]!r}: give a text")
            continue
        struct.fields[key].CopyFrom(_value(value, f"{path}.{key[:_KEY_SHOWN]}", found, depth + 1))
    return struct


def _value(content: Any, path: str, found: Violations, depth: int) -> Value:
    if depth > DEPTH_MAX:
        found.add(path, f"lies more than {DEPTH_MAX} levels deep")
        return Value(null_value=0)  # type: ignore[arg-type]
    match content:
        case None:
            return Value(null_value=0)  # type: ignore[arg-type]
        case bool():
            return Value(bool_value=content)
        case int() | float():
            is_exact = math.isfinite(content) and (
                isinstance(content, float) or abs(content) <= WHOLE_MAX
            )
            found.check(is_exact, path, f"is {content}: give a number that a message can hold")
            return Value(number_value=float(content) if is_exact else 0.0)
        case str():
            return Value(string_value=content)
        case Mapping():
            return Value(struct_value=_struct(content, path, found, depth))
        case list() | tuple():
            values = [
                _value(each, f"{path}.{at}", found, depth + 1) for at, each in enumerate(content)
            ]
            return Value(list_value=ListValue(values=values))
    found.add(path, f"is a {type(content).__name__}: write a text, a number, a list or a mapping")
    return Value(null_value=0)  # type: ignore[arg-type]


def _mapping(struct: Struct, path: str, found: Violations, depth: int) -> dict[str, Any]:
    return {
        key: _plain(struct.fields[key], f"{path}.{key[:_KEY_SHOWN]}", found, depth + 1)
        for key in sorted(struct.fields)
    }


def _plain(value: Value, path: str, found: Violations, depth: int) -> Any:
    if depth > DEPTH_MAX:
        found.add(path, f"lies more than {DEPTH_MAX} levels deep")
        return None
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "number_value":
            number = value.number_value
            found.check(math.isfinite(number), path, f"is {number}: give a finite number")
            is_whole = math.isfinite(number) and number.is_integer()
            return int(number) if is_whole else number
        case "string_value":
            return value.string_value
        case "struct_value":
            return _mapping(value.struct_value, path, found, depth)
        case "list_value":
            return [
                _plain(each, f"{path}.{at}", found, depth + 1)
                for at, each in enumerate(value.list_value.values)
            ]
    return None
