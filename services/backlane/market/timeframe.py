"""Timeframes: the length of a bar, written as in `5m`, `1h`, `1d`."""

import re
from dataclasses import dataclass
from typing import Self

from backlane.errors import FieldViolation, InvalidRequestError

_UNIT_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9, "w": 604800 * 10**9}
_PATTERN = re.compile(r"([1-9][0-9]{0,3})([smhdw])")


@dataclass(frozen=True, slots=True, order=True)
class Timeframe:
    """The length of a bar; ordered by length.

    `length_ns` is in nanoseconds, `label` is the spelling that file and feature names use.
    """

    length_ns: int
    label: str

    @classmethod
    def parse(cls, label: str, *, field: str = "timeframe") -> Self:
        """Reads `<number><unit>` with the units s, m, h, d and w, such as `15m`.

        Raises InvalidRequestError, naming `field`, for anything else.
        """
        match = _PATTERN.fullmatch(label)
        if match is None:
            message = (
                f"{label!r} is no timeframe: write a number and one of s, m, h, d, w, as in 5m."
            )
            raise InvalidRequestError(message, violations=(FieldViolation(field, message),))
        return cls(int(match[1]) * _UNIT_NS[match[2]], label)

    def __str__(self) -> str:
        return self.label
