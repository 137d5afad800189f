"""The rows of volume: sums and flows of what was traded."""

from typing import Any

from backlane.indicators import parameters as p
from backlane.indicators.indicator import ALL_BARS, IndicatorType, Memory
from backlane.indicators.settling import bars_to_settle, span_alpha


def _cmf_known_from(given: p.CmfParameters) -> tuple[int, ...]:
    # The signal is a recursive mean of cmf; the others know their windows themselves.
    signal = given.period - 1 + p.MONEY_FLOW_SIGNAL_SPAN - 1
    return 0, 0, 0, 0, signal, signal, 0, 0


VOLUME: tuple[IndicatorType[Any], ...] = (
    IndicatorType(
        name="obv",
        aliases=("obvindicator",),
        definition="obv.from_zero.v1",
        parameters=p.NoParameters,
        function="volume.on_balance_volume",
        minimum_bars=lambda _: 2,
        lookback=lambda *_: 2,
        memory=Memory.START,
    ),
    IndicatorType(
        name="vwap",
        aliases=("vwapindicator",),
        definition="vwap.rolling.v1",
        parameters=p.VwapParameters,
        function="volume.weighted_price",
        from_start="volume.weighted_price_from_start",
        minimum_bars=lambda given: max(given.period, 1),
        lookback=lambda given, _: given.period or ALL_BARS,
    ),
    IndicatorType(
        name="mfi",
        aliases=("mfiindicator",),
        definition="mfi.v1",
        parameters=p.MfiParameters,
        function="volume.money_flow_index",
        minimum_bars=lambda given: given.period + 1,
        lookback=lambda given, _: given.period + 1,
    ),
    IndicatorType(
        name="cmf",
        aliases=("cmfindicator",),
        definition="cmf.v2",
        parameters=p.CmfParameters,
        function="volume.money_flow",
        from_start="volume.money_flow_from_start",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, gain: (
            given.period
            + max(
                p.MONEY_FLOW_MOMENTUM_BARS,
                bars_to_settle(span_alpha(p.MONEY_FLOW_SIGNAL_SPAN), gain),
            )
        ),
        memory=Memory.FADING,
        known_from=_cmf_known_from,
        outputs=(
            "cmf",
            "mf_multiplier",
            "mf_volume",
            "momentum",
            "signal",
            "histogram",
            "above_zero",
            "below_zero",
        ),
    ),
    IndicatorType(
        name="adline",
        aliases=("adlineindicator",),
        definition="ad_line.v1",
        parameters=p.AdlineParameters,
        function="volume.distribution_line",
        from_start="volume.distribution_line_from_start",
        minimum_bars=lambda _: 1,
        lookback=lambda *_: p.LINE_MEAN_BARS,
        memory=Memory.START,
        outputs=(
            "line",
            "mf_multiplier",
            "mf_volume",
            "roc_10",
            "momentum_21",
            "relative_strength",
        ),
    ),
    IndicatorType(
        name="volumeratio",
        aliases=("volumeratioindicator",),
        definition="volume_ratio.v1",
        parameters=p.VolumeRatioParameters,
        function="volume.volume_ratio",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
        filler=1.0,
    ),
)
