"""Trend: whether there is one, where it points, and what holds it."""

import numpy as np

from backlane.indicators.extremes import window_max, window_min, window_place_of_max
from backlane.indicators.parameters import AdxParameters, AroonParameters, IchimokuParameters
from backlane.indicators.windows import (
    Values,
    bars_ago,
    exponential_mean,
    quotient,
    true_range,
)
from backlane.market.bars import BarSeries


def directional_movement(bars: BarSeries, parameters: AdxParameters) -> tuple[Values, ...]:
    """Returns adx, plus_di and minus_di, in [0, 100].

    di = 100 M(dm) / M(true range), adx = M(100 |plus - minus| / (plus + minus)), M being Wilder's
    mean, alpha = 1 / period, begun at the first bar. plus dm is H - H(-1) if that is positive and
    more than L(-1) - L, minus dm the other way round. 0 where a divisor is 0. Source: Wilder, 1978.
    """
    alpha = 1.0 / parameters.period
    up = bars.high - bars_ago(bars.high, 1)
    down = bars_ago(bars.low, 1) - bars.low
    plus_move = np.where((up > down) & (up > 0.0), up, 0.0)
    minus_move = np.where((down > up) & (down > 0.0), down, 0.0)
    reach = exponential_mean(true_range(bars.high, bars.low, bars.close), alpha, False)
    plus = 100.0 * _or_zero(exponential_mean(plus_move, alpha, False), reach)
    minus = 100.0 * _or_zero(exponential_mean(minus_move, alpha, False), reach)
    direction = 100.0 * _or_zero(np.abs(plus - minus), plus + minus)
    return exponential_mean(direction, alpha, False), plus, minus


def _or_zero(dividend: Values, divisor: Values) -> Values:
    share = quotient(dividend, divisor)
    return np.where(np.isnan(share), 0.0, share)


def aroon(bars: BarSeries, parameters: AroonParameters) -> tuple[Values, Values, Values]:
    """Returns up = 100 p / n, down = 100 q / n and oscillator = up - down, n being the period.

    p is the place of the highest high among the last n bars, q that of the lowest low; place n is
    the newest bar, and of equal ones the oldest counts. The range is [100 / n, 100]; that of
    Chande, over n + 1 bars, is [0, 100].
    """
    up = 100.0 * window_place_of_max(bars.high, parameters.period) / parameters.period
    down = 100.0 * window_place_of_max(-bars.low, parameters.period) / parameters.period
    return up, down, up - down


def ichimoku(bars: BarSeries, parameters: IchimokuParameters) -> tuple[Values, ...]:
    """Returns tenkan, kijun, senkou_a, senkou_b and chikou, none of them moved in time.

    Tenkan, kijun and senkou_b are (HH + LL) / 2 of their windows, senkou_a is the mean of the first
    two, and chikou is the close: drawn ahead or back on a chart, they are known at this bar.
    """
    tenkan = _middle(bars, parameters.tenkan_period)
    kijun = _middle(bars, parameters.kijun_period)
    senkou_b = _middle(bars, parameters.senkou_b_period)
    return tenkan, kijun, (tenkan + kijun) / 2.0, senkou_b, bars.close.copy()


def _middle(bars: BarSeries, period: int) -> Values:
    middle: Values = (window_max(bars.high, period) + window_min(bars.low, period)) / 2.0
    return middle
