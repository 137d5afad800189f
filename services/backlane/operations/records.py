"""Records with a change: the heart of everything that happens to an operation."""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

_T = TypeVar("_T")


def replace(record: _T, /, **changes: object) -> _T:
    """Returns a copy of a dataclass with other values in some fields.

    It does what `dataclasses.replace` does, in half the time: an operation has 34 fields and is
    copied up to five times in one write. For dataclasses of at least two fields, all positional.

    Raises:
        KeyError: there is no field of that name.

    """
    values_of, places = _layout(type(record))  # type: ignore[arg-type]
    values = list(values_of(record))
    for name, value in changes.items():
        values[places[name]] = value
    return type(record)(*values)


@cache
def _layout(kind: type[Any]) -> tuple[Callable[[Any], tuple[Any, ...]], dict[str, int]]:
    names = [field.name for field in fields(kind)]
    return attrgetter(*names), {name: place for place, name in enumerate(names)}
