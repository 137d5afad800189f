"""The parameters of each indicator: names, defaults and ranges, as strategy files write them.

Nothing here computes, so that strategies can be read where no compiler is loaded.
"""

from dataclasses import dataclass

from backlane.indicators.fields import flag, number, source, whole


@dataclass(frozen=True, slots=True)
class SmaParameters:
    """Simple moving average: `period` in bars."""

    period: int = whole(20, 2, 500)
    source: str = source()


@dataclass(frozen=True, slots=True)
class EmaParameters:
    """Exponential moving average: `period` in bars; `adjust` corrects the early weights."""

    period: int = whole(20, 1, 500)
    adjust: bool = flag(default=True)
    source: str = source()


@dataclass(frozen=True, slots=True)
class RsiParameters:
    """Relative strength index: `period` in bars."""

    period: int = whole(14, 2, 100)
    source: str = source()


@dataclass(frozen=True, slots=True)
class MacdParameters:
    """Moving average convergence divergence: the periods of its three means, in bars."""

    fast_period: int = whole(12, 1, 100)
    slow_period: int = whole(26, 1, 200)
    signal_period: int = whole(9, 1, 50)
    source: str = source()


@dataclass(frozen=True, slots=True)
class AtrParameters:
    """Average true range: `period` in bars."""

    period: int = whole(14, 1, 100)


@dataclass(frozen=True, slots=True)
class BollingerParameters:
    """Bollinger bands: `period` in bars, `multiplier` in standard deviations."""

    period: int = whole(20, 2, 200)
    multiplier: float = number(2.0, above=0.0, maximum=10.0)
    source: str = source()
