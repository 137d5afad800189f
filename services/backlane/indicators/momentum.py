"""Momentum: how far and how steadily the price has moved."""

import numpy as np

from backlane.indicators.averages import column
from backlane.indicators.parameters import ChangeParameters, MacdParameters, RsiParameters
from backlane.indicators.settling import span_alpha
from backlane.indicators.windows import Values, bars_ago, exponential_mean, quotient
from backlane.jit import compiled
from backlane.market.bars import BarSeries


def relative_strength(bars: BarSeries, parameters: RsiParameters) -> tuple[Values]:
    """Returns Wilder's RSI, in [0, 100]."""
    return (_wilder_rsi(column(bars, parameters.source), parameters.period),)


@compiled
def _wilder_rsi(values: Values, period: int) -> Values:
    """Returns 100 G / (G + L), G and L being Wilder's means of the gains and of the losses.

    The means start as plain means of the first n changes, then mean = (mean (n - 1) + x) / n.
    Without losses it is 100, without any change 50. A NaN makes everything after it NaN: the means
    have no value any more. Source: Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    count = len(values)
    strength = np.full(count, np.nan)
    gain = 0.0
    loss = 0.0
    for bar in range(1, count):
        change = values[bar] - values[bar - 1]
        if np.isnan(change):
            break
        up = change if change > 0.0 else 0.0
        down = -change if change < 0.0 else 0.0
        if bar <= period:
            gain += up
            loss += down
            if bar < period:
                continue
            gain /= period
            loss /= period
        else:
            gain = (gain * (period - 1) + up) / period
            loss = (loss * (period - 1) + down) / period
        if loss == 0.0:
            strength[bar] = 100.0 if gain > 0.0 else 50.0
        else:
            strength[bar] = 100.0 - 100.0 / (1.0 + gain / loss)
    return strength


def convergence_divergence(
    bars: BarSeries, parameters: MacdParameters
) -> tuple[Values, Values, Values]:
    """Returns line = EWM(fast) - EWM(slow), signal = EWM(line), histogram = line - signal.

    EWM(n) is the recursive exponential mean with alpha = 2 / (n + 1), started at the first value.
    """
    values = column(bars, parameters.source)
    fast = exponential_mean(values, span_alpha(parameters.fast_period), False)
    slow = exponential_mean(values, span_alpha(parameters.slow_period), False)
    line: Values = fast - slow
    signal = exponential_mean(line, span_alpha(parameters.signal_period), False)
    return line, signal, line - signal


def rate_of_change(bars: BarSeries, parameters: ChangeParameters) -> tuple[Values]:
    """Returns 100 (C - C(-n)) / C(-n), in percent; NaN where C(-n) is 0."""
    values = column(bars, parameters.source)
    earlier = bars_ago(values, parameters.period)
    return (100.0 * quotient(values - earlier, earlier),)


def difference(bars: BarSeries, parameters: ChangeParameters) -> tuple[Values]:
    """Returns C - C(-n)."""
    values = column(bars, parameters.source)
    return (values - bars_ago(values, parameters.period),)
