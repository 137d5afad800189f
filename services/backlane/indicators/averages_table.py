"""The rows of the moving averages."""

from typing import Any

from backlane.indicators import parameters as p
from backlane.indicators.indicator import IndicatorType, Memory
from backlane.indicators.settling import bars_to_settle, span_alpha

AVERAGES: tuple[IndicatorType[Any], ...] = (
    IndicatorType(
        name="sma",
        aliases=("simplemovingaverage",),
        definition="sma.v1",
        parameters=p.SmaParameters,
        function="averages.simple_average",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
    ),
    IndicatorType(
        name="ema",
        aliases=("exponentialmovingaverage",),
        definition="ema.span.v2",
        parameters=p.EmaParameters,
        function="averages.exponential_average",
        reference="averages.exponential_average_with_ramp",
        known_from=lambda given: (given.period - 1,),
        minimum_bars=lambda given: given.period,
        lookback=lambda given, gain: 1 + bars_to_settle(span_alpha(given.period), gain),
        memory=Memory.FADING,
    ),
    IndicatorType(
        name="wma",
        aliases=("weightedmovingaverage",),
        definition="wma.linear.v1",
        parameters=p.WmaParameters,
        function="averages.weighted_average",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
    ),
    IndicatorType(
        name="distancefromma",
        aliases=("distancefrommaindicator",),
        definition="distance_from_ma.percent.v2",
        parameters=p.DistanceParameters,
        function="averages.distance_from_average",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, gain: (
            given.period
            if given.ma_type == "SMA"
            else 1 + bars_to_settle(span_alpha(given.period), gain)
        ),
        known_from=lambda given: (given.period - 1,),
    ),
)
