"""The rows of volatility: ranges and the bands around a middle."""

from typing import Any

from backlane.indicators import parameters as p
from backlane.indicators.indicator import IndicatorType, Memory
from backlane.indicators.settling import bars_to_settle, span_alpha


def _squeeze_lookback(given: p.SqueezeParameters, gain: float) -> int:
    settled = 1 + bars_to_settle(span_alpha(given.kc_period), gain)
    return max(given.bb_period, settled, p.SQUEEZE_ATR_PERIOD + 1)


VOLATILITY: tuple[IndicatorType[Any], ...] = (
    IndicatorType(
        name="bollingerbands",
        aliases=("bbands", "bollingerbandsindicator"),
        definition="bollinger.sample.v1",
        parameters=p.BollingerParameters,
        function="volatility.bollinger_bands",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
        outputs=("upper", "middle", "lower"),
    ),
    IndicatorType(
        name="bollingerbandwidth",
        aliases=("bollingerbandwidthindicator",),
        definition="bollinger_width.sample.v1",
        parameters=p.BollingerParameters,
        function="volatility.bollinger_width",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
        filler=0.0,
    ),
    IndicatorType(
        name="atr",
        aliases=("atrindicator",),
        definition="atr.sma.v1",
        parameters=p.AtrParameters,
        function="volatility.average_true_range",
        minimum_bars=lambda given: given.period + 1,
        lookback=lambda given, _: given.period + 1,
    ),
    IndicatorType(
        name="keltnerchannels",
        aliases=("keltnerchannelsindicator",),
        definition="keltner.sma_range.v2",
        parameters=p.KeltnerParameters,
        function="volatility.keltner_channels",
        minimum_bars=lambda given: max(given.period, given.atr_period) + 1,
        lookback=lambda given, gain: max(
            1 + bars_to_settle(span_alpha(given.period), gain), given.atr_period + 1
        ),
        memory=Memory.FADING,
        known_from=lambda given: (
            max(given.period, given.atr_period) - 1,
            given.period - 1,
            max(given.period, given.atr_period) - 1,
        ),
        outputs=("upper", "middle", "lower"),
    ),
    IndicatorType(
        name="donchianchannels",
        aliases=("donchianchannelsindicator",),
        definition="donchian.v1",
        parameters=p.DonchianParameters,
        function="volatility.donchian_channels",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
        outputs=("upper", "middle", "lower"),
    ),
    IndicatorType(
        name="squeezeintensity",
        aliases=("squeezeintensityindicator",),
        definition="squeeze.sma_range.v2",
        parameters=p.SqueezeParameters,
        function="volatility.squeeze_intensity",
        from_start="volatility.squeeze_intensity_from_start",
        minimum_bars=lambda given: max(given.bb_period, given.kc_period, p.SQUEEZE_ATR_PERIOD) + 1,
        lookback=_squeeze_lookback,
        memory=Memory.FADING,
        known_from=lambda given: (max(given.bb_period, given.kc_period, p.SQUEEZE_ATR_PERIOD) - 1,),
    ),
)
