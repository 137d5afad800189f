"""Compiled kernels that every indicator is made of: windows and recursive means.

Each value of a window is computed afresh from the bars in the window, oldest first, never by adding
the new bar to a running sum and taking the old one away. So a value depends on its window alone:
neither on where the series starts nor on what follows, to the last bit, and rounding does not pile
up. The work is done for blocks of bars at once, which keeps it in the cache and lets the compiler
use vector instructions without changing the order of any sum.

Input and output are float64 of shape (bars,). A NaN in a window makes that window's value NaN.
"""

import numpy as np
from numpy.typing import NDArray

from backlane.jit import compiled

Values = NDArray[np.float64]

BLOCK_BARS = 1024


@compiled
def window_mean(values: Values, period: int) -> Values:
    """Returns the mean of the last `period` values, NaN for the first period - 1 bars.

    mean = x0 + sum(x - x0) / period, x0 being the oldest value in the window: in a dead market this
    is x0 exactly, which summing 0.1 twenty times is not.
    """
    count = len(values)
    means = np.full(count, np.nan)
    for start in range(period - 1, count, BLOCK_BARS):
        stop = min(start + BLOCK_BARS, count)
        oldest = values[start - period + 1 : stop - period + 1]
        total = np.zeros(stop - start)
        for age in range(period - 2, -1, -1):
            total += values[start - age : stop - age] - oldest
        means[start:stop] = oldest + total / period
    return means


@compiled
def window_deviation(values: Values, means: Values, period: int) -> Values:
    """Returns the sample standard deviation (divisor period - 1) around the windows' `means`."""
    count = len(values)
    deviations = np.full(count, np.nan)
    for start in range(period - 1, count, BLOCK_BARS):
        stop = min(start + BLOCK_BARS, count)
        total = np.zeros(stop - start)
        for age in range(period - 1, -1, -1):
            distance = values[start - age : stop - age] - means[start:stop]
            total += distance * distance
        deviations[start:stop] = np.sqrt(total / (period - 1))
    return deviations


@compiled
def exponential_mean(values: Values, alpha: float, adjust: bool) -> Values:
    """Returns the exponential mean: y = alpha x + (1 - alpha) y(-1), starting at the first value.

    With `adjust`, the weights (1 - alpha)^age are divided by their sum instead, so that the early
    values are true weighted means. A NaN repeats the last mean and ages the past by one bar; before
    the first value the result is NaN. Definition: pandas `ewm(alpha, adjust, ignore_na=False)`.
    """
    count = len(values)
    means = np.full(count, np.nan)
    mean = np.nan
    past_weight = 1.0
    new_weight = 1.0 if adjust else alpha
    for bar in range(count):
        value = values[bar]
        if np.isnan(mean):
            mean = value
        else:
            past_weight *= 1.0 - alpha
            if not np.isnan(value):
                # Without the test a constant series would drift by rounding.
                if mean != value:
                    total = past_weight + new_weight
                    mean = (past_weight * mean + new_weight * value) / total
                past_weight = past_weight + new_weight if adjust else 1.0
        means[bar] = mean
    return means


@compiled
def true_range(high: Values, low: Values, close: Values) -> Values:
    """Returns the greatest of H - L, |H - C(-1)| and |L - C(-1)|; H - L for the first bar.

    A term that is NaN is left out; the result is NaN when all three are.
    """
    count = len(close)
    ranges = np.empty(count)
    for bar in range(count):
        reach = high[bar] - low[bar]
        if bar > 0:
            up = abs(high[bar] - close[bar - 1])
            down = abs(low[bar] - close[bar - 1])
            # `not >=` rather than `<`: it is true, too, when what we have so far is NaN.
            if not reach >= up and not np.isnan(up):
                reach = up
            if not reach >= down and not np.isnan(down):
                reach = down
        ranges[bar] = reach
    return ranges
