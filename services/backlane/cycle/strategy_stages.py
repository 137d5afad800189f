"""The stages that ask strategies: features, signals and proposals, of one cycle or of all bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.context import Context
from backlane.cycle.cycle_result import CycleUniverse, ProposalBook, StrategySignals
from backlane.cycle.proposals_aggregation import StrategyProposals, aggregate_proposals
from backlane.cycle.strategy import (
    Features,
    ProposalInput,
    SignalRows,
    Strategy,
    StrategyInput,
    Targets,
    TargetStrategy,
    TradeStrategy,
)
from backlane.cycle.universe_stage import UniverseConfig, seen_panel
from backlane.panel.events import Events
from backlane.panel.panel import Panel

Grid = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlannedStrategy:
    """A strategy of a run: its parameters, its share, and its budget in one cycle.

    `label` is its name, numbered where a run has it twice. Target weights and sizes of proposals
    are multiplied by `weight`. `trades_per_cycle_max` and `at_risk_max` bound what is proposed.
    """

    label: str
    strategy: Strategy
    parameters: ConfigRecord
    weight: float = 1.0
    trades_per_cycle_max: int | None = None
    at_risk_max: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StrategyTable:
    """What one strategy says at every bar: targets, or signals.

    `standing` is what stands of the targets of a strategy that shares the book with others.
    """

    targets: Targets | None = None
    standing: Grid | None = None
    rows: SignalRows | None = None

    def at(self, label: str, bar: int) -> StrategySignals:
        """Returns what it says at one bar."""
        if self.targets is not None:
            targets, standing = self.targets, self.standing
            return StrategySignals(
                label,
                targets.direction[bar],
                targets.score[bar],
                targets.weights[bar],
                None if standing is None else standing[bar],
            )
        rows = () if self.rows is None else self.rows.row(bar)
        return StrategySignals(label, triggers=tuple(rows))


def features_of(
    planned: Sequence[PlannedStrategy], panel: Panel, events: Mapping[str, Events]
) -> Features:
    """Returns the features of all strategies, `label.name` for each."""
    return {
        f"{each.label}.{name}": values
        for each in planned
        for name, values in each.strategy.features(panel, events, each.parameters).items()
    }


def tables_of(
    planned: Sequence[PlannedStrategy],
    panel: Panel,
    events: Mapping[str, Events],
    features: Features,
) -> tuple[StrategyTable, ...]:
    """Returns what each strategy says at every bar of a panel; raises as `table_of` does."""
    tables = tuple(table_of(each, panel, events, features) for each in planned)
    if len(tables) == 1:
        return tables
    return tuple(
        each if each.targets is None else replace(each, standing=last_decided(each.targets.weights))
        for each in tables
    )


def table_of(
    planned: PlannedStrategy, panel: Panel, events: Mapping[str, Events], features: Features
) -> StrategyTable:
    """Returns what a strategy says at every bar of a panel, as if it were alone.

    Raises ValueError for targets of another shape than the panel, or infinite ones.
    """
    start = f"{planned.label}."
    own = {
        name.removeprefix(start): values
        for name, values in features.items()
        if name.startswith(start)
    }
    data = StrategyInput(panel, events, own)
    if isinstance(planned.strategy, TradeStrategy):
        return StrategyTable(rows=planned.strategy.signals(data, planned.parameters))
    targets = planned.strategy.decide(data, planned.parameters)
    shape = (len(panel), len(panel.symbols))
    for name in ("direction", "score", "weights"):
        found = np.shape(getattr(targets, name))
        if found != shape:
            raise ValueError(f"{planned.label}: {name} has shape {found}, the panel {shape}")
    if np.isinf(targets.weights).any():
        raise ValueError(f"{planned.label}: weights are infinite: give a share, 0 or NaN")
    return StrategyTable(targets)


def last_decided(weights: Grid) -> Grid:
    """Returns for each bar the last weight that is not NaN so far, 0 before the first.

    Shape (times, symbols): NaN, 0.5, NaN becomes 0, 0.5, 0.5.
    """
    rows = np.where(np.isnan(weights), -1, np.arange(len(weights))[:, None])
    rows = np.maximum.accumulate(rows, axis=0)
    found = np.take_along_axis(weights, np.maximum(rows, 0), axis=0)
    return np.where(rows < 0, 0.0, found)


def combined_weights(
    weights: Sequence[Grid], standing: Sequence[Grid], shares: Sequence[float]
) -> Grid:
    """Returns one book of several: the sum of share * weight, for rows or for grids alike.

    Where one strategy decides about an instrument and another does not, what the other decided last
    counts; where none decides, neither does the book. 0.6 of 0.5 and 0.4 of -0.2 are 0.22.
    """
    if len(weights) == 1:
        return weights[0] * shares[0]
    total = np.zeros(np.shape(weights[0]))
    is_decided = np.zeros(np.shape(weights[0]), dtype=bool)
    for own, stands, share in zip(weights, standing, shares, strict=True):
        total = total + share * stands
        is_decided |= ~np.isnan(own)
    return np.where(is_decided, total, np.nan)


def entered_by_members(
    weights: Grid, is_member: NDArray[np.bool_], has_bar: NDArray[np.bool_]
) -> Grid:
    """Returns the weights with 0 for who is no member: it may be left, not entered.

    Without a bar nothing but flat can be decided: any other weight becomes NaN.
    """
    decided = np.where(has_bar | (weights == 0.0), weights, np.nan)
    return np.where(is_member | np.isnan(decided), decided, 0.0)


@dataclass(frozen=True, slots=True)
class StrategyFeatures:
    """The features of the strategies, computed from the context."""

    planned: tuple[PlannedStrategy, ...]
    config: UniverseConfig = field(default_factory=UniverseConfig)

    def __call__(self, context: Context, _: CycleUniverse) -> Features:
        """Returns grids up to the bar of the cycle."""
        return features_of(self.planned, seen_panel(context.panel, self.config), context.events)


@dataclass(frozen=True, slots=True)
class StrategySignalRows:
    """What the strategies say, computed from the context: of every bar the last counts."""

    planned: tuple[PlannedStrategy, ...]
    config: UniverseConfig = field(default_factory=UniverseConfig)

    def __call__(
        self, context: Context, _: CycleUniverse, features: Features
    ) -> tuple[StrategySignals, ...]:
        """Returns one for each strategy."""
        last = len(context.panel) - 1
        panel = seen_panel(context.panel, self.config)
        tables = tables_of(self.planned, panel, context.events, features)
        return tuple(
            table.at(each.label, last) for each, table in zip(self.planned, tables, strict=True)
        )


@dataclass(frozen=True, slots=True, eq=False)
class ComputedFeatures:
    """Features that were computed for all bars at once, cut at the bar of the cycle."""

    features: Features

    def __call__(self, context: Context, _: CycleUniverse) -> Features:
        """Returns views that end with the bar of the cycle."""
        count = len(context.panel)
        return {name: values[:count] for name, values in self.features.items()}


@dataclass(frozen=True, slots=True, eq=False)
class ComputedSignals:
    """What the strategies say at every bar, computed at once; strategies are causal.

    Only the row of the cycle's own bar leaves it.
    """

    planned: tuple[PlannedStrategy, ...]
    tables: tuple[StrategyTable, ...]

    def __call__(
        self, context: Context, _universe: CycleUniverse, _features: Features
    ) -> tuple[StrategySignals, ...]:
        """Returns one for each strategy."""
        bar = len(context.panel) - 1
        return tuple(
            table.at(each.label, bar) for each, table in zip(self.planned, self.tables, strict=True)
        )


@dataclass(frozen=True, slots=True)
class CombinedProposals:
    """One book of what the strategies say: their targets combined, or their trades aggregated."""

    planned: tuple[PlannedStrategy, ...]

    def __call__(
        self, context: Context, universe: CycleUniverse, signals: tuple[StrategySignals, ...]
    ) -> ProposalBook:
        """Returns target weights, 0 for who is no member, or trades."""
        if all(isinstance(each.strategy, TargetStrategy) for each in self.planned):
            weights = combined_weights(
                [each.weights for each in signals if each.weights is not None],
                [each.standing for each in signals if each.standing is not None],
                [each.weight for each in self.planned],
            )
            return ProposalBook(entered_by_members(weights, universe.is_member, context.has_bar))
        found = aggregate_proposals(
            [
                proposals_of(each, context, universe, said)
                for each, said in zip(self.planned, signals, strict=True)
            ]
        )
        return ProposalBook(trades=found.proposals, refused=found.refused)


def proposals_of(
    planned: PlannedStrategy, context: Context, universe: CycleUniverse, said: StrategySignals
) -> StrategyProposals:
    """Returns what one strategy proposes, its sizes multiplied by its weight."""
    if not isinstance(planned.strategy, TradeStrategy):
        raise TypeError(f"{planned.label} decides targets: it cannot stand beside trades")
    data = ProposalInput(said.triggers, context, universe.is_member)
    made = tuple(planned.strategy.propose(data, planned.parameters))
    if planned.weight != 1.0:
        made = tuple(replace(each, size=each.size * planned.weight) for each in made)
    return StrategyProposals(planned.label, made, planned.trades_per_cycle_max, planned.at_risk_max)
