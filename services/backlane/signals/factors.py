"""The core factors of a panel (SPEC B2), which multifactor strategies rank instruments by.

Each is one array (times, symbols), NaN where an instrument has no bar or too few of them. FACTORS
look back alone. FORWARD_FACTORS are the returns that follow: they exist to redo results that were
made with them by mistake (SPEC C2, Q8), and for labels; nothing can trade on them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from backlane.panel.panel import Panel
from backlane.signals.technical import average_true_range, log_return, simple_mean
from backlane.signals.windows import (
    Values,
    each_symbol,
    earlier,
    rolling_deviation,
    rolling_mean,
)

SESSIONS_PER_MONTH = 21
SESSIONS_PER_YEAR = 252
TREND_RANGE_PERIOD = 20
Z_PERIOD = 60
Z_MINIMUM = 10

Factor = Callable[[Panel], Values]


def trailing_return(panel: Panel, far_bars: int, near_bars: int = 0) -> Values:
    """Returns ln(C(-near) / C(-far)): the return that ended `near_bars` bars ago.

    With closes 100, 110, 121, far 2 and near 1, the last value is ln(110 / 100).
    """

    def one(close: Values) -> Values:
        return np.log(earlier(close, near_bars) / earlier(close, far_bars))

    return each_symbol(one, panel.close)


def forward_return(panel: Panel, far_bars: int, near_bars: int = 0) -> Values:
    """Returns ln(C(+far) / C(+near)), which is not known at the bar: never trade on it."""

    def one(close: Values) -> Values:
        later = close[::-1]
        return np.log(earlier(later, far_bars) / earlier(later, near_bars))[::-1]

    return each_symbol(one, panel.close)


def trend_strength(panel: Panel, period: int) -> Values:
    """Returns (C - mean of `period` closes) / ATR of 20 bars; NaN where nothing has moved."""
    distance = panel.close - simple_mean(panel, period)
    span = average_true_range(panel, TREND_RANGE_PERIOD)
    strength = np.full(span.shape, np.nan)
    np.divide(distance, span, out=strength, where=span > 0.0)
    return strength


def reversal(panel: Panel, bars: int) -> Values:
    """Returns how unusual the return of the last `bars` bars is: its z-score over 60 of them.

    The return is C / C(-bars) - 1.
    """
    return each_symbol(lambda close: _z_score(close / earlier(close, bars) - 1.0), panel.close)


def volume_z_score(panel: Panel) -> Values:
    """Returns the z-score of the volume over 60 bars; NaN throughout where there is no volume."""
    if panel.volume is None:
        return np.full(panel.close.shape, np.nan)
    return each_symbol(lambda _, volume: _z_score(volume), panel.close, panel.volume)


def _z_score(values: Values) -> Values:
    """Returns (x - mean) / sample deviation over the last 60 values, itself included.

    It is 0, nothing unusual, with fewer than 10 values or without any deviation.
    """
    mean = rolling_mean(values, Z_PERIOD, Z_MINIMUM)
    deviation = rolling_deviation(values, Z_PERIOD, Z_MINIMUM)
    scores = np.zeros(len(values))
    np.divide(values - mean, deviation, out=scores, where=deviation > 0.0)
    return scores


def realized_volatility(panel: Panel, period: int) -> Values:
    """Returns the sample deviation of the last `period` log returns * sqrt(252), a fraction a year.

    It takes min(5, period / 4) returns at least.
    """
    minimum = min(5, period // 4)
    daily = each_symbol(
        lambda _, change: rolling_deviation(change, period, minimum),
        panel.close,
        log_return(panel),
    )
    yearly: Values = daily * np.sqrt(float(SESSIONS_PER_YEAR))
    return yearly


def spread_proxy(panel: Panel) -> Values:
    """Returns (H - L) / C, a fraction: how wide the bar is."""
    return (panel.high - panel.low) / panel.close


def _returns(function: Callable[..., Values], prefix: str) -> dict[str, Factor]:
    """Returns the factors made of returns, by name."""
    months = {
        f"{prefix}returns_{months}m": partial(function, far_bars=months * SESSIONS_PER_MONTH)
        for months in (1, 3, 6, 12)
    }
    momentum = partial(function, far_bars=SESSIONS_PER_YEAR, near_bars=SESSIONS_PER_MONTH)
    return {**months, f"{prefix}momentum_12m_excl_1m": momentum}


FACTORS: Mapping[str, Factor] = MappingProxyType(
    {
        **_returns(trailing_return, ""),
        **{f"trend_strength_{n}": partial(trend_strength, period=n) for n in (20, 50, 200)},
        **{f"reversal_{n}d": partial(reversal, bars=n) for n in (1, 2, 3)},
        **{f"rv_{n}": partial(realized_volatility, period=n) for n in (20, 60)},
        "volume_zscore": volume_z_score,
        "spread_proxy": spread_proxy,
    }
)
"""Every factor that looks back alone, by the name that bundles of factors use."""

FORWARD_FACTORS: Mapping[str, Factor] = MappingProxyType(_returns(forward_return, "forward_"))
"""The returns that follow a bar, under names that say so; no bundle finds them in FACTORS."""
