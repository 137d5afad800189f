"""How numbers and times are written: aligned, short, and never more exact than they are useful."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ABSENT = "–"  # noqa: RUF001 - the dash of a table, no minus
MINUS = "−"  # noqa: RUF001 - as wide as a digit and a plus
TEXT_CHARS_MAX = 2000
"""Characters of one text from a file that the page shows."""
PRICE_DIGITS = 6
"""Digits of a price that are shown; the decimals follow from the size of the price."""


def number(value: float, decimals: int) -> str:
    """Returns 1,234.50, with MINUS below 0; a dash for what is no number."""
    if not math.isfinite(value):
        return ABSENT
    text = f"{abs(value):,.{decimals}f}"
    is_zero = not text.strip("0.,")
    return text if value >= 0 or is_zero else MINUS + text


def money(value: float) -> str:
    """Returns an amount with two decimals."""
    return number(value, 2)


def percent(value: float) -> str:
    """Returns a fraction as 1.25%."""
    text = number(100 * value, 2)
    return text if text == ABSENT else f"{text}%"


def quantity(value: float) -> str:
    """Returns units, with as many decimals as they have, at most 8."""
    text = number(value, 8)
    return text.rstrip("0").rstrip(".") if "." in text else text


def price_decimals(prices: NDArray[np.float64]) -> int:
    """Returns the decimals that show PRICE_DIGITS digits of the largest of these prices."""
    usable = prices[np.isfinite(prices) & (prices > 0)]
    if len(usable) == 0:
        return 2
    whole_digits = math.floor(math.log10(float(np.max(usable)))) + 1
    return min(8, max(2, PRICE_DIGITS - whole_digits))


def timestamp(value: Any) -> str:
    """Returns 2023-01-04 01:00, with seconds where there are any; UTC goes without saying."""
    if pd.isna(value):
        return ABSENT
    moment = pd.Timestamp(value)
    moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    has_seconds = moment.second or moment.microsecond or moment.nanosecond
    return str(moment.strftime("%Y-%m-%d %H:%M:%S" if has_seconds else "%Y-%m-%d %H:%M"))


def time_ns(value: int) -> str:
    """Returns nanoseconds since 1970 as a time; a dash outside of the years 1 to 9999."""
    try:
        moment = datetime.fromtimestamp(value // 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return ABSENT
    return timestamp(moment)


_BY_UNIT: Mapping[str, Callable[[float], str]] = {
    "money": money,
    "fraction": percent,
    "ratio": lambda value: number(value, 3),
    "count": lambda value: number(value, 0),
    "hours": lambda value: number(value, 2) + " h",
}


def in_unit(value: float | None, unit: str) -> str:
    """Returns a metric in its unit; a dash for one that has no value."""
    if value is None or not math.isfinite(value):
        return ABSENT
    write = _BY_UNIT.get(unit)
    return f"{value:,.6g}" if write is None else write(value)


def short(text: str) -> str:
    """Returns a text from a file, cut at TEXT_CHARS_MAX."""
    return cut(text, TEXT_CHARS_MAX)


def cut(text: str, chars_max: int) -> str:
    """Returns at most `chars_max` characters; a cut text ends in an ellipsis."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
