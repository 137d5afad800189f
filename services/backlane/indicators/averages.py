"""Moving averages of one column of the bars."""

from backlane.indicators.parameters import EmaParameters, SmaParameters
from backlane.indicators.settling import span_alpha
from backlane.indicators.windows import Values, exponential_mean, window_mean
from backlane.market.bars import BarSeries


def column(bars: BarSeries, name: str) -> Values:
    """Returns the column that a parameter `source` names."""
    values: Values = getattr(bars, name)
    return values


def simple_average(bars: BarSeries, parameters: SmaParameters) -> tuple[Values]:
    """Returns (C + C(-1) + ... + C(-(period - 1))) / period."""
    return (window_mean(column(bars, parameters.source), parameters.period),)


def exponential_average(bars: BarSeries, parameters: EmaParameters) -> tuple[Values]:
    """Returns the exponential mean with alpha = 2 / (period + 1)."""
    values = column(bars, parameters.source)
    return (exponential_mean(values, span_alpha(parameters.period), parameters.adjust),)
