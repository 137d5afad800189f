"""Means and deviations over the last bars of one instrument, with as many values as there are.

Input and output are float64 of shape (bars,), for one instrument without the times at which it has
no bar. A NaN in a window is left out of it; a window with fewer than `minimum` values has no value.
Each window is computed afresh, oldest value first, so that what follows changes no bit of it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backlane.jit import compiled

Values = NDArray[np.float64]


@compiled
def rolling_mean(values: Values, period: int, minimum: int) -> Values:
    """Returns the mean of the last `period` values: of 1, 2, 6 with period 2: 1, 1.5, 4."""
    count = len(values)
    means = np.full(count, np.nan)
    for bar in range(count):
        total = 0.0
        used = 0
        for place in range(max(0, bar - period + 1), bar + 1):
            if not np.isnan(values[place]):
                total += values[place]
                used += 1
        if used >= minimum and used > 0:
            means[bar] = total / used
    return means


@compiled
def rolling_deviation(values: Values, period: int, minimum: int) -> Values:
    """Returns the sample standard deviation (divisor n - 1) of the last `period` values.

    It takes two values at least. Of equal values it is exactly 0.
    """
    count = len(values)
    deviations = np.full(count, np.nan)
    for bar in range(count):
        first = max(0, bar - period + 1)
        total = 0.0
        used = 0
        origin = np.nan
        for place in range(first, bar + 1):
            if not np.isnan(values[place]):
                if used == 0:
                    origin = values[place]
                total += values[place] - origin
                used += 1
        if used < minimum or used < 2:
            continue
        mean = origin + total / used
        squares = 0.0
        for place in range(first, bar + 1):
            if not np.isnan(values[place]):
                squares += (values[place] - mean) ** 2
        deviations[bar] = np.sqrt(squares / (used - 1))
    return deviations


@compiled
def expanding_mean(values: Values) -> Values:
    """Returns the mean of all values up to each one: of 1, 2, 6: 1, 1.5, 3."""
    means = np.full(len(values), np.nan)
    total = 0.0
    used = 0
    for bar in range(len(values)):
        if not np.isnan(values[bar]):
            total += values[bar]
            used += 1
        if used > 0:
            means[bar] = total / used
    return means


def earlier(values: Values, bars: int) -> Values:
    """Returns the value `bars` bars before each one, NaN where there is none; `bars` >= 0."""
    shifted = np.full(len(values), np.nan)
    shifted[bars:] = values[: max(0, len(values) - bars)]
    return shifted


def each_symbol(function: Callable[..., Values], *grids: NDArray[np.float64]) -> Values:
    """Returns `function` of each instrument's own bars, back on the grid (times, symbols).

    `function` takes one array (bars,) of each grid and returns another. An instrument has a bar
    where the first grid, a price, has a value; where it has none the result is NaN. So a gap of an
    instrument is not a gap in its windows: they hold its bars, as many as it has.
    """
    result = np.full(grids[0].shape, np.nan)
    for place in range(len(result.T)):
        has_bar = np.isfinite(grids[0][:, place])
        result[has_bar, place] = function(*(grid[has_bar, place] for grid in grids))
    return result
