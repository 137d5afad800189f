"""Breakouts, and reversals with what confirms them (SPEC A5)."""

import numpy as np
from numpy.typing import NDArray

from backlane.signals.triggers import (
    BarWindow,
    ReversalQualifier,
    TriggerKind,
    TriggerRules,
    TriggerSignal,
    annual_volatility,
)

BREAKOUT_SHARE = 0.995
REVERSAL_SHARE_MAX = 1.10
RECOVERY_MIN = 0.05
PIVOT_LOOKBACK = 48
PIVOT_BARS = 2
RSI_PERIOD = 14
HOURLY_BOUNCE_BARS = 12
FINE_BOUNCE_BARS = 36
FINE_HOUR_BARS = 12
"""Bars of five minutes in an hour."""


def breakout_or_reversal(
    symbol: str, bars: BarWindow, rules: TriggerRules, fine: BarWindow | None = None
) -> TriggerSignal | None:
    """Detects a close near the high of the look-back, else a recovery from its low.

    A breakout closes at 99.5 % of the high or above. A reversal closes at most 10 % above the low,
    more than 5 % up from it, and the moving average must rise. `fine` are bars of five minutes for
    the qualifiers; without them the hourly ones serve, and the one that needs them is not met.
    """
    if len(bars) < rules.lookback_bars:
        return None
    price = float(bars.close[-1])
    high = float(np.max(bars.high[-rules.lookback_bars :]))
    low = float(np.min(bars.low[-rules.lookback_bars :]))
    if high == low:
        return None
    change = (price - low) / low
    if price >= high * BREAKOUT_SHARE:
        volatility = annual_volatility(bars)
        return TriggerSignal(symbol, TriggerKind.BREAKOUT, 0.7, 0.8, price, change, volatility)
    if price > low * REVERSAL_SHARE_MAX or change <= RECOVERY_MIN:
        return None
    slope = trend_slope(bars.close, rules.trend_period, rules.trend_slope_bars)
    if slope is None or slope < rules.trend_slope_min:
        return None
    qualifiers, metrics = _confirmations(bars, fine, rules)
    return TriggerSignal(
        symbol,
        TriggerKind.REVERSAL,
        min(change / 0.20, 1.0),
        0.6,
        price,
        change,
        annual_volatility(bars),
        qualifiers={**qualifiers, ReversalQualifier.TREND: True},
        metrics={**metrics, "recovery": change, "trend_slope": slope},
    )


def trend_slope(close: NDArray[np.float64], period: int, slope_bars: int) -> float | None:
    """Returns the rise per bar, a fraction, of the exponential average over `slope_bars` bars.

    The average starts as the simple mean of the first `period` closes; None with too few of them.
    """
    if len(close) < period + slope_bars:
        return None
    averages = [float(np.mean(close[:period]))]
    for price in close[period:].tolist():
        averages.append((price - averages[-1]) * 2.0 / (period + 1) + averages[-1])
    before = averages[-1 - slope_bars]
    if before <= 0.0:
        return None
    return (averages[-1] - before) / before / slope_bars


def wilder_rsi(close: NDArray[np.float64], period: int = RSI_PERIOD) -> list[float]:
    """Returns the relative strength index from bar `period` on, in [0, 100] (Wilder, 1978).

    The first mean gain and loss are simple, the next are smoothed; without a loss it is 100.
    """
    changes = np.diff(close)
    if len(changes) < period:
        return []
    gains, losses = np.maximum(changes, 0.0), np.maximum(-changes, 0.0)
    gain, loss = float(np.mean(gains[:period])), float(np.mean(losses[:period]))
    values = []
    for place in range(period, len(changes) + 1):
        values.append(100.0 if loss == 0.0 else 100.0 - 100.0 / (1.0 + gain / loss))
        if place < len(changes):
            gain = (gain * (period - 1) + float(gains[place])) / period
            loss = (loss * (period - 1) + float(losses[place])) / period
    return values


def pivot_lows(low: NDArray[np.float64]) -> list[float]:
    """Returns the lows of the last 48 bars that none of two bars on either side undercuts.

    A later bar must lie above, an earlier one may be equal. The last two bars cannot be known yet.
    """
    seen = low[-PIVOT_LOOKBACK:]
    pivots = []
    for place in range(PIVOT_BARS, len(seen) - PIVOT_BARS):
        before = seen[place - PIVOT_BARS : place]
        after = seen[place + 1 : place + 1 + PIVOT_BARS]
        if bool((seen[place] <= before).all()) and bool((seen[place] < after).all()):
            pivots.append(float(seen[place]))
    return pivots


def _volume_weighted_price(bars: BarWindow) -> float | None:
    total = float(np.sum(bars.volume))
    if total <= 0.0:
        return None
    typical = (bars.high + bars.low + bars.close) / 3.0
    return float(np.sum(typical * bars.volume)) / total


def _confirmations(
    bars: BarWindow, fine: BarWindow | None, rules: TriggerRules
) -> tuple[dict[ReversalQualifier, bool], dict[str, float]]:
    newest = fine if fine is not None and len(fine) else None
    source = newest or bars
    close = float(source.close[-1])
    metrics: dict[str, float] = {}
    average = _volume_weighted_price(newest.last(FINE_HOUR_BARS)) if newest else None
    if average is not None:
        metrics["vwap"] = average
    pivots = pivot_lows(bars.low)
    if len(pivots) >= 2:
        metrics["last_pivot_low"], metrics["previous_pivot_low"] = pivots[-1], pivots[-2]
    rsi = wilder_rsi(source.close)
    if len(rsi) >= 2:
        metrics["rsi"], metrics["previous_rsi"] = rsi[-1], rsi[-2]
    recent = source.last(FINE_BOUNCE_BARS if newest else HOURLY_BOUNCE_BARS)
    floor = float(np.min(recent.low))
    metrics["bounce"] = (close - floor) / floor
    return {
        ReversalQualifier.CLOSE_ABOVE_VWAP: average is not None and close > average,
        ReversalQualifier.HIGHER_LOW: len(pivots) >= 2 and pivots[-1] > pivots[-2],
        ReversalQualifier.RSI_CROSS_50: len(rsi) >= 2 and rsi[-2] <= 50.0 < rsi[-1],
        ReversalQualifier.BOUNCE: metrics["bounce"] >= rules.bounce_min,
    }, metrics
