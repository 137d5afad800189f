"""The table of indicators: the one place that says what there is, under which names."""

from typing import Any

from backlane.indicators.averages_table import AVERAGES
from backlane.indicators.indicator import IndicatorType
from backlane.indicators.momentum_table import MOMENTUM
from backlane.indicators.trend_table import TREND
from backlane.indicators.volatility_table import VOLATILITY
from backlane.indicators.volume_table import VOLUME

INDICATORS: tuple[IndicatorType[Any], ...] = (
    *MOMENTUM,
    *AVERAGES,
    *TREND,
    *VOLATILITY,
    *VOLUME,
)

_BY_NAME = {word: kind for kind in INDICATORS for word in (kind.name, *kind.aliases)}


def find_indicator(name: str) -> IndicatorType[Any] | None:
    """Returns the indicator of this type name or alias, in any case; None when there is none."""
    return _BY_NAME.get(name.lower())


def known_indicators() -> tuple[str, ...]:
    """Returns the type names, in alphabetical order."""
    return tuple(sorted(kind.name for kind in INDICATORS))
