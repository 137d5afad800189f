"""Small series of bars for tests."""

from collections.abc import Sequence

import numpy as np

from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

HOUR_NS = 3600 * 10**9


def bars_of(
    close: Sequence[float],
    *,
    open_: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    low: Sequence[float] | None = None,
    volume: Sequence[float] | None = None,
) -> BarSeries:
    """Returns hourly bars; a column that is not given equals the close, volume equals 1."""

    def column(values: Sequence[float] | None) -> np.ndarray:
        return np.asarray(close if values is None else values, dtype=np.float64)

    times = np.arange(len(close), dtype=np.int64) * HOUR_NS
    ones = np.ones(len(close)) if volume is None else column(volume)
    prices = (column(open_), column(high), column(low), column(close))
    return BarSeries("TEST", Timeframe.parse("1h"), times, *prices, ones)
