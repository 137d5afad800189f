"""Parameters of indicators: what each accepts, and how plain data from a file becomes them.

An indicator's parameters are a frozen dataclass whose fields are made by `whole`, `number`,
`choice` and `flag`. The field carries its default and what it accepts, so that the class itself is
the table that files are checked against.
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
    """Accepts an int or a float above `above` (exclusive) up to `maximum`."""

    above: float
    maximum: float

    def accepts(self, value: Any) -> bool:
        """Whether `value` can be used as it is."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.above < value <= self.maximum

    def __str__(self) -> str:
        return f"a number above {self.above:g}, at most {self.maximum:g}"


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


def whole(default: int, minimum: int, maximum: int) -> Any:
    """A field for a count, such as a period in bars."""
    return _field(default, WholeNumber(minimum, maximum))


def number(default: float, above: float, maximum: float) -> Any:
    """A field for a factor."""
    return _field(default, Number(above, maximum))


def choice(default: str, *words: str) -> Any:
    """A field for one of some words."""
    return _field(default, OneOf(words))


def flag(*, default: bool) -> Any:
    """A field for true or false."""
    return _field(default, TrueOrFalse())


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
