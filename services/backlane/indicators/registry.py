"""The table of indicators: the one place that says what there is, under which names.

The functions are named here and loaded on first use: strategies are read where nothing is computed,
and no compiler is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from backlane.indicators import parameters as p
from backlane.indicators.fields import P
from backlane.indicators.settling import bars_to_settle, span_alpha
from backlane.market.bars import BarSeries

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class IndicatorType(Generic[P]):
    """One indicator.

    `definition` names formula and revision (`rsi.wilder.v1`): the same id always gives the same
    numbers. `outputs` is empty for a single unnamed output; otherwise the first output is what a
    bare reference means. `function`, as in `momentum.relative_strength`, makes one array for each
    output of bars and parameters. `minimum_bars` is the least number of bars that it is computed
    from. `lookback_bars` is how many bars, the newest included, a value depends on: of a recursive
    mean, until the weight of the rest is negligible (`settling`). `filler` is what ktrdr puts in
    place of NaN, where it does.
    """

    name: str
    aliases: tuple[str, ...]
    definition: str
    parameters: type[P]
    function: str
    minimum_bars: Callable[[P], int]
    lookback_bars: Callable[[P], int]
    outputs: tuple[str, ...] = ()
    filler: float | None = None

    def outputs_of(
        self, bars: BarSeries, parameters: P, *, warmup_fillers: bool = False
    ) -> tuple[Values, ...]:
        """Computes every output, float64 of shape (bars,) each."""
        module, name = self.function.split(".")
        compute = getattr(import_module(f"backlane.indicators.{module}"), name)
        values: tuple[Values, ...] = compute(bars, parameters)
        if not warmup_fillers or self.filler is None:
            return values
        return tuple(np.where(np.isnan(value), self.filler, value) for value in values)

    def output_index(self, output: str | None) -> int | None:
        """Returns the place of an output; None means the first. Unknown outputs give None."""
        if output is None:
            return 0
        return self.outputs.index(output) if output in self.outputs else None


def _macd_lookback(given: p.MacdParameters) -> int:
    slowest = max(given.fast_period, given.slow_period)
    return 1 + bars_to_settle(span_alpha(slowest)) + bars_to_settle(span_alpha(given.signal_period))


INDICATORS: tuple[IndicatorType[Any], ...] = (
    IndicatorType(
        name="rsi",
        aliases=("rsiindicator",),
        definition="rsi.wilder.v1",
        parameters=p.RsiParameters,
        function="momentum.relative_strength",
        minimum_bars=lambda given: given.period + 1,
        lookback_bars=lambda given: given.period + 1 + bars_to_settle(1.0 / given.period),
    ),
    IndicatorType(
        name="sma",
        aliases=("simplemovingaverage",),
        definition="sma.v1",
        parameters=p.SmaParameters,
        function="averages.simple_average",
        minimum_bars=lambda given: given.period,
        lookback_bars=lambda given: given.period,
    ),
    IndicatorType(
        name="ema",
        aliases=("exponentialmovingaverage",),
        definition="ema.span.v1",
        parameters=p.EmaParameters,
        function="averages.exponential_average",
        minimum_bars=lambda given: given.period,
        lookback_bars=lambda given: 1 + bars_to_settle(span_alpha(given.period)),
    ),
    IndicatorType(
        name="macd",
        aliases=("macdindicator",),
        definition="macd.recursive.v1",
        parameters=p.MacdParameters,
        function="momentum.convergence_divergence",
        minimum_bars=lambda given: given.slow_period + given.signal_period,
        lookback_bars=_macd_lookback,
        outputs=("line", "signal", "histogram"),
    ),
    IndicatorType(
        name="bollingerbands",
        aliases=("bbands", "bollingerbandsindicator"),
        definition="bollinger.sample.v1",
        parameters=p.BollingerParameters,
        function="volatility.bollinger_bands",
        minimum_bars=lambda given: given.period,
        lookback_bars=lambda given: given.period,
        outputs=("upper", "middle", "lower"),
    ),
    IndicatorType(
        name="bollingerbandwidth",
        aliases=("bollingerbandwidthindicator",),
        definition="bollinger_width.sample.v1",
        parameters=p.BollingerParameters,
        function="volatility.bollinger_width",
        minimum_bars=lambda given: given.period,
        lookback_bars=lambda given: given.period,
        filler=0.0,
    ),
    IndicatorType(
        name="atr",
        aliases=("atrindicator",),
        definition="atr.sma.v1",
        parameters=p.AtrParameters,
        function="volatility.average_true_range",
        minimum_bars=lambda given: given.period + 1,
        lookback_bars=lambda given: given.period + 1,
    ),
)

_BY_NAME = {word: kind for kind in INDICATORS for word in (kind.name, *kind.aliases)}


def find_indicator(name: str) -> IndicatorType[Any] | None:
    """Returns the indicator of this type name or alias, in any case; None when there is none."""
    return _BY_NAME.get(name.lower())


def known_indicators() -> tuple[str, ...]:
    """Returns the type names, in alphabetical order."""
    return tuple(sorted(kind.name for kind in INDICATORS))
