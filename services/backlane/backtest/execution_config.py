"""What a configuration says about costs, execution and margin."""

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from backlane.backtest.portfolio_bars import Delisting, ExchangeSession
from backlane.cycle.config_record import ConfigRecord, plain_number
from backlane.execution.cost_model import (
    BUCKETS_MAX,
    CommissionModel,
    CostModel,
    ImpactModel,
    SpreadModel,
)
from backlane.portfolio.book_rules import BookRules, Bracket, VolumeRules

MAX_COST_BPS = 10_000.0
"""A cost above the whole notional is a mistake in its unit."""
BARS_MAX = 1_000_000
DELISTINGS_MAX = 10_000
_NS_PER_US = 1_000
_Number = Annotated[float, BeforeValidator(plain_number)]
_Bps = Annotated[_Number, Field(ge=0, le=MAX_COST_BPS)]
_Money = Annotated[_Number, Field(ge=0, le=1e12)]
_Fraction = Annotated[_Number, Field(ge=0, lt=1)]
_YearlyRate = Annotated[_Number, Field(ge=0, le=10)]


class SparseRecord(ConfigRecord):
    """A section that is written without what it leaves at its default."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        fields = type(self).model_fields
        kept = self._always_written()
        return {
            name: value
            for name, value in document.items()
            if name in kept
            or getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }

    @classmethod
    def _always_written(cls) -> tuple[str, ...]:
        return ()


class SpreadBucket(ConfigRecord):
    """From an average volume on, in money, the quoted spread is `bps`."""

    volume: Annotated[_Number, Field(gt=0)]
    bps: _Bps


class SpreadConfig(SparseRecord):
    """The quoted spread by liquidity; half of it is paid, nothing of it at a limit."""

    buckets: Annotated[tuple[SpreadBucket, ...], Field(min_length=1, max_length=BUCKETS_MAX)]
    fallback_bps: _Bps

    @model_validator(mode="after")
    def _volumes_grow(self) -> Self:
        self.model()
        return self

    def model(self) -> SpreadModel:
        """Returns the same for the book; raises ValueError for volumes that do not grow."""
        buckets = tuple((each.volume, each.bps) for each in self.buckets)
        return SpreadModel(buckets, self.fallback_bps)


class ImpactConfig(SparseRecord):
    """Square-root impact: k * volatility * sqrt(participation), in bps within [min, max]."""

    k: Annotated[_Number, Field(gt=0, le=100)]
    min_bps: _Bps = 0.0
    max_bps: _Bps = MAX_COST_BPS
    participation_max: Annotated[_Number, Field(gt=0, le=1)] = 1.0
    fallback_bps: _Bps = 0.0

    def model(self) -> ImpactModel:
        """Returns the same for the book."""
        return ImpactModel(
            self.k, self.min_bps, self.max_bps, self.participation_max, self.fallback_bps
        )


class CostsConfig(SparseRecord):
    """What fills cost, each part charged once on top of the price, and what borrowing does.

    The first three are linear, in basis points of the notional (SPEC B9). `spread` stands in the
    place of `half_spread_bps`, `impact` in that of `impact_bps`. Rates are fractions a year.
    """

    commission_bps: _Bps = 0.0
    half_spread_bps: _Bps = 0.0
    impact_bps: _Bps = 0.0
    commission_fixed: _Money = 0.0
    commission_per_unit: _Money = 0.0
    commission_minimum: _Money = 0.0
    spread: SpreadConfig | None = None
    impact: ImpactConfig | None = None
    liquidity_window: Annotated[int, Field(ge=2, le=10_000, strict=True)] = 20
    borrow_rate: _YearlyRate = 0.0
    financing_rate: _YearlyRate = 0.0

    @classmethod
    def _always_written(cls) -> tuple[str, ...]:
        return ("commission_bps", "half_spread_bps", "impact_bps")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.spread is not None and self.half_spread_bps > 0:
            raise ValueError("half_spread_bps stands beside spread: give one of them")
        if self.impact is not None and self.impact_bps > 0:
            raise ValueError("impact_bps stands beside impact: give one of them")
        return self

    @property
    def model(self) -> CostModel:
        """The same for the book."""
        linear = CostModel.linear(self.commission_bps, self.half_spread_bps, self.impact_bps)
        commission = CommissionModel(
            self.commission_bps,
            self.commission_fixed,
            self.commission_per_unit,
            self.commission_minimum,
        )
        spread = linear.spread if self.spread is None else self.spread.model()
        impact = linear.impact if self.impact is None else self.impact.model()
        return CostModel(commission, spread, impact)


class BracketConfig(SparseRecord):
    """Exits that rest with every position, as fractions of prices; 0 for none."""

    stop_loss: _Fraction = 0.0
    take_profit: Annotated[_Number, Field(ge=0, le=100)] = 0.0
    trailing_stop: _Fraction = 0.0


class DelistingConfig(ConfigRecord):
    """An instrument that is no longer traded from a time on; without a price it is kept."""

    symbol: Annotated[str, Field(min_length=1, max_length=100)]
    time: AwareDatetime
    price: Annotated[_Number, Field(ge=0)] | None = None

    @property
    def delisting(self) -> Delisting:
        """The same for the bars."""
        elapsed = self.time.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        microseconds = (elapsed.days * 86_400 + elapsed.seconds) * 10**6 + elapsed.microseconds
        price = math.nan if self.price is None else self.price
        return Delisting(self.symbol, microseconds * _NS_PER_US, price)


class ExecutionConfig(SparseRecord):
    """How orders fill. By default each fills whole, at the next bar of its instrument or never.

    `participation_max` is a share of the volume of a bar, or of the average; what it leaves of an
    order stays open for `expires_bars` bars, 0 for no end. `sized_at` says at which price the units
    of what adds to a position are counted: the close of the decision, or the open that fills it.
    """

    expires_bars: Annotated[int, Field(ge=0, le=BARS_MAX, strict=True)] = 1
    participation_max: Annotated[_Number, Field(gt=0, le=1)] | None = None
    participation_of: Literal["bar", "average"] = "bar"
    min_fill_quantity: Annotated[_Number, Field(ge=0)] = 0.0
    unknown_volume_fraction: Annotated[_Number, Field(ge=0, le=1)] = 1.0
    lot_size: Annotated[_Number, Field(gt=0)] | None = None
    sized_at: Literal["close", "open"] = "close"
    session: ExchangeSession = ExchangeSession.ALWAYS
    bracket: BracketConfig = BracketConfig()
    delistings: Annotated[tuple[DelistingConfig, ...], Field(max_length=DELISTINGS_MAX)] = ()


class MarginConfig(SparseRecord):
    """How much may be held: the sum of |positions| is at most `leverage` times the equity.

    Checked at every fill that adds to a position, with its costs. Without a leverage nothing is.
    """

    leverage: Annotated[_Number, Field(gt=0, le=1_000)] | None = None


def book_rules(
    costs: CostsConfig,
    execution: ExecutionConfig,
    margin: MarginConfig,
    *,
    fills_this_close: bool,
    takes_requests: bool = False,
) -> BookRules:
    """Returns the rules of the book that these sections describe."""
    bracket = execution.bracket
    volume = VolumeRules()
    if execution.participation_max is not None:
        volume = VolumeRules(
            execution.participation_max,
            execution.participation_of == "average",
            execution.min_fill_quantity,
            execution.unknown_volume_fraction,
        )
    return BookRules(
        costs=costs.model,
        fills_this_close=fills_this_close,
        expires_bars=execution.expires_bars,
        volume=volume,
        lot_size=execution.lot_size or 0.0,
        sized_at_open=execution.sized_at == "open",
        leverage=math.inf if margin.leverage is None else margin.leverage,
        borrow_rate=costs.borrow_rate,
        financing_rate=costs.financing_rate,
        bracket=Bracket(bracket.stop_loss, bracket.take_profit, bracket.trailing_stop),
        liquidity_window=costs.liquidity_window,
        takes_requests=takes_requests,
        has_sessions=execution.session is not ExchangeSession.ALWAYS,
        has_delistings=bool(execution.delistings),
    )
