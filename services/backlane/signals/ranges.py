"""Checks that numbers of a record lie in their ranges, and tells every mistake at once."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from backlane.errors import FieldViolation, InvalidRequestError

KeyT = TypeVar("KeyT")


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be, both ends included; `is_count` asks for a whole number."""

    low: float
    high: float
    is_count: bool = False

    def mistakes(self, field: str, value: object) -> Iterator[FieldViolation]:
        """Yields what is wrong with a value, if anything."""
        kind = int if self.is_count else int | float
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        if is_number and self.low <= float(str(value)) <= self.high:
            return
        what = "a whole number" if self.is_count else "a number"
        yield FieldViolation(field, f"is {value!r}; give {what} from {self.low:g} to {self.high:g}")


SHARE = Range(0.0, 1.0)
MONEY = Range(0.0, 1e15)
BPS = Range(0.0, 10_000.0)
COUNT_MAX = 10_000
COUNT = Range(0, COUNT_MAX, is_count=True)
PERIOD = Range(1, COUNT_MAX, is_count=True)


def range_mistakes(record: object, ranges: Mapping[str, Range]) -> Iterator[FieldViolation]:
    """Yields the mistakes in those fields of a record that have a range."""
    for name, allowed in ranges.items():
        yield from allowed.mistakes(name, getattr(record, name))


def mapping_mistakes(
    field: str, values: Mapping[KeyT, object], allowed: Range
) -> Iterator[FieldViolation]:
    """Yields the mistakes in the values of a mapping, each by its key."""
    for key, value in values.items():
        yield from allowed.mistakes(f"{field}.{key}", value)


def order_mistake(low_name: str, low: float, high_name: str, high: float) -> list[FieldViolation]:
    """Returns a mistake when a lower end lies above its upper one; none when they can't be told."""
    if math.isnan(low) or math.isnan(high) or low <= high:
        return []
    return [FieldViolation(high_name, f"is {high!r}, below {low_name}, {low!r}")]


def refuse(what: str, mistakes: Iterable[FieldViolation]) -> None:
    """Raises InvalidRequestError with all mistakes, if there is one."""
    found = tuple(mistakes)
    if found:
        said = "; ".join(f"{mistake.field}: {mistake.description}" for mistake in found)
        raise InvalidRequestError(f"{len(found)} {what} cannot be used: {said}", violations=found)
