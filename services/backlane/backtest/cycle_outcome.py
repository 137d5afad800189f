"""What one cycle is asked, and what it decided: plain records, light, for clients and the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backlane.backtest.portfolio_request import PortfolioRequest


@dataclass(frozen=True, slots=True)
class CycleRequest:
    """A wish for one cycle: who decides, on which files, and as of when.

    `as_of_ns` is UTC nanoseconds; `positions` are signed units by symbol; `cash` is money, None for
    the initial cash of the configuration.
    """

    portfolio: PortfolioRequest
    as_of_ns: int
    positions: Mapping[str, float] = field(default_factory=dict)
    cash: float | None = None


@dataclass(frozen=True, slots=True)
class StageReading:
    """One stage: its name, how long it took in seconds, and why it failed, if it did."""

    name: str
    duration_s: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class SignalReading:
    """What a strategy says of an instrument: +1 long, 0 flat, -1 short; `score` may be None."""

    symbol: str
    direction: int
    score: float | None


@dataclass(frozen=True, slots=True)
class TargetReading:
    """What it wants to hold: a signed share of the capital, and units where there is a price."""

    symbol: str
    weight: float
    quantity: float | None


@dataclass(frozen=True, slots=True)
class ProposalReading:
    """What was proposed, in signed units, and what risk let through; `reasons` are codes."""

    symbol: str
    quantity: float
    approved_quantity: float
    reasons: tuple[str, ...] = ()
    explanation: str = ""

    @property
    def is_approved(self) -> bool:
        """Whether anything of it was let through."""
        return self.approved_quantity != 0.0


@dataclass(frozen=True, slots=True)
class OrderReading:
    """An order to send, in signed units; `price` is the last close known, None without one."""

    symbol: str
    quantity: float
    price: float | None

    @property
    def is_buy(self) -> bool:
        """Whether it takes units in."""
        return self.quantity > 0.0


@dataclass(frozen=True, slots=True)
class CycleOutcome:
    """What one cycle decided, stage by stage; money in the currency of the prices.

    `bar_time_ns` is the last bar that was known, None for none. `no_trade` is the code of why there
    are no orders, empty where there are; `detail` says more.
    """

    as_of_ns: int
    bar_time_ns: int | None
    equity: float
    cash: float
    stages: tuple[StageReading, ...] = ()
    signals: tuple[SignalReading, ...] = ()
    targets: tuple[TargetReading, ...] = ()
    proposals: tuple[ProposalReading, ...] = ()
    orders: tuple[OrderReading, ...] = ()
    no_trade: str = ""
    detail: str = ""
