"""The rows of trend: its strength and direction, its stops, its turning points."""

from typing import Any

from backlane.indicators import parameters as p
from backlane.indicators.indicator import IndicatorType, Memory
from backlane.indicators.settling import bars_to_settle

TREND: tuple[IndicatorType[Any], ...] = (
    IndicatorType(
        name="adx",
        aliases=("adxindicator",),
        definition="adx.recursive.v1",
        parameters=p.AdxParameters,
        function="trend.directional_movement",
        minimum_bars=lambda given: 2 * given.period + 1,
        lookback=lambda given, gain: 2 + 2 * bars_to_settle(1.0 / given.period, gain),
        memory=Memory.FADING,
        known_from=lambda given: (2 * given.period - 1, given.period, given.period),
        outputs=("adx", "plus_di", "minus_di"),
    ),
    IndicatorType(
        name="aroon",
        aliases=("aroonindicator",),
        definition="aroon.n_bars.v1",
        parameters=p.AroonParameters,
        function="trend.aroon",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
        outputs=("up", "down", "oscillator"),
    ),
    IndicatorType(
        name="ichimoku",
        aliases=("ichimokuindicator",),
        definition="ichimoku.not_displaced.v1",
        parameters=p.IchimokuParameters,
        function="trend.ichimoku",
        minimum_bars=lambda given: max(
            given.tenkan_period, given.kijun_period, given.senkou_b_period
        ),
        lookback=lambda given, _: max(
            given.tenkan_period, given.kijun_period, given.senkou_b_period
        ),
        outputs=("tenkan", "kijun", "senkou_a", "senkou_b", "chikou"),
    ),
    IndicatorType(
        name="supertrend",
        aliases=("supertrendindicator",),
        definition="supertrend.sma_range.v1",
        parameters=p.SupertrendParameters,
        function="stops.supertrend",
        reference="stops.supertrend_that_never_starts",
        minimum_bars=lambda given: given.period + 1,
        lookback=lambda given, _: given.period + 1,
        memory=Memory.START,
        outputs=("trend", "direction"),
    ),
    IndicatorType(
        name="parabolicsar",
        aliases=("parabolicsarindicator",),
        definition="parabolic_sar.reversal_first.v1",
        parameters=p.SarParameters,
        function="stops.parabolic_stop",
        minimum_bars=lambda _: 2,
        lookback=lambda *_: 2,
        memory=Memory.START,
    ),
    IndicatorType(
        name="zigzag",
        aliases=("zigzagindicator",),
        definition="zigzag.hindsight.v1",
        parameters=p.ZigzagParameters,
        function="turning_points.zigzag",
        minimum_bars=lambda _: 3,
        lookback=lambda *_: 3,
        memory=Memory.START,
        looks_ahead=True,
    ),
)
