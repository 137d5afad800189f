"""Volatility: how wide the price swings."""

import numpy as np

from backlane.indicators.averages import column
from backlane.indicators.parameters import AtrParameters, BollingerParameters
from backlane.indicators.windows import Values, true_range, window_deviation, window_mean
from backlane.jit import compiled
from backlane.market.bars import BarSeries


def average_true_range(bars: BarSeries, parameters: AtrParameters) -> tuple[Values]:
    """Returns the plain mean of the last `period` true ranges (not Wilder's mean of them)."""
    return (window_mean(true_range(bars.high, bars.low, bars.close), parameters.period),)


def bollinger_bands(
    bars: BarSeries, parameters: BollingerParameters
) -> tuple[Values, Values, Values]:
    """Returns upper, middle and lower: mean + m s, mean, mean - m s, s with divisor period - 1."""
    values = column(bars, parameters.source)
    middle = window_mean(values, parameters.period)
    half = parameters.multiplier * window_deviation(values, middle, parameters.period)
    return middle + half, middle, middle - half


def bollinger_width(bars: BarSeries, parameters: BollingerParameters) -> tuple[Values]:
    """Returns (upper - lower) / middle."""
    upper, middle, lower = bollinger_bands(bars, parameters)
    return (_relative_width(upper, middle, lower),)


@compiled
def _relative_width(upper: Values, middle: Values, lower: Values) -> Values:
    """Returns (upper - lower) / middle, NaN where the middle is 0, as with a source of volume."""
    widths = np.full(len(middle), np.nan)
    for bar in range(len(middle)):
        if middle[bar] != 0.0:
            widths[bar] = (upper[bar] - lower[bar]) / middle[bar]
    return widths
