"""Volatility: how wide the price swings."""

import numpy as np

from backlane.indicators.averages import column
from backlane.indicators.extremes import window_max, window_min
from backlane.indicators.parameters import (
    SQUEEZE_ATR_PERIOD,
    AtrParameters,
    BollingerParameters,
    DonchianParameters,
    KeltnerParameters,
    SqueezeParameters,
)
from backlane.indicators.settling import span_alpha
from backlane.indicators.windows import (
    Values,
    exponential_mean,
    quotient,
    true_range,
    window_deviation,
    window_mean,
)
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
    """Returns (upper - lower) / middle; NaN where the middle is 0, as with a source of volume."""
    upper, middle, lower = bollinger_bands(bars, parameters)
    return (quotient(upper - lower, middle),)


def keltner_channels(
    bars: BarSeries, parameters: KeltnerParameters
) -> tuple[Values, Values, Values]:
    """Returns upper, middle and lower: EWM(C) + m ATR, EWM(C), EWM(C) - m ATR.

    EWM is the recursive exponential mean, ATR the plain mean of true ranges.
    """
    middle = exponential_mean(bars.close, span_alpha(parameters.period), False)
    reach = window_mean(true_range(bars.high, bars.low, bars.close), parameters.atr_period)
    half = parameters.multiplier * reach
    return middle + half, middle, middle - half


def donchian_channels(
    bars: BarSeries, parameters: DonchianParameters
) -> tuple[Values, Values, Values]:
    """Returns upper, middle and lower: HH, (HH + LL) / 2, LL, the current bar included."""
    upper = window_max(bars.high, parameters.period)
    lower = window_min(bars.low, parameters.period)
    return upper, (upper + lower) / 2.0, lower


def squeeze_intensity(bars: BarSeries, parameters: SqueezeParameters) -> tuple[Values]:
    """Returns how far the Bollinger bands lie inside the Keltner channels, in [0, 1].

    max(0, min((KU - BU) / w, (BL - KL) / w)), w = KU - KL; 0 where w is 0.
    """
    inside, width = _inside(bars, parameters)
    share = quotient(np.maximum(inside, 0.0), width)
    return (np.where((width == 0.0) & ~np.isnan(inside), 0.0, share),)


def squeeze_intensity_from_start(bars: BarSeries, parameters: SqueezeParameters) -> tuple[Values]:
    """Returns the same, but 0 where there are no channels yet, whatever the bands."""
    inside, width = _inside(bars, parameters)
    return (np.where(width > 0.0, quotient(np.maximum(inside, 0.0), width), 0.0),)


def _inside(bars: BarSeries, parameters: SqueezeParameters) -> tuple[Values, Values]:
    """Returns the lesser of KU - BU and BL - KL, and the width KU - KL."""
    bands = BollingerParameters(parameters.bb_period, parameters.bb_multiplier, parameters.source)
    bands_upper, _, bands_lower = bollinger_bands(bars, bands)
    channels = KeltnerParameters(parameters.kc_period, SQUEEZE_ATR_PERIOD, parameters.kc_multiplier)
    upper, _, lower = keltner_channels(bars, channels)
    return np.minimum(upper - bands_upper, bands_lower - lower), upper - lower
