"""Oscillators: where the price stands in its recent range, and how it got there.

A range without height says nothing: the price stands in the middle of it.
"""

import math

import numpy as np

from backlane.indicators.extremes import window_max, window_min
from backlane.indicators.parameters import (
    CciParameters,
    FisherParameters,
    RviParameters,
    StochasticParameters,
    WilliamsParameters,
)
from backlane.indicators.settling import span_alpha
from backlane.indicators.windows import (
    Values,
    bars_ago,
    exponential_mean,
    partial_mean,
    quotient,
    window_absolute_deviation,
    window_mean,
)
from backlane.jit import compiled
from backlane.market.bars import BarSeries

_EDGE = 0.999
"""Where the Fisher transform cuts its argument, as it is infinite at 1."""


def _place_in_range(bars: BarSeries, period: int) -> Values:
    """Returns 100 (C - LL) / (HH - LL), 50 where HH = LL; HH and LL of the last `period` bars."""
    highest, lowest = window_max(bars.high, period), window_min(bars.low, period)
    height = highest - lowest
    place = 100.0 * quotient(bars.close - lowest, height)
    return np.where((height == 0.0) & ~np.isnan(bars.close), 50.0, place)


def stochastic(bars: BarSeries, parameters: StochasticParameters) -> tuple[Values, Values]:
    """Returns k, the mean of 100 (C - LL) / (HH - LL), and d, the mean of k. Source: Lane."""
    place = _place_in_range(bars, parameters.k_period)
    k = window_mean(place, parameters.smooth_k)
    return k, window_mean(k, parameters.d_period)


def stochastic_from_start(
    bars: BarSeries, parameters: StochasticParameters
) -> tuple[Values, Values]:
    """Returns k and d with 50 for what is not known, and means of what there is."""
    place = _place_in_range(bars, parameters.k_period)
    k = partial_mean(np.where(np.isnan(place), 50.0, place), parameters.smooth_k)
    return k, partial_mean(k, parameters.d_period)


def williams_range(bars: BarSeries, parameters: WilliamsParameters) -> tuple[Values]:
    """Returns -100 (HH - C) / (HH - LL), in [-100, 0]; -50 where HH = LL."""
    highest, lowest = (
        window_max(bars.high, parameters.period),
        window_min(bars.low, parameters.period),
    )
    height = highest - lowest
    place = -100.0 * quotient(highest - bars.close, height)
    return (np.where((height == 0.0) & ~np.isnan(bars.close), -50.0, place),)


def commodity_channel(bars: BarSeries, parameters: CciParameters) -> tuple[Values]:
    """Returns (T - mean) / (0.015 D), T = (H + L + C) / 3, D the mean distance from the mean.

    NaN where D is 0: no price in the window differs from another. Source: Lambert, 1980.
    """
    typical = (bars.high + bars.low + bars.close) / 3.0
    mean = window_mean(typical, parameters.period)
    deviation = window_absolute_deviation(typical, mean, parameters.period)
    return (quotient(typical - mean, 0.015 * deviation),)


def relative_vigor(bars: BarSeries, parameters: RviParameters) -> tuple[Values, Values]:
    """Returns rvi, the mean of S(C - O) over the mean of S(H - L), and signal, the mean of rvi.

    S(x) = (x + 2 x(-1) + 2 x(-2) + x(-3)) / 6. NaN where no bar has any height.
    """
    body = window_mean(_symmetric(bars.close - bars.open), parameters.period)
    height = window_mean(_symmetric(bars.high - bars.low), parameters.period)
    vigor = quotient(body, height)
    return vigor, window_mean(vigor, parameters.signal_period)


def _symmetric(values: Values) -> Values:
    total = values + 2.0 * bars_ago(values, 1) + 2.0 * bars_ago(values, 2) + bars_ago(values, 3)
    smooth: Values = total / 6.0
    return smooth


def fisher_transform(bars: BarSeries, parameters: FisherParameters) -> tuple[Values, Values]:
    """Returns fisher, the exponential mean of ln((1 + x) / (1 - x)) / 2, and signal = fisher(-1).

    x = 2 (M - LL) / (HH - LL) - 1, M = (H + L) / 2, cut to [-0.999, 0.999]; 0 where HH = LL.
    Source: Ehlers, Stocks & Commodities, 2002; as in ktrdr, the mean is taken of the logarithm, not
    of x before it.
    """
    period = parameters.period
    highest, lowest = window_max(bars.high, period), window_min(bars.low, period)
    middle = (bars.high + bars.low) / 2.0
    raw = _fisher(middle, highest, lowest, period)
    fisher = exponential_mean(raw, span_alpha(parameters.smoothing), False)
    return fisher, bars_ago(fisher, 1)


@compiled
def _fisher(middle: Values, highest: Values, lowest: Values, period: int) -> Values:
    raw = np.full(len(middle), np.nan)
    for bar in range(period - 1, len(middle)):
        height = highest[bar] - lowest[bar]
        if np.isnan(height):
            continue
        place = 2.0 * (middle[bar] - lowest[bar]) / height - 1.0 if height > 0.0 else 0.0
        place = min(max(place, -_EDGE), _EDGE)
        # math.log, as numpy's logarithm differs from the compiled one in the last bit.
        raw[bar] = 0.5 * math.log((1.0 + place) / (1.0 - place))
    return raw
