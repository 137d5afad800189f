"""The detectors of triggers and their guards, compiled (SPEC A5).

Each looks at the bars [start, stop) of one instrument, oldest first, the newest at stop - 1: what
lies after it cannot matter. Deviations from the reference: a price move keeps its sign (SPEC C1
Q2), so that `only_upside` drops falls too. As in the reference, the look-back of breakout and
volume spike includes the last bar.
"""

import math

import numpy as np
from numpy.typing import NDArray

from backlane.jit import compiled, kernel
from backlane.signals.price_regime import HOURS_PER_YEAR, LOOKBACK_BARS

Series = NDArray[np.float64]

PRICE_MOVE_BARS_MIN = 60
MOVE_BARS = 4
DAY_BARS = 24
MOMENTUM_MIN = 0.02
MOMENTUM_FULL = 0.10
AGREEING_BARS = 12
ATR_PERIOD = 14
VOLATILITY_MAX = 2.0
VOLATILITY_UNKNOWN = 0.5
BREAKOUT_SHARE = 0.995
REVERSAL_SHARE_MAX = 1.10
RECOVERY_MIN = 0.05
RECOVERY_FULL = 0.20
PIVOT_LOOKBACK = 48
PIVOT_BARS = 2
RSI_PERIOD = 14


@kernel
def window_mean(values: Series, start: int, stop: int) -> float:
    """Returns the mean of the values [start, stop), summed from the oldest."""
    total = 0.0
    for place in range(start, stop):
        total += values[place]
    return total / (stop - start)


@kernel
def is_outlier(
    close: Series,
    volume: Series,
    start: int,
    stop: int,
    period: int,
    deviation: float,
    volume_ratio: float,
) -> bool:
    """Tells whether the last close stands alone, far from the mean of those before, and untraded.

    Far is more than `deviation` of the mean of the `period` closes before it, untraded a volume
    below `volume_ratio` of their mean volume.
    """
    if stop - start < period + 1:
        return False
    mean = window_mean(close, stop - 1 - period, stop - 1)
    if mean <= 0.0 or abs(close[stop - 1] - mean) / mean <= deviation:
        return False
    mean_volume = window_mean(volume, stop - 1 - period, stop - 1)
    return mean_volume > 0.0 and volume[stop - 1] / mean_volume < volume_ratio


@kernel
def atr_fraction(high: Series, low: Series, close: Series, place: int, period: int) -> float:
    """Returns the simple mean of `period` true ranges over the close, at a bar >= period."""
    total = 0.0
    for bar in range(place - period + 1, place + 1):
        before = close[bar - 1]
        spread = max(high[bar] - low[bar], abs(high[bar] - before))
        total += max(spread, abs(low[bar] - before))
    return total / period / float(close[place])


@kernel
def _insert(ordered: Series, count: int, value: float) -> None:
    """Puts a value into the first `count` places, which grow."""
    place = count
    while place > 0 and ordered[place - 1] > value:
        ordered[place] = ordered[place - 1]
        place -= 1
    ordered[place] = value


@kernel
def _remove(ordered: Series, count: int, value: float) -> None:
    """Takes a value out of the first `count` places, which grow."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    for place in range(low, count - 1):
        ordered[place] = ordered[place + 1]


@compiled
def atr_ratios(high: Series, low: Series, close: Series) -> Series:
    """Returns each bar's ATR over the upper median of those before it in its last 168 bars.

    Infinite where nothing can be told: with fewer than two periods of bars, or a median of 0.
    """
    atr = np.empty(len(close))
    ordered = np.empty(LOOKBACK_BARS)
    count = 0
    ratios = np.full(len(close), math.inf)
    for place in range(ATR_PERIOD, len(close)):
        atr[place] = atr_fraction(high, low, close, place, ATR_PERIOD)
        oldest = max(0, place + 1 - LOOKBACK_BARS) + ATR_PERIOD
        if place > ATR_PERIOD:
            _insert(ordered, count, atr[place - 1])
            count += 1
        if oldest > ATR_PERIOD:
            _remove(ordered, count, atr[oldest - 1])
            count -= 1
        if place + 1 >= 2 * ATR_PERIOD and ordered[count // 2] > 0.0:
            ratios[place] = atr[place] / ordered[count // 2]
    return ratios


@kernel
def annual_volatility(close: Series, start: int, stop: int) -> float:
    """Returns the annualized population deviation of up to 168 hourly returns, at most 2.0.

    With fewer than 24 bars nothing can be told: 0.5.
    """
    if stop - start < DAY_BARS:
        return VOLATILITY_UNKNOWN
    first = max(start, stop - LOOKBACK_BARS - 1) + 1
    total = 0.0
    for place in range(first, stop):
        total += close[place] / close[place - 1] - 1.0
    mean = total / (stop - first)
    squares = 0.0
    for place in range(first, stop):
        off = close[place] / close[place - 1] - 1.0 - mean
        squares += off * off
    deviation = math.sqrt(squares / (stop - first))
    return min(deviation * math.sqrt(HOURS_PER_YEAR), VOLATILITY_MAX)


@kernel
def recent_moves(close: Series, start: int, stop: int) -> tuple[float, float]:
    """Returns the largest of the last four hourly returns and the last one, signed fractions.

    The largest in absolute terms, the newest where two are equal; NaN with fewer than 60 bars.
    """
    if stop - start < PRICE_MOVE_BARS_MIN:
        return math.nan, math.nan
    last = close[stop - 1] / close[stop - 2] - 1.0
    largest = last
    for back in range(1, MOVE_BARS):
        change = close[stop - 1 - back] / close[stop - 2 - back] - 1.0
        if abs(change) > abs(largest):
            largest = change
    return largest, last


@kernel
def price_move(
    largest: float, last: float, sharp_move: float, hourly_move: float, only_upside: bool
) -> tuple[float, float, float]:
    """Returns strength, confidence and change of a large hourly return; strength 0 for none.

    The change is that of the largest when it reaches `sharp_move`, else that of the last.
    """
    is_sharp = abs(largest) >= sharp_move
    is_hourly = abs(last) >= hourly_move
    change = largest if is_sharp else last
    if not (is_sharp or is_hourly) or (only_upside and change < 0.0):
        return 0.0, 0.0, change
    if is_sharp:
        return (0.8, 0.85, change) if is_hourly else (0.6, 0.7, change)
    return 0.7, 0.75, change


@kernel
def volume_ratio(volume: Series, start: int, stop: int) -> float:
    """Returns the last volume over the mean of 24 bars, itself included; NaN where there is none.

    The strength of a spike is (ratio - 1) / 3 and its confidence ratio / 4, both at most 1.
    """
    if stop - start < DAY_BARS:
        return math.nan
    mean = window_mean(volume, stop - DAY_BARS, stop)
    return volume[stop - 1] / mean if mean > 0.0 else math.nan


@kernel
def momentum(
    close: Series, start: int, stop: int, only_upside: bool, only_downside: bool
) -> tuple[float, float, float]:
    """Returns strength, confidence and change of a return of 2 % over 24 closes; strength 0: none.

    Confidence is the share of the last 12 hourly returns that go the same way.
    """
    if stop - start < DAY_BARS:
        return 0.0, 0.0, math.nan
    change = close[stop - 1] / close[stop - DAY_BARS] - 1.0
    is_up = change > 0.0
    is_unwanted = (only_upside and change < 0.0) or (only_downside and is_up)
    if not abs(change) >= MOMENTUM_MIN or is_unwanted:
        return 0.0, 0.0, change
    agreeing = 0
    for place in range(stop - AGREEING_BARS, stop):
        agreeing += (close[place] / close[place - 1] - 1.0 > 0.0) == is_up
    return min(abs(change) / MOMENTUM_FULL, 1.0), agreeing / AGREEING_BARS, change


@kernel
def price_range(high: Series, low: Series, stop: int, bars: int) -> tuple[float, float]:
    """Returns the highest high and the lowest low of the last bars."""
    highest, lowest = high[stop - 1], low[stop - 1]
    for place in range(stop - bars, stop - 1):
        highest = max(highest, high[place])
        lowest = min(lowest, low[place])
    return highest, lowest


@kernel
def trend_slope(close: Series, start: int, stop: int, period: int, slope_bars: int) -> float:
    """Returns the rise per bar, a fraction, of the exponential average over `slope_bars` bars.

    The average starts as the simple mean of the first `period` closes; NaN with too few of them.
    """
    if stop - start < period + slope_bars:
        return math.nan
    average = window_mean(close, start, start + period)
    before = average
    for place in range(start + period, stop):
        average = (close[place] - average) * 2.0 / (period + 1) + average
        if place == stop - 1 - slope_bars:
            before = average
    if before <= 0.0:
        return math.nan
    return (average - before) / before / slope_bars


@kernel
def wilder_rsi(close: Series, start: int, stop: int, period: int) -> tuple[float, float]:
    """Returns the relative strength index at the bar before the last and at the last, in [0, 100].

    The first mean gain and loss are simple, the next are smoothed (Wilder, 1978); without a loss it
    is 100. NaN with fewer than `period` + 2 bars.
    """
    if stop - start < period + 2:
        return math.nan, math.nan
    gain = loss = 0.0
    before = now = math.nan
    for place in range(start + 1, stop):
        change = close[place] - close[place - 1]
        up, down = max(change, 0.0), max(-change, 0.0)
        if place <= start + period:
            gain += up / period
            loss += down / period
        else:
            gain = (gain * (period - 1) + up) / period
            loss = (loss * (period - 1) + down) / period
        if place >= stop - 2:
            before, now = now, 100.0 if loss == 0.0 else 100.0 - 100.0 / (1.0 + gain / loss)
    return before, now


@kernel
def pivot_lows(low: Series, start: int, stop: int) -> tuple[float, float]:
    """Returns the last but one and the last low that none of two bars on either side undercuts.

    Of the last 48 bars; a later bar must lie above, an earlier one may be equal. The last two bars
    cannot be known yet. NaN where there is none.
    """
    before = last = math.nan
    for place in range(max(start, stop - PIVOT_LOOKBACK) + PIVOT_BARS, stop - PIVOT_BARS):
        is_pivot = True
        for away in range(1, PIVOT_BARS + 1):
            if low[place] > low[place - away] or low[place] >= low[place + away]:
                is_pivot = False
        if is_pivot:
            before, last = last, low[place]
    return before, last


@kernel
def volume_weighted_price(
    high: Series, low: Series, close: Series, volume: Series, start: int, stop: int
) -> float:
    """Returns the mean of the typical price (h + l + c) / 3 by volume; NaN without any volume."""
    total = value = 0.0
    for place in range(start, stop):
        total += volume[place]
        value += (high[place] + low[place] + close[place]) / 3.0 * volume[place]
    return value / total if total > 0.0 else math.nan


@kernel
def bounce(low: Series, close: Series, start: int, stop: int, bars: int) -> float:
    """Returns by which fraction the last close lies above the lowest low of the last bars."""
    floor = float(low[stop - 1])
    for place in range(max(start, stop - bars), stop):
        floor = min(floor, low[place])
    return (float(close[stop - 1]) - floor) / floor
