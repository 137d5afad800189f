"""Bars as columns: the open, high, low, close and volume of one instrument over time."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from backlane.market.timeframe import Timeframe


@dataclass(frozen=True, slots=True, eq=False)
class BarSeries:
    """Bars of one instrument and one timeframe, oldest first.

    `open_time_ns` is int64 of shape (bars,): UTC nanoseconds since 1970, strictly increasing. A bar
    is stamped with its OPEN time and is known at its close, `open_time_ns + timeframe.length_ns`.
    Prices and volume are float64 of shape (bars,), contiguous; prices are finite and > 0, volume is
    >= 0. `backlane.sources` checks all this at the border; nothing after it checks again.
    """

    symbol: str
    timeframe: Timeframe
    open_time_ns: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_time_ns)

    @property
    def close_time_ns(self) -> NDArray[np.int64]:
        """When each bar becomes known, int64 of shape (bars,)."""
        return self.open_time_ns + np.int64(self.timeframe.length_ns)

    def between(self, first_ns: int | None, last_ns: int | None) -> Self:
        """Returns the bars that open in [first_ns, last_ns], both inclusive, as a view."""
        times = self.open_time_ns
        start = 0 if first_ns is None else int(np.searchsorted(times, first_ns, "left"))
        stop = len(times) if last_ns is None else int(np.searchsorted(times, last_ns, "right"))
        return self.rows(start, max(start, stop))

    def rows(self, start: int, stop: int) -> Self:
        """Returns the bars [start, stop) as a view; nothing is copied."""
        cut = slice(start, stop)
        return type(self)(
            self.symbol,
            self.timeframe,
            self.open_time_ns[cut],
            self.open[cut],
            self.high[cut],
            self.low[cut],
            self.close[cut],
            self.volume[cut],
        )
