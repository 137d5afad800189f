"""The ports of a cycle: one for each stage, each replaceable alone.

What every stage promises is in `backlane.testing.contracts.cycle_stages`; subclass it for a stage
of your own.
"""

from dataclasses import dataclass
from typing import Protocol

from backlane.cycle.context import Context
from backlane.cycle.cycle_result import (
    CycleOrders,
    CycleUniverse,
    Drafts,
    ProposalBook,
    RiskVerdict,
    StrategySignals,
)
from backlane.cycle.strategy import Features


class UniverseStage(Protocol):
    """Says which instruments may be entered now."""

    def __call__(self, context: Context, /) -> CycleUniverse:
        """Returns the members; one without a bar at the last time of the panel is none."""
        ...


class FeatureStage(Protocol):
    """Computes what signals are made of."""

    def __call__(self, context: Context, universe: CycleUniverse, /) -> Features:
        """Returns grids (times, symbols) by name, whose last row is that of the cycle."""
        ...


class SignalStage(Protocol):
    """Asks every strategy what it says now."""

    def __call__(
        self, context: Context, universe: CycleUniverse, features: Features, /
    ) -> tuple[StrategySignals, ...]:
        """Returns what each strategy says at the last bar, in the order of the strategies."""
        ...


class ProposalStage(Protocol):
    """Makes one book of what all strategies say."""

    def __call__(
        self, context: Context, universe: CycleUniverse, signals: tuple[StrategySignals, ...], /
    ) -> ProposalBook:
        """Returns one target, or one trade at most, for each instrument."""
        ...


class SizingStage(Protocol):
    """Makes units of shares of the capital."""

    def __call__(
        self, context: Context, universe: CycleUniverse, proposals: ProposalBook, /
    ) -> Drafts:
        """Returns the orders that would make the book what was proposed."""
        ...


class RiskStage(Protocol):
    """Cuts and refuses orders; never adds to one, and never turns one around."""

    def __call__(self, context: Context, universe: CycleUniverse, drafts: Drafts, /) -> RiskVerdict:
        """Returns what is left of the drafts. What reduces a position passes every limit."""
        ...


class OrderStage(Protocol):
    """Makes orders of what risk leaves."""

    def __call__(self, context: Context, drafts: Drafts, verdict: RiskVerdict, /) -> CycleOrders:
        """Returns the orders, numbered by the ids of the context, by instrument."""
        ...


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a cycle, in their order."""

    universe: UniverseStage
    features: FeatureStage
    signals: SignalStage
    proposals: ProposalStage
    sizing: SizingStage
    risk: RiskStage
    orders: OrderStage
