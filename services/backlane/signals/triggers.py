"""Triggers: what they are, and the parameters by which they fire (SPEC A5)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from backlane.errors import FieldViolation
from backlane.signals.price_regime import PriceRegime
from backlane.signals.ranges import COUNT, PERIOD, Range, range_mistakes, refuse


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


class ScanChoice(StrEnum):
    """Which trigger of an instrument counts where several fire.

    FIRST_MATCH is what the reference does in its backtest: volume spike, breakout or reversal,
    momentum, in this order and without guards, price moves or fallback (SPEC A9).
    """

    STRONGEST = "strongest"
    FIRST_MATCH = "first_match"


@dataclass(frozen=True, slots=True)
class TriggerSignal:
    """A trigger that fired; strength, confidence and their product, `score`, lie in [0, 1].

    `price_change` is a signed fraction, `volume_ratio` a multiple of the mean volume, `volatility`
    annualized, a fraction. `metrics` are what the qualifiers were read from, by name; `regime` is
    that whose thresholds counted.
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
    regime: PriceRegime = PriceRegime.CHOP

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

    A regime without thresholds of its own uses those of chop. Raises InvalidRequestError with every
    value that is out of its range.
    """

    thresholds: Mapping[PriceRegime, RegimeThresholds] = field(default_factory=_default_thresholds)
    choice: ScanChoice = ScanChoice.STRONGEST
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

    def __post_init__(self) -> None:
        refuse("rule(s) of the triggers", _mistakes(self))

    def of(self, regime: PriceRegime) -> RegimeThresholds:
        """Returns the thresholds that count in a regime."""
        return self.thresholds.get(regime, self.thresholds.get(PriceRegime.CHOP, _CHOP))


_MOVE = Range(0.0, 10.0)
_RATIO = Range(0.0, 1000.0)
_RANGES: Mapping[str, Range] = {
    "lookback_bars": PERIOD,
    "outlier_period": PERIOD,
    "outlier_deviation": _MOVE,
    "outlier_volume_ratio": _RATIO,
    "trend_period": PERIOD,
    "trend_slope_bars": PERIOD,
    "trend_slope_min": Range(-1.0, 1.0),
    "bounce_min": _MOVE,
    "fallback_streak_min": COUNT,
    "fallback_relaxation": Range(0.0, 1.0),
    "fallback_signals_max": COUNT,
}
_THRESHOLD_RANGES: Mapping[str, Range] = {
    "sharp_move": _MOVE,
    "hourly_move": _MOVE,
    "volume_ratio": _RATIO,
    "atr_ratio": _RATIO,
}


def _mistakes(rules: TriggerRules) -> Iterator[FieldViolation]:
    yield from range_mistakes(rules, _RANGES)
    for regime, thresholds in rules.thresholds.items():
        for mistake in range_mistakes(thresholds, _THRESHOLD_RANGES):
            name = f"thresholds.{regime}.{mistake.field}"
            yield FieldViolation(name, mistake.description)
