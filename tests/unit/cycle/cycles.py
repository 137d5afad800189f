"""A small cycle whose parts tests replace one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.context import BookFacts, Context, Surroundings, context_at
from backlane.cycle.order_stages import CapitalSizing, MarketOrders
from backlane.cycle.risk_config import RiskConfig, RiskPlan, risk_plan
from backlane.cycle.risk_stage import LimitedRisk
from backlane.cycle.stages import Stages
from backlane.cycle.strategy import (
    ProposalInput,
    StrategyInput,
    Targets,
    TargetStrategy,
    TradeStrategy,
)
from backlane.cycle.strategy_stages import (
    CombinedProposals,
    PlannedStrategy,
    StrategyFeatures,
    StrategySignalRows,
)
from backlane.cycle.universe_stage import PanelUniverse, UniverseConfig
from backlane.panel.panel import Panel
from backlane.risk.proposal import TradeProposal
from tests.unit.signals.panels import daily_panel

PRICES = (10.0, 20.0, 40.0)
CASH = 10_000.0


def panel_of(prices: Sequence[float] = PRICES, days: int = 3) -> Panel:
    return daily_panel(np.tile(prices, (days, 1)), volume=np.full((days, len(prices)), 100.0))


def weighing(weights: Sequence[float]) -> TargetStrategy:
    """A strategy that wants the same weights at every bar."""

    def decide(data: StrategyInput, _: Any) -> Targets:
        wanted = np.tile(np.array(weights, float), (len(data.panel), 1))
        direction = np.sign(np.nan_to_num(wanted)).astype(np.int8)
        return Targets(direction, wanted, wanted)

    return TargetStrategy(ConfigRecord, decide)


class _Rows:
    def __init__(self, signals: Sequence[Any]) -> None:
        self.signals = signals

    def row(self, bar: int) -> Sequence[Any]:
        return self.signals


def proposing(*trades: TradeProposal, signals: Sequence[Any] = ("signal",)) -> TradeStrategy:
    """A strategy that always proposes the same."""

    def propose(data: ProposalInput, _: Any) -> Sequence[TradeProposal]:
        return trades

    return TradeStrategy(ConfigRecord, lambda data, _: _Rows(signals), propose)


def planned(strategy: Any, label: str = "test", **more: Any) -> PlannedStrategy:
    return PlannedStrategy(label, strategy, ConfigRecord(), **more)


def stages_of(
    *strategies: PlannedStrategy, risk: Mapping[str, Any] | None = None, **more: Any
) -> Stages:
    """The stages of a cycle; `more` replaces some, `universe` may be a configuration."""
    plan = RiskPlan() if risk is None else risk_plan(RiskConfig.model_validate(risk))
    universe = UniverseConfig.model_validate(more.pop("universe", {}))
    stages = Stages(
        PanelUniverse(universe),
        StrategyFeatures(strategies, universe),
        StrategySignalRows(strategies, universe),
        CombinedProposals(strategies),
        CapitalSizing(),
        LimitedRisk(plan),
        MarketOrders(),
    )
    return replace(stages, **more)


def context_of(
    panel: Panel | None = None,
    held: Sequence[float] | None = None,
    around: Surroundings | None = None,
    change: Callable[[BookFacts], BookFacts] = lambda book: book,
    **book: Any,
) -> Context:
    """The context of the last bar of a panel, of a book that holds `held` beside its equity."""
    panel = panel or panel_of()
    count = len(panel.symbols)
    facts = replace(
        BookFacts.of_cash(count, CASH),
        quantity=np.zeros(count) if held is None else np.array(held, float),
        last_close=panel.close[-1].copy(),
        **book,
    )
    as_of_ns = int(panel.known_ns[-1]) if len(panel) else 0
    return context_at(panel, {}, as_of_ns, book=change(facts), around=around)
