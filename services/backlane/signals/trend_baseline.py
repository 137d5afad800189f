"""trend_baseline: long where a fast mean lies above a slow one and enough is traded (SPEC B3)."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.panel.panel import Panel
from backlane.signals.signal import Direction, Signals
from backlane.signals.technical import simple_mean
from backlane.signals.windows import Values, each_symbol, expanding_mean

TREND_SHARE = 0.7
"""Share of the trend in a score that also counts volume; the rest is the volume's."""
LEAST_DIVISOR = 1e-10
"""Added to divisors, so that nothing is divided by zero; of no weight against a price."""


class VolumeFilter(StrEnum):
    """What the volume of a bar must reach for a signal to be LONG."""

    NONE = "none"
    EXPANDING_MEAN = "expanding_mean"  # times `volume_multiplier`, over the bars so far
    FIXED = "fixed"  # `volume_threshold`
    FULL_SAMPLE = "full_sample"  # the mean over all bars, later ones too: looks ahead (SPEC Q9)


@dataclass(frozen=True, slots=True)
class TrendParameters:
    """Parameters of trend_baseline; periods are in bars, the threshold in units of volume."""

    fast_period: int = 20
    slow_period: int = 50
    volume_filter: VolumeFilter = VolumeFilter.EXPANDING_MEAN
    volume_threshold: float | None = None
    volume_multiplier: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.fast_period < self.slow_period:
            raise ValueError(
                f"periods {self.fast_period} and {self.slow_period}: the fast one must be at least "
                "1 and below the slow one"
            )
        if (self.volume_threshold is not None) != (self.volume_filter is VolumeFilter.FIXED):
            raise ValueError(
                f"volume_threshold {self.volume_threshold} with volume_filter "
                f"{self.volume_filter}: the threshold goes with `fixed`, and only with it"
            )


def trend_baseline(panel: Panel, parameters: TrendParameters) -> Signals:
    """Returns LONG where the fast mean exceeds the slow one and the volume reaches its threshold.

    With trend = clip((fast - slow) / slow, 0, 1) the score of LONG is the trend, or, with a filter
    of volume, 0.7 trend + 0.3 clip(volume / threshold, 0, 1); that of FLAT is 0. Fast 103, slow
    100, volume half of the threshold would be 0.7 * 0.03 + 0.3 * 0.5, but is FLAT. A panel without
    volume is not filtered.
    """
    fast = simple_mean(panel, parameters.fast_period)
    slow = simple_mean(panel, parameters.slow_period)
    trend = np.clip((fast - slow) / (slow + LEAST_DIVISOR), 0.0, 1.0)
    is_long = fast > slow
    if parameters.volume_filter is VolumeFilter.NONE or panel.volume is None:
        score = trend
    else:
        threshold = _threshold(panel.close, panel.volume, parameters)
        with np.errstate(invalid="ignore"):
            is_long &= panel.volume >= threshold
        part = np.clip(panel.volume / (threshold + LEAST_DIVISOR), 0.0, 1.0)
        score = TREND_SHARE * trend + (1.0 - TREND_SHARE) * part
    has_bar = np.isfinite(panel.close)
    direction = np.where(is_long, Direction.LONG, Direction.FLAT).astype(np.int8)
    return Signals(direction, np.where(has_bar, np.where(is_long, score, 0.0), np.nan))


def _threshold(
    close: NDArray[np.float64], volume: NDArray[np.float64], parameters: TrendParameters
) -> Values:
    """Returns what the volume must reach, shape (times, symbols)."""
    if parameters.volume_threshold is not None:
        return np.full(volume.shape, parameters.volume_threshold)
    means = each_symbol(lambda _, traded: expanding_mean(traded), close, volume)
    if parameters.volume_filter is VolumeFilter.FULL_SAMPLE:
        means = each_symbol(lambda _, mean: np.full(len(mean), mean[-1:]), close, means)
    return means * parameters.volume_multiplier
