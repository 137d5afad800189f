"""Typed access to the JSON objects of a bundle, with errors that name the file and the key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Self, TypeGuard

from backlane.errors import BundleInvalidError

NAME_CHARACTERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON object; `label` is its file and the path inside it (`config.json: model`).

    Each reader raises BundleInvalidError when the value is of another type or out of range; a key
    that is absent or null gives the default, or None.
    """

    label: str
    values: Mapping[str, object]

    def path(self, key: str) -> str:
        """Where `key` stands, as error messages write it."""
        shown = _fit(key)
        return f"{self.label}.{shown}" if ": " in self.label else f"{self.label}: {shown}"

    def refuse(self, key: str, found: object, accepted: str) -> BundleInvalidError:
        """The error for a value that cannot be accepted."""
        shown = _shown(found)
        return BundleInvalidError(
            f"{self.path(key)} is {shown}; accepted: {accepted}.",
            metadata={"path": self.path(key), "found": shown, "accepted": accepted},
        )

    def section(self, key: str) -> Self | None:
        """The JSON object at `key`."""
        found = self.values.get(key)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise self.refuse(key, found, "an object")
        return type(self)(self.path(key), found)

    def text(self, key: str) -> str | None:
        """The text at `key`."""
        found = self.values.get(key)
        if found is not None and not isinstance(found, str):
            raise self.refuse(key, found, "a text")
        return found

    def choice(self, key: str, accepted: Iterable[str], default: str) -> str:
        """The text at `key`, one of `accepted`."""
        found = self.values.get(key)
        if found is None:
            return default
        if not isinstance(found, str) or found not in accepted:
            raise self.refuse(key, found, ", ".join(accepted))
        return found

    def flag(self, key: str) -> bool | None:
        """The yes or no at `key`."""
        found = self.values.get(key)
        if found is not None and not isinstance(found, bool):
            raise self.refuse(key, found, "true or false")
        return found

    def whole(self, key: str, *, minimum: int, maximum: int) -> int | None:
        """The whole number at `key`, both bounds included."""
        found = self.values.get(key)
        if found is None:
            return None
        if not _is_whole(found) or not minimum <= found <= maximum:
            raise self.refuse(key, found, f"a whole number from {minimum} to {maximum}")
        return found

    def wholes(
        self, key: str, *, minimum: int, maximum: int, count_max: int
    ) -> tuple[int, ...] | None:
        """The whole numbers at `key`, at most `count_max`."""
        found = self.values.get(key)
        if found is None:
            return None
        if (
            not isinstance(found, list)
            or len(found) > count_max
            or not all(_is_whole(value) and minimum <= value <= maximum for value in found)
        ):
            raise self.refuse(
                key, found, f"at most {count_max} whole numbers from {minimum} to {maximum}"
            )
        return tuple(found)

    def names(self, key: str, *, count_max: int) -> tuple[str, ...]:
        """The names at `key`, 1 to `count_max`: printable, at most NAME_CHARACTERS_MAX long."""
        found = self.values.get(key)
        if (
            not isinstance(found, list)
            or not 0 < len(found) <= count_max
            or not all(isinstance(value, str) and _is_name(value) for value in found)
        ):
            raise self.refuse(
                key,
                found,
                f"1 to {count_max} names of at most {NAME_CHARACTERS_MAX} printable characters",
            )
        return tuple(found)

    def real(
        self, key: str, *, minimum: float | None = None, maximum: float | None = None
    ) -> float | None:
        """The finite number at `key`, both bounds included."""
        found = self.values.get(key)
        if found is None:
            return None
        low, high = (
            float("-inf") if minimum is None else minimum,
            float("inf") if maximum is None else maximum,
        )
        if not _is_real(found) or not low <= found <= high:
            bounds = "" if minimum is None and maximum is None else f" from {low:g} to {high:g}"
            raise self.refuse(key, found, f"a finite number{bounds}")
        return float(found)

    def positive(self, key: str) -> float | None:
        """The finite number above 0 at `key`."""
        found = self.values.get(key)
        if found is None:
            return None
        if not _is_real(found) or found <= 0:
            raise self.refuse(key, found, "a finite number above 0")
        return float(found)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= NAME_CHARACTERS_MAX and text.isprintable()


def _fit(text: str) -> str:
    """Keys come from the file: nothing of them moves a cursor or fills a screen."""
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= 80 else f"{plain[:79]}…"


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _shown(value: object) -> str:
    if isinstance(value, list | dict) and len(value) > 100:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
