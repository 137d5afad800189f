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
def window_sum(values: Values, period: int) -> Values:
    """Returns the sum of the last `period` values, oldest first."""
    count = len(values)
    sums = np.full(count, np.nan)
    for start in range(period - 1, count, BLOCK_BARS):
        stop = min(start + BLOCK_BARS, count)
        total = np.zeros(stop - start)
        for age in range(period - 1, -1, -1):
            total += values[start - age : stop - age]
        sums[start:stop] = total
    return sums


@compiled
def window_weighted_mean(values: Values, period: int) -> Values:
    """Returns the mean of the last `period` values with weights 1, 2, ... period, newest heaviest.

    mean = x0 + sum(w (x - x0)) / sum(w), x0 being the oldest value, as in `window_mean`.
    """
    count = len(values)
    means = np.full(count, np.nan)
    for start in range(period - 1, count, BLOCK_BARS):
        stop = min(start + BLOCK_BARS, count)
        oldest = values[start - period + 1 : stop - period + 1]
        total = np.zeros(stop - start)
        for age in range(period - 2, -1, -1):
            total += (period - age) * (values[start - age : stop - age] - oldest)
        means[start:stop] = oldest + total / (period * (period + 1) / 2)
    return means


@compiled
def window_absolute_deviation(values: Values, means: Values, period: int) -> Values:
    """Returns the mean distance of the last `period` values from the windows' `means`."""
    count = len(values)
    deviations = np.full(count, np.nan)
    for start in range(period - 1, count, BLOCK_BARS):
        stop = min(start + BLOCK_BARS, count)
        total = np.zeros(stop - start)
        for age in range(period - 1, -1, -1):
            total += np.abs(values[start - age : stop - age] - means[start:stop])
        deviations[start:stop] = total / period
    return deviations


def partial_sum(values: Values, period: int) -> Values:
    """Returns the sum of those of the last `period` values that are there; NaN without any."""
    sums, counts = _partial_sum(values, period)
    return np.where(counts > 0, sums, np.nan)


def partial_mean(values: Values, period: int, least: int = 1) -> Values:
    """Returns the mean of those of the last `period` values that are there.

    NaN where they are fewer than `least`.
    """
    sums, counts = _partial_sum(values, period)
    return np.where(counts >= least, quotient(sums, counts), np.nan)


@compiled
def _partial_sum(values: Values, period: int) -> tuple[Values, Values]:
    count = len(values)
    sums = np.zeros(count)
    counts = np.zeros(count)
    for bar in range(count):
        for other in range(max(0, bar - period + 1), bar + 1):
            if not np.isnan(values[other]):
                sums[bar] += values[other]
                counts[bar] += 1.0
    return sums, counts


def bars_ago(values: Values, distance: int) -> Values:
    """Returns the value `distance` bars before each bar; NaN where there is none."""
    earlier = np.full(len(values), np.nan)
    earlier[distance:] = values[: max(0, len(values) - distance)]
    return earlier


def last_known(values: Values) -> Values:
    """Returns each value, and for a NaN the last value before it."""
    places = np.where(np.isnan(values), 0, np.arange(len(values)))
    known: Values = values[np.maximum.accumulate(places)]
    return known


def quotient(dividend: Values, divisor: Values) -> Values:
    """Returns dividend / divisor, NaN where the divisor is 0."""
    quotients = np.full(len(dividend), np.nan)
    np.divide(dividend, divisor, out=quotients, where=divisor != 0.0)
    return quotients


def running_sum(values: Values) -> Values:
    """Returns the sum of all values so far. A NaN adds nothing, and stays NaN itself."""
    missing = np.isnan(values)
    return np.where(missing, np.nan, np.cumsum(np.where(missing, 0.0, values)))


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
