"""Stops that follow the price, and jump to its other side when it breaks through them.

Where such a stop stands depends on every bar since the first one that was loaded.
"""

import numpy as np

from backlane.indicators.parameters import SarParameters, SupertrendParameters
from backlane.indicators.windows import Values, true_range, window_mean
from backlane.jit import compiled
from backlane.market.bars import BarSeries


def supertrend(bars: BarSeries, parameters: SupertrendParameters) -> tuple[Values, Values]:
    """Returns trend, the band that holds, and direction, 1 above the lower and -1 below the upper.

    The bands are (H + L) / 2 +- m ATR, ATR being the plain mean of true ranges. A band only comes
    nearer to the price, until a close is beyond it. The first bar with an ATR is in a rise.
    """
    reach = window_mean(true_range(bars.high, bars.low, bars.close), parameters.period)
    return _supertrend(bars.high, bars.low, bars.close, parameters.multiplier * reach)


@compiled
def _supertrend(high: Values, low: Values, close: Values, half: Values) -> tuple[Values, Values]:
    count = len(close)
    trend = np.full(count, np.nan)
    direction = np.full(count, np.nan)
    upper = np.nan
    lower = np.nan
    is_rise = True
    last_close = np.nan
    for bar in range(count):
        if np.isnan(half[bar]) or np.isnan(close[bar]):
            continue
        middle = (high[bar] + low[bar]) / 2.0
        # `not <=` and `not >=` are true, too, for the NaN before the first band.
        if not middle + half[bar] >= upper or last_close > upper:
            upper = middle + half[bar]
        if not middle - half[bar] <= lower or last_close < lower:
            lower = middle - half[bar]
        is_rise = close[bar] >= lower if is_rise else close[bar] > upper
        trend[bar] = lower if is_rise else upper
        direction[bar] = 1.0 if is_rise else -1.0
        last_close = close[bar]
    return trend, direction


def supertrend_that_never_starts(
    bars: BarSeries, parameters: SupertrendParameters
) -> tuple[Values, Values]:
    """Returns what ktrdr does: its bands start from NaN, and stay there."""
    del parameters  # which change nothing
    return np.full(len(bars), np.nan), np.ones(len(bars))


def parabolic_stop(bars: BarSeries, parameters: SarParameters) -> tuple[Values]:
    """Returns the parabolic stop and reverse; the first bar has none.

    The second bar's stop is the first low if the close has risen, else the first high. Then stop +=
    af (EP - stop), EP being the extreme of the move; if the bar reaches the stop, the stop becomes
    EP and the move turns round. Otherwise the stop stays outside the last two bars, and af grows by
    a step at every new extreme. Source: Wilder, 1978, with the reversal before the limit.
    """
    accelerations = (parameters.initial_af, parameters.step_af, parameters.max_af)
    return (_parabolic_stop(bars.high, bars.low, bars.close, *accelerations),)


@compiled
def _parabolic_stop(
    high: Values, low: Values, close: Values, initial: float, step: float, limit: float
) -> Values:
    count = len(close)
    stops = np.full(count, np.nan)
    if count < 2:
        return stops
    is_rise = bool(close[1] > close[0])
    stop = low[0] if is_rise else high[0]
    extreme = high[1] if is_rise else low[1]
    acceleration = initial
    stops[1] = stop
    for bar in range(2, count):
        stop += acceleration * (extreme - stop)
        if (is_rise and low[bar] <= stop) or (not is_rise and high[bar] >= stop):
            is_rise = not is_rise
            stop = extreme
            extreme = high[bar] if is_rise else low[bar]
            acceleration = initial
        elif is_rise:
            stop = min(stop, low[bar - 1], low[bar - 2])
            if high[bar] > extreme:
                extreme = high[bar]
                acceleration = min(acceleration + step, limit)
        else:
            stop = max(stop, high[bar - 1], high[bar - 2])
            if low[bar] < extreme:
                extreme = low[bar]
                acceleration = min(acceleration + step, limit)
        stops[bar] = stop
    return stops
