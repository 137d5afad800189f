"""Parameters of indicators: what each accepts, and how plain data from a file becomes them.

An indicator's parameters are a frozen dataclass whose fields are made by `whole`, `factor`,
`choice`, `flag` and the like. The field carries its default and what it accepts, so that the class
itself is the table that files are checked against.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar

from backlane.errors import FieldViolation

SOURCES = ("close", "open", "high", "low", "volume")


class Parameters(Protocol):
    """What every class of parameters is: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """Accepts an int from `minimum` to `maximum`; neither 14.0 nor "14" is one."""

    minimum: int
    maximum: int

    def accepts(self, value: Any) -> bool:
        """Whether `value` can be used as it is."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.minimum <= value <= self.maximum

    def __str__(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}, without quotes or decimals"


@dataclass(frozen=True, slots=True)
class Number:
    """Accepts an int or a float from `low` to `high`, or between them where a side is open."""

    low: float
    high: float
    low_is_open: bool
    high_is_open: bool

    def accepts(self, value: Any) -> bool:
        """Whether `value` can be used as it is."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        is_high_enough = value > self.low if self.low_is_open else value >= self.low
        return is_high_enough and (value < self.high if self.high_is_open else value <= self.high)

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.low_is_open else f"of at least {self.low:g}"
        high = f"below {self.high:g}" if self.high_is_open else f"at most {self.high:g}"
        return f"a number {low}, {high}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Accepts one of some words, in this very spelling."""

    words: tuple[str, ...]

    def accepts(self, value: Any) -> bool:
        """Whether `value` can be used as it is."""
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return "one of " + ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class TrueOrFalse:
    """Accepts true and false, not 0, 1 or words."""

    def accepts(self, value: Any) -> bool:
        """Whether `value` can be used as it is."""
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class OnlyFalse:
    """Accepts false alone: `true` is in the grammar, but there is nothing that it could mean."""

    def accepts(self, value: Any) -> bool:
        """Whether `value` can be used as it is."""
        return value is False

    def __str__(self) -> str:
        return "false, or remove it: the smoothed line is no output of this indicator"


def whole(default: int, minimum: int, maximum: int) -> Any:
    """A field for a count, such as a period in bars."""
    return _field(default, WholeNumber(minimum, maximum))


def factor(default: float, above: float, maximum: float) -> Any:
    """A field for a number above one limit, up to another."""
    return _field(default, Number(above, maximum, low_is_open=True, high_is_open=False))


def step(default: float, minimum: float, maximum: float) -> Any:
    """A field for a number from one limit to another."""
    return _field(default, Number(minimum, maximum, low_is_open=False, high_is_open=False))


def share(default: float) -> Any:
    """A field for a number above 0 and below 1."""
    return _field(default, Number(0.0, 1.0, low_is_open=True, high_is_open=True))


def choice(default: str, *words: str) -> Any:
    """A field for one of some words."""
    return _field(default, OneOf(words))


def flag(*, default: bool) -> Any:
    """A field for true or false."""
    return _field(default, TrueOrFalse())


def never() -> Any:
    """A field that only takes false."""
    return _field(False, OnlyFalse())


def source() -> Any:
    """A field for the column of the bars that is read."""
    return choice("close", *SOURCES)


def _field(default: Any, accepts: object) -> Any:
    return field(default=default, metadata={"accepts": accepts})


def read_parameters(
    kind: type[P], given: Mapping[str, object], *, path: str, ignore_unknown: bool = False
) -> tuple[P | None, list[FieldViolation]]:
    """Checks `given` against the fields of `kind`, with `path` before each name in a message.

    Returns the parameters with defaults filled in, or None and one violation for each mistake.
    """
    known = {item.name: item for item in fields(kind)}
    violations = [
        FieldViolation(f"{path}.{name}", f"is unknown here: {_known_names(tuple(known))}")
        for name in given
        if name not in known and not ignore_unknown
    ]
    accepted = {name: value for name, value in given.items() if name in known}
    for name, value in accepted.items():
        accepts = known[name].metadata["accepts"]
        if not accepts.accepts(value):
            description = f"{value!r} cannot be used: write {accepts}"
            violations.append(FieldViolation(f"{path}.{name}", description))
    return (None, violations) if violations else (kind(**accepted), [])


def unknown_parameters(kind: type[P], given: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the names in `given` that `kind` does not have."""
    known = {item.name for item in fields(kind)}
    return tuple(name for name in given if name not in known)


def default_parameters(kind: type[P]) -> dict[str, object]:
    """Returns the defaults by name, for lists of what there is."""
    return {item.name: item.default for item in fields(kind) if item.default is not MISSING}


def _known_names(names: tuple[str, ...]) -> str:
    if not names:
        return "this indicator has no parameters, remove it"
    return f"use {', '.join(names)}, or remove it"
