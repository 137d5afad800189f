"""Bars for the tests of the market stage."""

from datetime import UTC, datetime

import numpy as np

from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe


def ns(text: str) -> int:
    """Returns a UTC time such as `2024-01-05 21:00` in nanoseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def bars_at(times, timeframe: str = "1h", **columns) -> BarSeries:
    """Returns bars at the given times; each column may be overridden by values for all rows."""
    times = np.array([ns(time) if isinstance(time, str) else time for time in times], np.int64)
    whole = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}
    filled = {
        name: np.array(columns.get(name, np.full(len(times), value)), np.float64)
        for name, value in whole.items()
    }
    return BarSeries("TEST", Timeframe.parse(timeframe), times, **filled)


def every(first: str, step_s: int, count: int) -> list[int]:
    """Returns `count` times from `first` on, `step_s` seconds apart."""
    return [ns(first) + at * step_s * 10**9 for at in range(count)]
