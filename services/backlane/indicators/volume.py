"""Volume: how much was traded, and on which side of the price."""

import numpy as np

from backlane.indicators.parameters import (
    LINE_CHANGE_BARS,
    LINE_MEAN_BARS,
    LINE_MOMENTUM_BARS,
    MONEY_FLOW_MOMENTUM_BARS,
    MONEY_FLOW_SIGNAL_SPAN,
    AdlineParameters,
    CmfParameters,
    MfiParameters,
    NoParameters,
    VolumeRatioParameters,
    VwapParameters,
)
from backlane.indicators.settling import span_alpha
from backlane.indicators.windows import (
    Values,
    bars_ago,
    exponential_mean,
    last_known,
    partial_mean,
    partial_sum,
    quotient,
    running_sum,
    window_mean,
    window_sum,
)
from backlane.market.bars import BarSeries

_LINE_MEAN_LEAST_BARS = 20


def on_balance_volume(bars: BarSeries, parameters: NoParameters) -> tuple[Values]:
    """Returns the volume of rising closes less that of falling ones, 0 at the first bar."""
    del parameters  # there are none
    change = bars.close - bars_ago(bars.close, 1)
    side = np.where(np.isnan(change), 0.0, np.sign(change))
    side_volume = side * bars.volume
    side_volume[:1] = 0.0
    return (np.cumsum(side_volume),)


def weighted_price(bars: BarSeries, parameters: VwapParameters) -> tuple[Values]:
    """Returns sum(price volume) / sum(volume) over the period; NaN where nothing was traded.

    The price is (H + L + C) / 3 or the close. Period 0 takes all bars so far.
    """
    price = _vwap_price(bars, parameters)
    if parameters.period == 0:
        return (quotient(running_sum(price * bars.volume), running_sum(bars.volume)),)
    paid = window_sum(price * bars.volume, parameters.period)
    return (quotient(paid, window_sum(bars.volume, parameters.period)),)


def weighted_price_from_start(bars: BarSeries, parameters: VwapParameters) -> tuple[Values]:
    """Returns the same, but from what there is where the period is not full."""
    if parameters.period == 0:
        return weighted_price(bars, parameters)
    paid = partial_sum(_vwap_price(bars, parameters) * bars.volume, parameters.period)
    return (quotient(paid, partial_sum(bars.volume, parameters.period)),)


def _vwap_price(bars: BarSeries, parameters: VwapParameters) -> Values:
    price: Values = bars.close
    if parameters.use_typical_price:
        price = (bars.high + bars.low + bars.close) / 3.0
    return price


def money_flow_index(bars: BarSeries, parameters: MfiParameters) -> tuple[Values]:
    """Returns 100 P / (P + N), P and N being the sums of T V over bars where T rose and fell.

    T = (H + L + C) / 3. 100 without any N, even where P is 0, too, as without volume.
    """
    typical = (bars.high + bars.low + bars.close) / 3.0
    earlier = bars_ago(typical, 1)
    flow = typical * bars.volume
    rising = np.where(typical > earlier, flow, 0.0)
    falling = np.where(typical < earlier, flow, 0.0)
    rising[:1] = falling[:1] = np.nan
    gain, loss = window_sum(rising, parameters.period), window_sum(falling, parameters.period)
    return (np.where(loss == 0.0, 100.0, 100.0 - 100.0 / (1.0 + quotient(gain, loss))),)


def money_flow(bars: BarSeries, parameters: CmfParameters) -> tuple[Values, ...]:
    """Returns cmf = sum(m V) / sum(V), m = ((C - L) - (H - C)) / (H - L), and what is made of it.

    After cmf come mf_multiplier m, mf_volume m V, momentum cmf - cmf(-5), signal, its exponential
    mean of span 9, histogram cmf - signal, above_zero and below_zero, 1 or 0. m is 0 where H = L,
    cmf where nothing was traded.
    """
    multiplier, flow = _money_flow_volume(bars)
    traded = window_sum(bars.volume, parameters.period)
    ratio = quotient(window_sum(flow, parameters.period), traded)
    ratio = np.where((traded == 0.0) & np.isnan(ratio), 0.0, ratio)
    momentum = ratio - bars_ago(ratio, MONEY_FLOW_MOMENTUM_BARS)
    signal = exponential_mean(ratio, span_alpha(MONEY_FLOW_SIGNAL_SPAN), False)
    unknown = np.isnan(ratio)
    above = np.where(unknown, np.nan, ratio > 0.0)
    below = np.where(unknown, np.nan, ratio < 0.0)
    return ratio, multiplier, flow, momentum, signal, ratio - signal, above, below


def money_flow_from_start(bars: BarSeries, parameters: CmfParameters) -> tuple[Values, ...]:
    """Returns the same, but 0 for above_zero and below_zero while cmf is not known."""
    *others, above, below = money_flow(bars, parameters)
    return (*others, np.nan_to_num(above), np.nan_to_num(below))


def _money_flow_volume(bars: BarSeries) -> tuple[Values, Values]:
    height = bars.high - bars.low
    place = quotient((bars.close - bars.low) - (bars.high - bars.close), height)
    place = np.where((height == 0.0) & ~np.isnan(bars.close), 0.0, place)
    return place, place * bars.volume


def distribution_line(bars: BarSeries, parameters: AdlineParameters) -> tuple[Values, ...]:
    """Returns line, the sum of m V over all bars so far, and what is made of it; m as in cmf.

    After line come mf_multiplier m, mf_volume m V, roc_10, its change over 10 bars in percent,
    momentum_21, line - line(-21), and relative_strength, its distance from its mean over 50 bars in
    percent. Source: Chaikin.
    """
    del parameters  # which change nothing
    line, *others = _line_and_changes(bars)
    mean = window_mean(line, LINE_MEAN_BARS)
    return (line, *others, 100.0 * (quotient(line, mean) - 1.0))


def distribution_line_from_start(
    bars: BarSeries, parameters: AdlineParameters
) -> tuple[Values, ...]:
    """Returns the same, but relative_strength from 20 bars on, over as many as there are."""
    del parameters  # which change nothing
    line, *others = _line_and_changes(bars)
    mean = partial_mean(line, LINE_MEAN_BARS, _LINE_MEAN_LEAST_BARS)
    return (line, *others, 100.0 * (quotient(line, mean) - 1.0))


def _line_and_changes(bars: BarSeries) -> tuple[Values, ...]:
    multiplier, flow = _money_flow_volume(bars)
    line = running_sum(flow)
    known = last_known(line)
    earlier = bars_ago(known, LINE_CHANGE_BARS)
    change = 100.0 * quotient(known - earlier, earlier)
    return line, multiplier, flow, change, line - bars_ago(line, LINE_MOMENTUM_BARS)


def volume_ratio(bars: BarSeries, parameters: VolumeRatioParameters) -> tuple[Values]:
    """Returns V / mean(V); 1 where nothing was traded over the period."""
    mean = window_mean(bars.volume, parameters.period)
    return (np.where(mean == 0.0, 1.0, quotient(bars.volume, mean)),)
