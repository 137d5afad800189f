"""The regime of a market, out of the closes of its leading instrument (SPEC A4)."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.jit import compiled, kernel

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


REGIMES = tuple(PriceRegime)
"""The regimes by their code, as arrays hold them."""
_BULL, _CHOP = REGIMES.index(PriceRegime.BULL), REGIMES.index(PriceRegime.CHOP)
_BEAR, _CRASH = REGIMES.index(PriceRegime.BEAR), REGIMES.index(PriceRegime.CRASH)
UNKNOWN_CONFIDENCE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class RegimeReadings:
    """A RegimeReading for each time; every array has shape (times,), `code` indexes REGIMES."""

    code: NDArray[np.int8]
    confidence: NDArray[np.float64]
    trend: NDArray[np.float64]
    volatility: NDArray[np.float64]

    def at(self, row: int) -> RegimeReading:
        """Returns the reading of one time."""
        return RegimeReading(
            REGIMES[self.code[row]],
            float(self.confidence[row]),
            float(self.trend[row]),
            float(self.volatility[row]),
        )


@kernel
def _classify(trend: float, volatility: float) -> tuple[int, float]:
    if trend < -0.10 or volatility > 1.0:
        return _CRASH, 0.9 if trend < -0.15 and volatility > 1.2 else 0.7
    if trend >= 0.10 and volatility < 0.60:
        return _BULL, min(0.9, 0.5 + (trend - 0.10) / 0.5)
    if trend <= -0.05:
        return _BEAR, min(0.8, 0.5 + abs(trend + 0.05) / 0.2)
    return _CHOP, 0.8 if abs(trend) < 0.05 else 0.6


@kernel
def _trend_and_volatility(close: NDArray[np.float64], start: int, stop: int) -> tuple[float, float]:
    count = stop - start - 1
    total = 0.0
    for place in range(start + 1, stop):
        total += close[place] / close[place - 1] - 1.0
    mean = total / count
    squares = 0.0
    for place in range(start + 1, stop):
        off = close[place] / close[place - 1] - 1.0 - mean
        squares += off * off
    volatility = math.sqrt(squares / (count - 1)) * math.sqrt(HOURS_PER_YEAR)
    return close[stop - 1] / close[start] - 1.0, volatility


@compiled
def _read_regimes(
    close: NDArray[np.float64],
    code: NDArray[np.int8],
    confidence: NDArray[np.float64],
    trend: NDArray[np.float64],
    volatility: NDArray[np.float64],
) -> None:
    seen = np.empty(len(close))
    count = 0
    for row in range(len(close)):
        if not math.isnan(close[row]):
            seen[count] = close[row]
            count += 1
        code[row], confidence[row] = _CHOP, UNKNOWN_CONFIDENCE
        trend[row] = volatility[row] = 0.0
        if count >= LOOKBACK_BARS:
            found = _trend_and_volatility(seen, count - LOOKBACK_BARS, count)
            trend[row], volatility[row] = found
            code[row], confidence[row] = _classify(found[0], found[1])


@kernel
def regime_code(close: NDArray[np.float64], start: int, stop: int) -> int:
    """Returns the code of the regime of the closes [start, stop): of 168, else nothing is known."""
    if stop - start < LOOKBACK_BARS:
        return _CHOP
    found = _trend_and_volatility(close, stop - LOOKBACK_BARS, stop)
    return _classify(found[0], found[1])[0]


def classify_regime(trend: float, volatility: float) -> tuple[PriceRegime, float]:
    """Returns the regime of a trend and a volatility, both fractions, and the confidence in it.

    In this order: crash below -10 % or above 100 % volatility; bull from 10 % at less than 60 %
    volatility; bear down from -5 %; else chop. Two outcomes have a confidence that grows with the
    trend: bull min(0.9, 0.5 + (trend - 0.1) / 0.5), bear min(0.8, 0.5 + |trend + 0.05| / 0.2).
    """
    code, confidence = _classify(float(trend), float(volatility))
    return REGIMES[code], confidence


def price_regimes(close: NDArray[np.float64]) -> RegimeReadings:
    """Returns the regime at each of hourly closes, shape (times,), NaN where there is no bar.

    Seven days of closes are 167 returns: the trend spans 167 hours, and the volatility is their
    sample standard deviation times the root of 8760. With fewer closes nothing is known: chop at
    confidence 0.5. A row without a bar has what the bars before it said.
    """
    count = len(close)
    readings = RegimeReadings(np.empty(count, np.int8), *(np.empty(count) for _ in range(3)))
    values = np.ascontiguousarray(close)
    _read_regimes(values, readings.code, readings.confidence, readings.trend, readings.volatility)
    return readings


def price_regime(close: NDArray[np.float64]) -> RegimeReading:
    """Returns the regime at the last of hourly closes, shape (bars,), as `price_regimes` does."""
    if len(close) == 0:
        return RegimeReading(PriceRegime.CHOP, UNKNOWN_CONFIDENCE, 0.0, 0.0)
    return price_regimes(close).at(-1)
