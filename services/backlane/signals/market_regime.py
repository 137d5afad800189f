"""The regime of a market from its breadth, trends and volatility, and the exposure in it (SPEC B3).

Scores lie in [-1, 1]: trend up or down, risk calm (1) or troubled (-1), macro growing or shrinking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from backlane.panel.panel import Panel
from backlane.signals.technical import simple_mean
from backlane.signals.windows import Values

BREADTH_PERIOD = 50
CALM_VOLATILITY = 0.1
TROUBLED_VOLATILITY = 0.5
VOLATILITY_SHARE = 0.6
"""Share of volatility in the risk score where risk-on/off is known too."""
GROWTH_SHARE = 0.7
CONFIDENCE_WITH_RISK = 0.7
CONFIDENCE_WITHOUT_RISK = 0.5


class MarketRegime(StrEnum):
    """What state a market is in."""

    CRISIS = "crisis"
    BEAR = "bear"
    BULL = "bull"
    REFLATION = "reflation"
    SIDEWAYS = "sideways"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True, eq=False)
class RegimeState:
    """The regime at each time; every array has shape (times,), the scores lie in [-1, 1].

    `confidence` is 0.7, or 0.5 where nothing is known of the risk, whose score is then 0.
    """

    label: tuple[MarketRegime, ...]
    trend_score: Values
    macro_score: Values
    risk_score: Values
    confidence: Values
    fraction_above_mean: Values


@dataclass(frozen=True, slots=True)
class Exposure:
    """Limits of a portfolio, as multiples of its capital: gross, and long less short."""

    max_gross_exposure: float
    target_net_exposure: float


DEFAULT_EXPOSURES: Mapping[MarketRegime, Exposure] = MappingProxyType(
    {
        MarketRegime.BULL: Exposure(1.2, 0.6),
        MarketRegime.NEUTRAL: Exposure(1.0, 0.2),
        MarketRegime.SIDEWAYS: Exposure(0.8, 0.0),
        MarketRegime.BEAR: Exposure(0.6, 0.0),
        MarketRegime.CRISIS: Exposure(0.3, 0.0),
        MarketRegime.REFLATION: Exposure(1.1, 0.3),
    }
)


def fraction_above_mean(panel: Panel, period: int = BREADTH_PERIOD) -> Values:
    """Returns the share of instruments with a close above their mean, of those with a bar.

    Shape (times,), in [0, 1]; NaN where none has a bar.
    """
    with np.errstate(invalid="ignore"):
        above = (panel.close > simple_mean(panel, period)).sum(axis=1)
    count = np.isfinite(panel.close).sum(axis=1)
    fraction = np.full(len(count), np.nan)
    np.divide(above, count, out=fraction, where=count > 0)
    return fraction


def regime_state(
    fraction_above: Values,
    strength: Values,
    volatility: Values,
    *,
    risk_on: Values | None = None,
    growth: Values | None = None,
    inflation: Values | None = None,
) -> RegimeState:
    """Returns the regime at each time from the breadth (times,) and two grids (times, symbols).

    `strength` is a trend strength, `volatility` a fraction a year; of both the median of a time
    counts. With the breadth b, trend = (clip(strength, -1, 1) + clip(2 (b - 0.5), -1, 1)) / 2. Risk
    falls from 1 at a volatility of 0.1 to -1 at 0.5; with `risk_on` in [-1, 1], it is 0.6 of that
    and 0.4 of `risk_on`. Macro is 0.7 growth + 0.3 inflation, both in [-1, 1], 0 where not given.
    Breadth 0.75, strength 0.3, volatility 0.2: trend 0.4, risk 0.5.
    """
    breadth = np.clip(2.0 * (fraction_above - 0.5), -1.0, 1.0)
    trend = _mean_of_known(np.clip(_row_median(strength), -1.0, 1.0), breadth)
    level = _row_median(volatility)
    span = TROUBLED_VOLATILITY - CALM_VOLATILITY
    risk = np.clip(1.0 - 2.0 * (level - CALM_VOLATILITY) / span, -1.0, 1.0)
    if risk_on is not None:
        mixed = VOLATILITY_SHARE * risk + (1.0 - VOLATILITY_SHARE) * risk_on
        risk = np.where(np.isnan(risk), risk_on, mixed)
    knows_risk = np.isfinite(risk)
    risk = np.where(knows_risk, risk, 0.0)
    absent = np.zeros(len(trend))
    macro = GROWTH_SHARE * (absent if growth is None else growth)
    macro = macro + (1.0 - GROWTH_SHARE) * (absent if inflation is None else inflation)
    label = tuple(
        regime_label(*scores)
        for scores in zip(trend.tolist(), risk.tolist(), macro.tolist(), strict=True)
    )
    confidence = np.where(knows_risk, CONFIDENCE_WITH_RISK, CONFIDENCE_WITHOUT_RISK)
    return RegimeState(label, trend, macro, risk, confidence, fraction_above)


def regime_label(trend: float, risk: float, macro: float) -> MarketRegime:
    """Returns the first label that fits: crisis, bear, bull, reflation, sideways, else neutral."""
    if risk < -0.8:
        return MarketRegime.CRISIS
    if trend < -0.5 and risk < 0.0:
        return MarketRegime.BEAR
    if trend > 0.5 and risk > 0.0:
        return MarketRegime.BULL
    if macro > 0.3:
        return MarketRegime.REFLATION
    if abs(trend) < 0.3 and abs(risk) < 0.3:
        return MarketRegime.SIDEWAYS
    return MarketRegime.NEUTRAL


def regime_exposure(
    labels: Sequence[MarketRegime], exposures: Mapping[MarketRegime, Exposure], otherwise: Exposure
) -> tuple[Values, Values]:
    """Returns gross and net exposure at each time, (times,); `otherwise` for labels not mapped."""
    chosen = [exposures.get(label, otherwise) for label in labels]
    gross = np.array([exposure.max_gross_exposure for exposure in chosen])
    net = np.array([exposure.target_net_exposure for exposure in chosen])
    return gross, net


def _row_median(grid: NDArray[np.float64]) -> Values:
    """Returns the median over the instruments of each time, NaN where none has a value."""
    medians = np.full(len(grid), np.nan)
    has_value = np.isfinite(grid).any(axis=1)
    if has_value.any():
        medians[has_value] = np.nanmedian(grid[has_value], axis=1)
    return medians


def _mean_of_known(first: Values, second: Values) -> Values:
    """Returns the mean of those of two scores that are known, 0 where neither is."""
    both = np.stack([first, second])
    known = np.isfinite(both)
    count = np.maximum(known.sum(axis=0), 1)
    means: Values = np.where(known, both, 0.0).sum(axis=0) / count
    return means
