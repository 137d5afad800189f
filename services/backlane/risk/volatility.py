"""Realized volatility, by the time that really passed."""

import math

import numpy as np
from numpy.typing import NDArray

from backlane.jit import compiled

_YEAR_NS = 365.25 * 86_400_000_000_000


@compiled
def realized_volatility(
    close: NDArray[np.float64], time_ns: NDArray[np.int64], period: int
) -> NDArray[np.float64]:
    """Returns the yearly volatility of the last `period` returns, NaN before there are so many.

    sqrt(sum of the squared log returns / years between the first and the last close of them): the
    realized variance (Andersen and Bollerslev, 1998) over the time that passed, so that weekends
    and missing bars count for what they are. Each value is summed afresh: it depends on its own
    window alone.
    """
    squares = np.empty(len(close))
    for bar in range(1, len(close)):
        change = math.log(close[bar] / close[bar - 1])
        squares[bar] = change * change
    found = np.full(len(close), np.nan)
    for bar in range(period, len(close)):
        total = 0.0
        for back in range(period):
            total += squares[bar - back]
        years = (time_ns[bar] - time_ns[bar - period]) / _YEAR_NS
        found[bar] = math.sqrt(total / years)
    return found
