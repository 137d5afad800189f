"""Compiled kernels for the extremes of windows: how high, how low, and how long ago."""

import numpy as np

from backlane.indicators.windows import BLOCK_BARS, Values
from backlane.jit import compiled


@compiled
def window_max(values: Values, period: int) -> Values:
    """Returns the greatest of the last `period` values; NaN where one is NaN or missing."""
    count = len(values)
    greatest = np.full(count, np.nan)
    for start in range(period - 1, count, BLOCK_BARS):
        stop = min(start + BLOCK_BARS, count)
        found = values[start - period + 1 : stop - period + 1].copy()
        for age in range(period - 2, -1, -1):
            found = np.maximum(found, values[start - age : stop - age])
        greatest[start:stop] = found
    return greatest


def window_min(values: Values, period: int) -> Values:
    """Returns the least of the last `period` values; NaN where one is NaN or missing."""
    least: Values = -window_max(-values, period)
    return least


@compiled
def window_place_of_max(values: Values, period: int) -> Values:
    """Returns the place, 1 to `period` from the oldest, of the greatest of the last values.

    Of equal ones the oldest counts. A NaN is passed over.
    """
    count = len(values)
    places = np.full(count, np.nan)
    for bar in range(period - 1, count):
        oldest = bar - period + 1
        best = np.nan
        for other in range(oldest, bar + 1):
            # `not <=`: anything is more than the NaN that there is at first.
            if not np.isnan(values[other]) and not values[other] <= best:
                best = values[other]
                places[bar] = other - oldest + 1
    return places
