"""The parameters of each strategy, as a configuration writes them."""

from enum import StrEnum
from typing import Annotated, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from backlane.cycle.config_record import ConfigRecord, plain_number
from backlane.signals.event_insider_shipping import EventParameters, LegRule
from backlane.signals.factors import FACTORS
from backlane.signals.multifactor import FactorBundle, WeightedFactor, Winsorizing
from backlane.signals.rebalance import Rebalance, RebalanceRule
from backlane.signals.trend_baseline import TrendParameters, VolumeFilter

PERIOD_MAX = 10_000
_NAMED_FILTERS = tuple(each.value for each in VolumeFilter if each is not VolumeFilter.FIXED)
_Period = Annotated[int, Field(ge=1, le=PERIOD_MAX, strict=True)]
_Number = Annotated[float, BeforeValidator(plain_number)]
_Switch = Annotated[bool, Field(strict=True)]


def _volume_filter(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (is_number and float(cast("float", value)) >= 0) or value in _NAMED_FILTERS:
        return value
    raise ValueError(f"{value!r} is neither a volume >= 0 nor one of {', '.join(_NAMED_FILTERS)}")


class TrendConfig(ConfigRecord):
    """Parameters of trend_baseline.

    `volume_filter` is none, expanding_mean, full_sample (which looks ahead), or a volume. `top_n`
    longs of the best score get weights by their score, or equal ones.
    """

    fast: _Period = 20
    slow: _Period = 50
    volume_filter: Annotated[str | float, BeforeValidator(_volume_filter)] = "expanding_mean"
    volume_multiplier: Annotated[_Number, Field(gt=0)] = 1.0
    top_n: _Period | None = None
    equal_weight: _Switch = False

    @model_validator(mode="after")
    def _fast_below_slow(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"fast {self.fast} must be below slow {self.slow}")
        return self

    @property
    def trend(self) -> TrendParameters:
        """The same for the signals."""
        if isinstance(self.volume_filter, str):
            named = VolumeFilter(self.volume_filter)
            return TrendParameters(
                self.fast, self.slow, named, volume_multiplier=self.volume_multiplier
            )
        return TrendParameters(self.fast, self.slow, VolumeFilter.FIXED, self.volume_filter)


class Sides(StrEnum):
    """Which sides of its signals a strategy holds."""

    LONG_ONLY = "long_only"  # weights by score
    LONG_SHORT = "long_short"  # equal weights whose absolute values sum to 1


class EventConfig(ConfigRecord):
    """Parameters of event_insider_shipping: net shares, congestion in [0, 100], weights."""

    insider_days: _Period = 20
    insider_net_buy_threshold: _Number = 1000.0
    insider_net_sell_threshold: _Number = -1000.0
    shipping_congestion_low_threshold: _Number = 30.0
    shipping_congestion_high_threshold: _Number = 70.0
    insider_weight: _Number = 1.0
    shipping_weight: _Number = 1.0
    rule: LegRule = LegRule.BOTH
    sides: Sides = Sides.LONG_SHORT

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Self:
        self.for_signals()
        return self

    def for_signals(self) -> EventParameters:
        """Returns the same for the signals; raises ValueError for thresholds out of order."""
        return EventParameters(
            self.insider_days,
            self.insider_net_buy_threshold,
            self.insider_net_sell_threshold,
            self.shipping_congestion_low_threshold,
            self.shipping_congestion_high_threshold,
            self.insider_weight,
            self.shipping_weight,
            self.rule,
        )


def _known_factor(name: str) -> str:
    if name not in FACTORS:
        raise ValueError(f"{name[:80]!r} is no factor; they are {', '.join(FACTORS)}")
    return name


class FactorConfig(ConfigRecord):
    """A factor of a bundle: its weight, and whether more of it is better."""

    name: Annotated[str, AfterValidator(_known_factor)]
    weight: _Number
    direction: Literal["positive", "negative"] = "positive"


class MultifactorConfig(ConfigRecord):
    """Parameters of multifactor_long_short; quantiles in (0, 1], exposures as shares of capital."""

    factors: Annotated[tuple[FactorConfig, ...], Field(min_length=1, max_length=100)]
    winsorizing: Winsorizing = Winsorizing.PER_TIME
    top_quantile: Annotated[_Number, Field(gt=0, le=1)] = 0.2
    bottom_quantile: Annotated[_Number, Field(gt=0, le=1)] = 0.2
    rebalance: Rebalance = Rebalance.MONTHLY
    rebalance_rule: RebalanceRule = RebalanceRule.FIRST_SESSION
    gross_exposure: Annotated[_Number, Field(gt=0, le=100)] = 1.0
    net_exposure: Annotated[_Number, Field(ge=-100, le=100)] = 0.0

    @model_validator(mode="after")
    def _bundle_is_whole(self) -> Self:
        if abs(self.net_exposure) > self.gross_exposure:
            raise ValueError(
                f"net_exposure {self.net_exposure:g} is beyond gross_exposure "
                f"{self.gross_exposure:g}"
            )
        self.bundle()
        return self

    def bundle(self) -> FactorBundle:
        """Returns the same for the scores; raises ValueError for weights that do not sum to 1."""
        factors = tuple(
            WeightedFactor(each.name, each.weight, each.direction == "negative")
            for each in self.factors
        )
        return FactorBundle(factors, self.winsorizing)
