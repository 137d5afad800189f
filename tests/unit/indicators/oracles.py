"""What TA-Lib gives for each indicator, one entry for each of its outputs; or why it gives none.

`t` is TA-Lib's module, `b` the bars. Where TA-Lib has no function of the same definition, it is put
together from its plain ones (SUM, SMA, MAX, MIDPRICE ...), which are as independent of ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.market.bars import BarSeries

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Oracle:
    """What gives the outputs of an indicator, and which of TA-Lib's functions that takes.

    `functions` and `remark` stand in docs/features.md.
    """

    indicator: str
    functions: str
    outputs: Callable[[Any, BarSeries], tuple[Values, ...]]
    remark: str = ""
    given: dict[str, Any] = field(default_factory=dict)


def bollinger_bands(t: Any, b: BarSeries) -> tuple[Values, ...]:
    wider = 2.0 * (20 / 19) ** 0.5
    return tuple(t.BBANDS(b.close, 20, wider, wider))


def bollinger_width(t: Any, b: BarSeries) -> tuple[Values, ...]:
    upper, middle, lower = bollinger_bands(t, b)
    return ((upper - lower) / middle,)


def mean_range(t: Any, b: BarSeries, period: int) -> Values:
    ranges = t.TRANGE(b.high, b.low, b.close)
    ranges[0] = b.high[0] - b.low[0]  # TA-Lib has none where there is no close before
    return np.asarray(t.SMA(ranges, period))


def keltner_channels(t: Any, b: BarSeries, atr_period: int = 10) -> tuple[Values, ...]:
    middle, wide = t.EMA(b.close, 20), 2.0 * mean_range(t, b, atr_period)
    return middle + wide, middle, middle - wide


def squeeze(t: Any, b: BarSeries) -> tuple[Values, ...]:
    band_top, _, band_bottom = bollinger_bands(t, b)
    top, _, bottom = keltner_channels(t, b)
    free = np.minimum(top - band_top, band_bottom - bottom) / (top - bottom)
    return (np.where(np.isnan(free), np.nan, np.maximum(free, 0.0)),)


def directional_movement(t: Any, b: BarSeries) -> tuple[Values, ...]:
    return tuple(f(b.high, b.low, b.close, 14) for f in (t.ADX, t.PLUS_DI, t.MINUS_DI))


def aroon(t: Any, b: BarSeries) -> tuple[Values, ...]:
    # Of n bars, TA-Lib's AROON(n - 1) scales the place of the extreme from 0, we from 100 / n.
    down, up = ((13 * scaled / 100 + 1) / 14 * 100 for scaled in t.AROON(b.high, b.low, 13))
    return up, down, up - down


def ichimoku(t: Any, b: BarSeries) -> tuple[Values, ...]:
    tenkan, kijun, senkou_b = (t.MIDPRICE(b.high, b.low, period) for period in (9, 26, 52))
    return tenkan, kijun, (tenkan + kijun) / 2, senkou_b, b.close


def donchian_channels(t: Any, b: BarSeries) -> tuple[Values, ...]:
    return t.MAX(b.high, 20), t.MIDPRICE(b.high, b.low, 20), t.MIN(b.low, 20)


def relative_vigor(t: Any, b: BarSeries) -> tuple[Values, ...]:
    def swma(values: Values) -> Any:
        return t.SMA(t.SMA(values, 3), 2)  # weights 1 2 2 1, over 6

    rvi = t.SMA(swma(b.close - b.open), 10) / t.SMA(swma(b.high - b.low), 10)
    return rvi, t.SMA(rvi, 4)


def fisher_transform(t: Any, b: BarSeries) -> tuple[Values, ...]:
    highest, lowest = t.MAX(b.high, 10), t.MIN(b.low, 10)
    place = 2 * (t.MEDPRICE(b.high, b.low) - lowest) / (highest - lowest) - 1
    cut = np.clip(place, -0.999, 0.999)
    fisher = t.EMA(t.LN((1 + cut) / (1 - cut)) / 2, 3)
    return fisher, np.concatenate(([np.nan], fisher[:-1]))


def weighted_price(t: Any, b: BarSeries) -> tuple[Values, ...]:
    traded = t.TYPPRICE(b.high, b.low, b.close) * b.volume
    return (t.SUM(traded, 20) / t.SUM(b.volume, 20),)


def flow(t: Any, b: BarSeries) -> Values:
    """Returns the money flow of each bar: what it adds to TA-Lib's A/D line."""
    return np.diff(t.AD(b.high, b.low, b.close, b.volume), prepend=0.0)


def money_flow(t: Any, b: BarSeries) -> tuple[Values, ...]:
    of_bars = flow(t, b)
    cmf = t.SUM(of_bars, 21) / t.SUM(b.volume, 21)
    signal = t.EMA(cmf, 9)
    sides = ((cmf > 0).astype(float), (cmf < 0).astype(float))
    above, below = (np.where(np.isnan(cmf), np.nan, side) for side in sides)
    return (
        cmf, of_bars / b.volume, of_bars, t.MOM(cmf, 5), signal, cmf - signal, above, below
    )  # fmt: skip


def distribution_line(t: Any, b: BarSeries) -> tuple[Values, ...]:
    line, of_bars = t.AD(b.high, b.low, b.close, b.volume), flow(t, b)
    strength = 100 * (line / t.SMA(line, 50) - 1)
    return line, of_bars / b.volume, of_bars, t.ROC(line, 10), t.MOM(line, 21), strength


def distance(t: Any, b: BarSeries) -> tuple[Values, ...]:
    average = t.SMA(b.close, 20)
    return (100 * (b.close - average) / average,)


ORACLES: tuple[Oracle, ...] = (
    Oracle("rsi", "RSI", lambda t, b: (t.RSI(b.close, 14),)),
    Oracle("macd", "MACD", lambda t, b: t.MACD(b.close, 12, 26, 9), "once settled"),
    Oracle("roc", "ROC", lambda t, b: (t.ROC(b.close, 10),)),
    Oracle("momentum", "MOM", lambda t, b: (t.MOM(b.close, 10),)),
    Oracle("stochastic", "STOCH", lambda t, b: t.STOCH(b.high, b.low, b.close, 14, 3, 0, 3, 0)),
    Oracle("williamsr", "WILLR", lambda t, b: (t.WILLR(b.high, b.low, b.close, 14),)),
    Oracle("cci", "CCI", lambda t, b: (t.CCI(b.high, b.low, b.close, 20),)),
    Oracle("rvi", "SMA", relative_vigor, "put together: SMA 3 of SMA 2 has the weights 1 2 2 1"),
    Oracle("fishertransform", "MAX, MIN, MEDPRICE, LN, EMA", fisher_transform, "put together"),
    Oracle("sma", "SMA", lambda t, b: (t.SMA(b.close, 20),)),
    Oracle("ema", "EMA", lambda t, b: (t.EMA(b.close, 20),), "once settled", {"adjust": False}),
    Oracle("wma", "WMA", lambda t, b: (t.WMA(b.close, 20),)),
    Oracle("distancefromma", "SMA", distance, "put together"),
    Oracle("adx", "ADX, PLUS_DI, MINUS_DI", directional_movement, "once settled"),
    Oracle("aroon", "AROON", aroon, "of n - 1, as it counts the bar before, on our scale"),
    Oracle("ichimoku", "MIDPRICE", ichimoku, "put together"),
    Oracle("bollingerbands", "BBANDS", bollinger_bands, "with n - 1 as the divisor"),
    Oracle("bollingerbandwidth", "BBANDS", bollinger_width, "put together"),
    Oracle("atr", "TRANGE, SMA", lambda t, b: (mean_range(t, b, 14),), "its own ATR is Wilder's"),
    Oracle("keltnerchannels", "EMA, TRANGE, SMA", keltner_channels, "put together"),
    Oracle("donchianchannels", "MAX, MIDPRICE, MIN", donchian_channels, "put together"),
    Oracle("squeezeintensity", "BBANDS, EMA, TRANGE, SMA", squeeze, "put together"),
    Oracle(
        "obv",
        "OBV",
        lambda t, b: (t.OBV(b.close, b.volume) - b.volume[0],),
        "less its first volume",
    ),
    Oracle("vwap", "TYPPRICE, SUM", weighted_price, "put together"),
    Oracle("mfi", "MFI", lambda t, b: (t.MFI(b.high, b.low, b.close, b.volume, 14),)),
    Oracle("cmf", "AD, SUM, MOM, EMA", money_flow, "put together"),
    Oracle("adline", "AD, ROC, MOM, SMA", distribution_line, "its changes are put together"),
    Oracle("volumeratio", "SMA", lambda t, b: (b.volume / t.SMA(b.volume, 20),), "put together"),
)

WITHOUT_ORACLE: dict[str, str] = {
    "supertrend": "TA-Lib has none, and bands that depend on the side cannot be put together of it",
    "parabolicsar": (
        "SAR holds the stop back to the last lows before it looks for a reversal, ours after "
        "(as ktrdr); it takes the first side from the ranges, ours from the closes"
    ),
    "zigzag": "TA-Lib has none, as it looks ahead",
}
