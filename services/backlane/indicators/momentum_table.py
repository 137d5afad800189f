"""The rows of momentum: differences, oscillators, places in a range."""

from typing import Any

from backlane.indicators import parameters as p
from backlane.indicators.indicator import IndicatorType, Memory
from backlane.indicators.settling import bars_to_settle, span_alpha


def _macd_lookback(given: p.MacdParameters, gain: float) -> int:
    alphas = (span_alpha(_slowest(given)), span_alpha(given.signal_period))
    return 1 + sum(bars_to_settle(alpha, gain) for alpha in alphas)


def _macd_known_from(given: p.MacdParameters) -> tuple[int, int, int]:
    line = _slowest(given) - 1
    signal = line + given.signal_period - 1
    return line, signal, signal


def _slowest(given: p.MacdParameters) -> int:
    return max(given.fast_period, given.slow_period)


MOMENTUM: tuple[IndicatorType[Any], ...] = (
    IndicatorType(
        name="rsi",
        aliases=("rsiindicator",),
        definition="rsi.wilder.v1",
        parameters=p.RsiParameters,
        function="momentum.relative_strength",
        minimum_bars=lambda given: given.period + 1,
        lookback=lambda given, gain: given.period + 1 + bars_to_settle(1.0 / given.period, gain),
        memory=Memory.FADING,
    ),
    IndicatorType(
        name="macd",
        aliases=("macdindicator",),
        definition="macd.recursive.v2",
        parameters=p.MacdParameters,
        function="momentum.convergence_divergence",
        minimum_bars=lambda given: given.slow_period + given.signal_period,
        lookback=_macd_lookback,
        memory=Memory.FADING,
        known_from=_macd_known_from,
        outputs=("line", "signal", "histogram"),
    ),
    IndicatorType(
        name="roc",
        aliases=("rocindicator",),
        definition="roc.percent.v1",
        parameters=p.ChangeParameters,
        function="momentum.rate_of_change",
        minimum_bars=lambda given: given.period + 1,
        lookback=lambda given, _: given.period + 1,
    ),
    IndicatorType(
        name="momentum",
        aliases=("momentumindicator",),
        definition="momentum.difference.v1",
        parameters=p.ChangeParameters,
        function="momentum.difference",
        minimum_bars=lambda given: given.period + 1,
        lookback=lambda given, _: given.period + 1,
    ),
    IndicatorType(
        name="stochastic",
        aliases=("stochasticindicator",),
        definition="stochastic.slow.v1",
        parameters=p.StochasticParameters,
        function="oscillators.stochastic",
        from_start="oscillators.stochastic_from_start",
        minimum_bars=lambda given: max(given.k_period, given.smooth_k) + given.d_period,
        lookback=lambda given, _: given.k_period + given.smooth_k + given.d_period - 2,
        outputs=("k", "d"),
    ),
    IndicatorType(
        name="williamsr",
        aliases=("williamsrindicator",),
        definition="williams_r.v1",
        parameters=p.WilliamsParameters,
        function="oscillators.williams_range",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
        filler=-50.0,
    ),
    IndicatorType(
        name="cci",
        aliases=("cciindicator",),
        definition="cci.mean_deviation.v1",
        parameters=p.CciParameters,
        function="oscillators.commodity_channel",
        minimum_bars=lambda given: given.period,
        lookback=lambda given, _: given.period,
    ),
    IndicatorType(
        name="rvi",
        aliases=("rviindicator",),
        definition="rvi.plain_signal.v1",
        parameters=p.RviParameters,
        function="oscillators.relative_vigor",
        minimum_bars=lambda given: given.period + 3,
        lookback=lambda given, _: given.period + 3 + given.signal_period - 1,
        outputs=("rvi", "signal"),
    ),
    IndicatorType(
        name="fishertransform",
        aliases=("fishertransformindicator",),
        definition="fisher.exponential.v2",
        parameters=p.FisherParameters,
        function="oscillators.fisher_transform",
        minimum_bars=lambda given: given.period + given.smoothing,
        lookback=lambda given, gain: (
            given.period + 1 + bars_to_settle(span_alpha(given.smoothing), gain)
        ),
        memory=Memory.FADING,
        known_from=lambda given: (
            given.period + given.smoothing - 2,
            given.period + given.smoothing - 1,
        ),
        outputs=("fisher", "signal"),
    ),
)
