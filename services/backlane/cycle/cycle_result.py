"""What a cycle gives: the output of every stage, and of what was not done the reason."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.proposals_aggregation import RefusedProposal
from backlane.cycle.strategy import Features
from backlane.risk.codes import RiskCode
from backlane.risk.exposure_caps import Allocation
from backlane.risk.pretrade import OrderCut, PretradeCode
from backlane.risk.proposal import TradeProposal


class CycleStage(StrEnum):
    """The stages of a cycle, in their order."""

    UNIVERSE = "universe"
    FEATURES = "features"
    SIGNALS = "signals"
    PROPOSALS = "proposals"
    SIZING = "sizing"
    RISK = "risk"
    ORDERS = "orders"


class NoTradeReason(StrEnum):
    """Why a cycle has no orders (SPEC A2); `detail` of the result says more."""

    EMPTY_UNIVERSE = "empty_universe"  # nothing may be traded, and nothing is held
    NO_CANDIDATES = "no_candidates_from_triggers"
    NO_PROPOSALS = "no_proposals_from_strategies"
    NO_DECISION = "no_decision"  # every target is NaN: what is held stays
    NOTHING_TO_CHANGE = "nothing_to_change"  # the targets are what is held
    QUALITY_BLOCKED = "quality_blocked"
    RISK_BLOCKED = "risk_blocked"  # risk refused everything that was proposed
    FAILED = "pipeline_error"


class FailureCode(StrEnum):
    """What went wrong in a stage."""

    NO_BARS = "no_bars"  # nothing was known at the time of the cycle
    STAGE_RAISED = "stage_error"
    BAD_OUTPUT = "bad_output"  # a stage gave what its port does not allow
    FUTURE_DATA = "future_data"  # a stage asked for what was not known yet


class CycleRefusal(StrEnum):
    """Why the cycle itself, before or instead of a check of risk, refused an order."""

    NOT_IN_UNIVERSE = "not_in_universe"
    NO_BAR = "no_bar"
    NOTHING_HELD = "nothing_held"
    CONTROL_FAILED = "risk_control_failed"


class Exclusion(StrEnum):
    """Why an instrument is not in the universe of a cycle."""

    NOT_LISTED = "not_listed"
    EXCLUDED = "excluded"
    NO_BAR = "no_bar"
    TOO_LITTLE_HISTORY = "too_little_history"
    TOO_LITTLE_TRADED = "too_little_traded"


RefusalCode = RiskCode | PretradeCode | CycleRefusal


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order that was not made, and why; `detail` names the strategy of a strategy cap."""

    symbol: str
    codes: tuple[RefusalCode, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CycleFailure:
    """The stage that failed, and how; `error` is what it raised, None where it did not raise."""

    stage: CycleStage
    code: FailureCode
    message: str
    error: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CycleUniverse:
    """Who may be entered: `is_member` (symbols,), and why the others are not in it."""

    is_member: NDArray[np.bool_]
    excluded: Mapping[str, Exclusion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class StrategySignals:
    """What one strategy says at the bar of the cycle; arrays have shape (symbols,).

    `weights` are its targets, NaN where it does not decide, and `standing` the last that it decided
    of each instrument, 0 before the first; both None for a strategy that proposes trades, which has
    its signals in `triggers`.
    """

    strategy: str
    direction: NDArray[np.int8] | None = None
    score: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None
    standing: NDArray[np.float64] | None = None
    triggers: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ProposalBook:
    """What all strategies together want: target weights (symbols,), or trades.

    A weight of NaN is no decision, 0 is flat; `weights` is None where no strategy decides targets.
    """

    weights: NDArray[np.float64] | None = None
    trades: tuple[TradeProposal, ...] = ()
    refused: tuple[RefusedProposal, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was decided or proposed."""
        return not self.trades and (self.weights is None or bool(np.isnan(self.weights).all()))


@dataclass(frozen=True, slots=True, eq=False)
class Drafts:
    """Orders before risk: `quantity` (symbols,) in signed units, 0 for none.

    `price` (symbols,) is the last close known, NaN before the first. `trades` are the proposals
    that became drafts, at most one for each instrument.
    """

    quantity: NDArray[np.float64]
    price: NDArray[np.float64]
    trades: tuple[TradeProposal, ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class RiskVerdict:
    """What risk leaves of the drafts: `quantity` (symbols,), never more than was drafted.

    `allocations` are the approved proposals with the sizes that the caps leave them. `stop` is the
    check that refused every entry at once.
    """

    quantity: NDArray[np.float64]
    refusals: tuple[Refusal, ...] = ()
    cuts: tuple[OrderCut, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    stop: RefusalCode | None = None


@dataclass(frozen=True, slots=True)
class CycleOrder:
    """An order to send: signed units; `price` is the last close known, NaN where there is none.

    `proposal` is what it was made of, None for a target; it tells of stops and targets.
    """

    id: int
    symbol: str
    quantity: float
    price: float
    proposal: TradeProposal | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CycleOrders:
    """The orders of a cycle, by instrument; `quantity` (symbols,) holds the same signed units."""

    quantity: NDArray[np.float64]
    orders: tuple[CycleOrder, ...] = ()

    def __iter__(self) -> Iterator[CycleOrder]:
        return iter(self.orders)

    def __len__(self) -> int:
        return len(self.orders)


@dataclass(frozen=True, slots=True, eq=False)
class CycleResult:
    """Everything that a cycle gave; the output of a stage that was not reached is None.

    `orders` is empty, and not None, where the cycle came to an end without one; `no_trade` then
    says why. `failure` is set where a stage failed: what was computed before it is kept, and where
    that stage was risk, the orders are the exits. `timings_s` are seconds by the context's clock.
    """

    as_of_ns: int
    symbols: tuple[str, ...]
    universe: CycleUniverse | None = None
    features: Features | None = None
    signals: tuple[StrategySignals, ...] | None = None
    proposals: ProposalBook | None = None
    drafts: Drafts | None = None
    verdict: RiskVerdict | None = None
    orders: CycleOrders | None = None
    no_trade: NoTradeReason | None = None
    detail: str = ""
    failure: CycleFailure | None = None
    timings_s: Mapping[CycleStage, float] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether no stage failed; a cycle without orders can be one."""
        return self.failure is None

    @property
    def approved(self) -> tuple[TradeProposal, ...]:
        """The proposals that risk approved, at their sizes, and no others (SPEC C1, Q1)."""
        kept = () if self.verdict is None else self.verdict.allocations
        return tuple(allocation.proposal for allocation in kept)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Everything that was refused, by sizing first, then by risk."""
        drafted = () if self.drafts is None else self.drafts.refusals
        return drafted + (() if self.verdict is None else self.verdict.refusals)

    @property
    def refused_by_symbol(self) -> Mapping[str, tuple[RefusalCode, ...]]:
        """The codes of all refusals of an instrument, in the order of the checks."""
        codes: dict[str, tuple[RefusalCode, ...]] = {}
        for refusal in self.refusals:
            codes[refusal.symbol] = codes.get(refusal.symbol, ()) + refusal.codes
        return codes
