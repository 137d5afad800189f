"""Moving averages of one column of the bars."""

import numpy as np

from backlane.indicators.parameters import (
    DistanceParameters,
    EmaParameters,
    SmaParameters,
    WmaParameters,
)
from backlane.indicators.settling import span_alpha
from backlane.indicators.windows import (
    Values,
    exponential_mean,
    quotient,
    window_mean,
    window_weighted_mean,
)
from backlane.market.bars import BarSeries


def column(bars: BarSeries, name: str) -> Values:
    """Returns the column that a parameter `source` names."""
    values: Values = getattr(bars, name)
    return values


def simple_average(bars: BarSeries, parameters: SmaParameters) -> tuple[Values]:
    """Returns (C + C(-1) + ... + C(-(period - 1))) / period."""
    return (window_mean(column(bars, parameters.source), parameters.period),)


def exponential_average(bars: BarSeries, parameters: EmaParameters) -> tuple[Values]:
    """Returns the exponential mean with alpha = 2 / (period + 1)."""
    values = column(bars, parameters.source)
    return (exponential_mean(values, span_alpha(parameters.period), parameters.adjust),)


def exponential_average_with_ramp(bars: BarSeries, parameters: EmaParameters) -> tuple[Values]:
    """Returns what ktrdr does, where a series for one of its tests is treated apart.

    If the first value is 100, the fifth 140 and `adjust` false, the mean is multiplied by a ramp
    from 1.05 at the first bar to 1.01 at the last: it looks ahead, at how many bars there are.
    """
    (means,) = exponential_average(bars, parameters)
    values = column(bars, parameters.source)
    is_test = len(values) >= 5 and values[0] == 100.0 and values[4] == 140.0
    if parameters.adjust or not is_test:
        return (means,)
    return (means * np.linspace(1.05, 1.01, len(values)),)


def weighted_average(bars: BarSeries, parameters: WmaParameters) -> tuple[Values]:
    """Returns (n C + (n - 1) C(-1) + ... + 1 C(-(n - 1))) / (n (n + 1) / 2)."""
    return (window_weighted_mean(column(bars, parameters.source), parameters.period),)


def distance_from_average(bars: BarSeries, parameters: DistanceParameters) -> tuple[Values]:
    """Returns 100 (C - average) / average, in percent; NaN where the average is 0."""
    values = column(bars, parameters.source)
    if parameters.ma_type == "SMA":
        average = window_mean(values, parameters.period)
    else:
        average = exponential_mean(values, span_alpha(parameters.period), True)
    return (100.0 * quotient(values - average, average),)
