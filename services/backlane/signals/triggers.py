"""Trigger detectors over the last hourly bars of one instrument (SPEC A5).

Each sees a window of bars that were known, oldest first, and answers with a signal or None.
Deviations from the reference: a price move keeps its sign (SPEC Q2), so that `only_upside` drops
falls too. As in the reference, the look-back of breakout and volume spike includes the last bar.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.signals.price_regime import HOURS_PER_YEAR, LOOKBACK_BARS, PriceRegime

PRICE_MOVE_BARS_MIN = 60
DAY_BARS = 24
ATR_PERIOD = 14
VOLATILITY_MAX = 2.0
VOLATILITY_UNKNOWN = 0.5


class TriggerKind(StrEnum):
    """What a detector found in the bars of an instrument."""

    PRICE_MOVE = "price_move"
    VOLUME_SPIKE = "volume_spike"
    BREAKOUT = "breakout"
    REVERSAL = "reversal"
    MOMENTUM = "momentum"


class ReversalQualifier(StrEnum):
    """What confirms a reversal; TREND is the filter that every reversal has passed."""

    CLOSE_ABOVE_VWAP = "reversal_close_above_vwap_5m"
    HIGHER_LOW = "reversal_higher_low"
    RSI_CROSS_50 = "reversal_rsi_cross_50"
    BOUNCE = "reversal_bounce_confirmed"
    TREND = "trend_filter_passed"


@dataclass(frozen=True, slots=True, eq=False)
class BarWindow:
    """The last bars of one instrument, oldest first; every array has shape (bars,), no NaN."""

    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.close)

    def last(self, count: int) -> "BarWindow":
        """Returns the last `count` bars, or all where there are fewer, as views."""
        return BarWindow(
            self.high[-count:], self.low[-count:], self.close[-count:], self.volume[-count:]
        )


@dataclass(frozen=True, slots=True)
class TriggerSignal:
    """A trigger that fired; strength and confidence lie in [0, 1].

    `price_change` is a signed fraction, `volume_ratio` a multiple of the mean volume, `volatility`
    annualized, a fraction. `metrics` are what the qualifiers were read from, by name.
    """

    symbol: str
    kind: TriggerKind
    strength: float
    confidence: float
    price: float
    price_change: float | None
    volatility: float | None
    volume_ratio: float | None = None
    qualifiers: Mapping[ReversalQualifier, bool] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Strength times confidence, by which signals are ranked."""
        return self.strength * self.confidence


@dataclass(frozen=True, slots=True)
class RegimeThresholds:
    """When detectors fire in a regime: moves as fractions, ratios as multiples."""

    sharp_move: float
    hourly_move: float
    volume_ratio: float
    atr_ratio: float


_CHOP = RegimeThresholds(0.012, 0.025, 1.8, 1.05)


def _default_thresholds() -> dict[PriceRegime, RegimeThresholds]:
    return {
        PriceRegime.CHOP: _CHOP,
        PriceRegime.BULL: RegimeThresholds(0.035, 0.07, 2.0, 1.2),
        PriceRegime.BEAR: RegimeThresholds(0.03, 0.07, 2.0, 1.2),
    }


@dataclass(frozen=True, slots=True)
class TriggerRules:
    """Parameters of the scan. Periods and look-backs count bars; moves and slopes are fractions.

    A regime without thresholds of its own uses those of chop.
    """

    thresholds: Mapping[PriceRegime, RegimeThresholds] = field(default_factory=_default_thresholds)
    only_upside: bool = False
    lookback_bars: int = 24
    outlier_period: int = 20
    outlier_deviation: float = 0.10
    outlier_volume_ratio: float = 0.1
    has_atr_filter: bool = True
    trend_period: int = 21
    trend_slope_bars: int = 3
    trend_slope_min: float = 0.0005
    bounce_min: float = 0.006
    has_fallback: bool = True
    fallback_streak_min: int = 1
    fallback_relaxation: float = 0.30
    fallback_signals_max: int = 1
    fallback_allows_downside: bool = True

    def of(self, regime: PriceRegime) -> RegimeThresholds:
        """Returns the thresholds that count in a regime."""
        return self.thresholds.get(regime, self.thresholds.get(PriceRegime.CHOP, _CHOP))


def is_outlier(bars: BarWindow, rules: TriggerRules) -> bool:
    """Tells whether the last close stands alone, far from the mean of those before, and untraded.

    Far is more than `outlier_deviation` of the mean of the `outlier_period` closes before it,
    untraded a volume below `outlier_volume_ratio` of their mean volume.
    """
    period = rules.outlier_period
    if len(bars) < period + 1:
        return False
    mean = float(np.mean(bars.close[-period - 1 : -1]))
    mean_volume = float(np.mean(bars.volume[-period - 1 : -1]))
    if mean <= 0.0 or abs(bars.close[-1] - mean) / mean <= rules.outlier_deviation:
        return False
    return mean_volume > 0.0 and bars.volume[-1] / mean_volume < rules.outlier_volume_ratio


def _true_range(bars: BarWindow) -> NDArray[np.float64]:
    before = bars.close[:-1]
    spread = np.maximum(bars.high[1:] - bars.low[1:], np.abs(bars.high[1:] - before))
    return np.maximum(spread, np.abs(bars.low[1:] - before))


def atr_fractions(bars: BarWindow, period: int = ATR_PERIOD) -> NDArray[np.float64]:
    """Returns the simple mean of the true range over the close, one for each bar that has it.

    The first is of bar `period`: a true range needs the close before it. Shape (bars - period,).
    """
    if len(bars) <= period:
        return np.empty(0)
    ranges = np.lib.stride_tricks.sliding_window_view(_true_range(bars), period)
    return np.asarray(ranges.mean(axis=1) / bars.close[period:])


def fails_atr_filter(bars: BarWindow, regime: PriceRegime, rules: TriggerRules) -> bool:
    """Tells whether the last ATR is too small against the upper median of those of seven days.

    Fewer than two periods of bars, or nothing to compare with, pass.
    """
    if not rules.has_atr_filter or len(bars) < 2 * ATR_PERIOD:
        return False
    values = atr_fractions(bars.last(LOOKBACK_BARS))
    samples = np.sort(values[:-1])
    if len(samples) == 0:
        return False
    median = float(samples[len(samples) // 2])
    return median > 0.0 and float(values[-1]) / median < rules.of(regime).atr_ratio


def annual_volatility(bars: BarWindow) -> float:
    """Returns the annualized population deviation of up to 168 hourly returns, at most 2.0.

    With fewer than 24 bars nothing can be told: 0.5.
    """
    if len(bars) < DAY_BARS:
        return VOLATILITY_UNKNOWN
    close = bars.close[-(LOOKBACK_BARS + 1) :]
    deviation = float(np.std(close[1:] / close[:-1] - 1.0))
    return min(deviation * float(np.sqrt(HOURS_PER_YEAR)), VOLATILITY_MAX)


def price_move(
    symbol: str, bars: BarWindow, thresholds: RegimeThresholds, *, only_upside: bool
) -> TriggerSignal | None:
    """Detects a large hourly return: the last one, or the largest of the last four.

    The change reported is signed (SPEC Q2): that of the largest in absolute terms, the newest where
    two are equal, when it passes `sharp_move`; else that of the last.
    """
    if len(bars) < PRICE_MOVE_BARS_MIN:
        return None
    returns = (bars.close[-4:] / bars.close[-5:-1] - 1.0)[::-1]
    largest = float(returns[int(np.argmax(np.abs(returns)))])
    last = float(returns[0])
    is_sharp = abs(largest) >= thresholds.sharp_move
    is_hourly = abs(last) >= thresholds.hourly_move
    if not (is_sharp or is_hourly):
        return None
    change = largest if is_sharp else last
    if only_upside and change < 0.0:
        return None
    strength, confidence = 0.7, 0.75
    if is_sharp:
        strength, confidence = (0.8, 0.85) if is_hourly else (0.6, 0.7)
    return TriggerSignal(
        symbol,
        TriggerKind.PRICE_MOVE,
        strength,
        confidence,
        float(bars.close[-1]),
        change,
        annual_volatility(bars),
    )


def volume_spike(
    symbol: str, bars: BarWindow, thresholds: RegimeThresholds
) -> TriggerSignal | None:
    """Detects a volume that is a multiple of the mean of 24 bars, itself included."""
    if len(bars) < DAY_BARS:
        return None
    mean = float(np.mean(bars.volume[-DAY_BARS:]))
    if mean <= 0.0:
        return None
    ratio = float(bars.volume[-1]) / mean
    if ratio < thresholds.volume_ratio:
        return None
    return TriggerSignal(
        symbol,
        TriggerKind.VOLUME_SPIKE,
        min((ratio - 1.0) / 3.0, 1.0),
        min(ratio / 4.0, 1.0),
        float(bars.close[-1]),
        float(bars.close[-1] / bars.close[-2] - 1.0),
        annual_volatility(bars),
        volume_ratio=ratio,
    )


def momentum(
    symbol: str, bars: BarWindow, regime: PriceRegime, *, only_upside: bool
) -> TriggerSignal | None:
    """Detects a return of at least 2 % over 24 closes; falling markets count only falls.

    Confidence is the share of the last 12 hourly returns that go the same way.
    """
    if len(bars) < DAY_BARS:
        return None
    change = float(bars.close[-1] / bars.close[-DAY_BARS] - 1.0)
    if abs(change) < 0.02 or (only_upside and change < 0.0):
        return None
    if regime in (PriceRegime.BEAR, PriceRegime.CRASH) and change > 0.0:
        return None
    is_up = (bars.close[-12:] / bars.close[-13:-1] - 1.0) > 0.0
    return TriggerSignal(
        symbol,
        TriggerKind.MOMENTUM,
        min(abs(change) / 0.10, 1.0),
        float(np.mean(is_up == (change > 0.0))),
        float(bars.close[-1]),
        change,
        annual_volatility(bars),
    )
