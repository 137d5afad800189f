"""The regime of a market, out of the closes of its leading instrument (SPEC A4)."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

HOURS_PER_YEAR = 8760
LOOKBACK_BARS = 168
"""Seven days of hourly bars."""


class PriceRegime(StrEnum):
    """What the price of the leading instrument did; thresholds and sizes depend on it."""

    BULL = "bull"
    CHOP = "chop"
    BEAR = "bear"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class RegimeReading:
    """A regime and what it was read from.

    `confidence` lies in [0, 1]; `trend` is the return over the look-back and `volatility` the
    annualized standard deviation of hourly returns, both fractions.
    """

    regime: PriceRegime
    confidence: float
    trend: float
    volatility: float


def classify_regime(trend: float, volatility: float) -> tuple[PriceRegime, float]:
    """Returns the regime of a trend and a volatility, both fractions, and the confidence in it.

    In this order: crash below -10 % or above 100 % volatility; bull from 10 % at less than 60 %
    volatility; bear down from -5 %; else chop. Two outcomes have a confidence that grows with the
    trend: bull min(0.9, 0.5 + (trend - 0.1) / 0.5), bear min(0.8, 0.5 + |trend + 0.05| / 0.2).
    """
    if trend < -0.10 or volatility > 1.0:
        return PriceRegime.CRASH, 0.9 if trend < -0.15 and volatility > 1.2 else 0.7
    if trend >= 0.10 and volatility < 0.60:
        return PriceRegime.BULL, min(0.9, 0.5 + (trend - 0.10) / 0.5)
    if trend <= -0.05:
        return PriceRegime.BEAR, min(0.8, 0.5 + abs(trend + 0.05) / 0.2)
    return PriceRegime.CHOP, 0.8 if abs(trend) < 0.05 else 0.6


def price_regime(close: NDArray[np.float64]) -> RegimeReading:
    """Returns the regime at the last of hourly closes, shape (bars,), oldest first.

    Seven days of closes are 167 returns: the trend spans 167 hours, and the volatility is their
    sample standard deviation times the root of 8760. With fewer closes nothing is known: chop at
    confidence 0.5.
    """
    if len(close) < LOOKBACK_BARS:
        return RegimeReading(PriceRegime.CHOP, 0.5, 0.0, 0.0)
    seen = close[-LOOKBACK_BARS:]
    returns = seen[1:] / seen[:-1] - 1.0
    trend = float(seen[-1] / seen[0] - 1.0)
    volatility = float(np.std(returns, ddof=1) * np.sqrt(HOURS_PER_YEAR))
    regime, confidence = classify_regime(trend, volatility)
    return RegimeReading(regime, confidence, trend, volatility)
