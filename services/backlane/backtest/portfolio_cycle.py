"""Drives a run of a portfolio: compiled where nothing asks for Python, else a cycle at each bar.

Both ways call the same kernels on the same decisions, and give the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_bars import open_and_mark
from backlane.backtest.portfolio_config import PortfolioConfig
from backlane.backtest.portfolio_result import PortfolioRun, Targets
from backlane.backtest.portfolio_simulator import run_of_book, simulate_portfolio
from backlane.cycle.config_record import not_valid
from backlane.cycle.context import Context, Surroundings, context_at
from backlane.cycle.cycle_counts import CycleCounts
from backlane.cycle.cycle_result import CycleOrder, CycleResult, CycleStage
from backlane.cycle.ledger import Ledger
from backlane.cycle.order_stages import CapitalSizing, MarketOrders
from backlane.cycle.risk_config import RiskPlan
from backlane.cycle.risk_stage import LimitedRisk
from backlane.cycle.run_cycle import run_cycle
from backlane.cycle.stages import Stages
from backlane.cycle.strategy import TargetStrategy
from backlane.cycle.strategy_stages import (
    CombinedProposals,
    ComputedFeatures,
    ComputedSignals,
    PlannedStrategy,
    StrategyFeatures,
    StrategySignalRows,
    StrategyTable,
    combined_weights,
    entered_by_members,
    features_of,
    tables_of,
)
from backlane.cycle.universe_stage import (
    ComputedUniverse,
    PanelUniverse,
    UniverseConfig,
    members,
    seen_panel,
)
from backlane.errors import BacklaneError, CycleFailedError, FieldViolation
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.portfolio.book_full_loop import BookBars
from backlane.portfolio.book_rules import Bracket
from backlane.portfolio.portfolio_book import PortfolioBook, order_request


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a configuration asks for, checked: strategies, universe and limits."""

    config: PortfolioConfig
    strategies: tuple[PlannedStrategy, ...]
    universe: UniverseConfig
    risk: RiskPlan

    @property
    def is_compiled(self) -> bool:
        """Whether no stage needs Python at each bar: targets, and nothing that could stop them."""
        decides_targets = all(isinstance(each.strategy, TargetStrategy) for each in self.strategies)
        return decides_targets and self.risk.passes_all_targets

    def stages(self) -> Stages:
        """Returns the stages of one cycle, which compute everything from its context."""
        return Stages(
            PanelUniverse(self.universe),
            StrategyFeatures(self.strategies, self.universe),
            StrategySignalRows(self.strategies, self.universe),
            CombinedProposals(self.strategies),
            CapitalSizing(self.config.lot_when_placed),
            LimitedRisk(self.risk),
            MarketOrders(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ComputedRun:
    """What was computed for all bars at once: members, features, and what strategies say."""

    targets: Targets | None
    stages: Stages


def compute(plan: RunPlan, panel: Panel, events: Mapping[str, Events]) -> ComputedRun:
    """Returns the stages of a run whose strategies were asked once, for all bars.

    Raises InvalidRequestError for instruments that the configuration names and the panel does not
    have, and CycleFailedError for a strategy that raises anything that is no error of Backlane.
    """
    _check_names(plan, panel)
    seen = seen_panel(panel, plan.universe)
    try:
        features = features_of(plan.strategies, seen, events)
        tables = tables_of(plan.strategies, seen, events, features)
    except BacklaneError:
        raise
    except Exception as error:
        names = ", ".join(each.label for each in plan.strategies)
        raise CycleFailedError(
            f"The signals of {names} could not be computed: {type(error).__name__}: {error}.",
            metadata={"stage": str(CycleStage.SIGNALS)},
        ) from error
    is_member = members(panel, plan.universe)
    stages = Stages(
        ComputedUniverse(plan.universe, is_member),
        ComputedFeatures(features),
        ComputedSignals(plan.strategies, tables),
        CombinedProposals(plan.strategies),
        CapitalSizing(plan.config.lot_when_placed),
        LimitedRisk(plan.risk),
        MarketOrders(),
    )
    return ComputedRun(_all_targets(plan, tables, is_member, np.isfinite(panel.close)), stages)


def _check_names(plan: RunPlan, panel: Panel) -> None:
    """Raises InvalidRequestError, naming each instrument that a typing error may have made."""
    known = {symbol.upper() for symbol in panel.symbols}
    named = [
        (f"universe.symbols.{place}", symbol, symbol.upper() in known)
        for place, symbol in enumerate(plan.universe.symbols or ())
    ]
    if plan.risk.leader is not None:
        named.append(("risk.leader", plan.risk.leader, plan.risk.leader in panel.symbols))
    violations = tuple(
        FieldViolation(name, f"{symbol[:80]!r} is no instrument of the panel")
        for name, symbol, is_known in named
        if not is_known
    )
    if violations:
        raise not_valid(violations)


def _all_targets(
    plan: RunPlan,
    tables: tuple[StrategyTable, ...],
    is_member: NDArray[np.bool_],
    has_bar: NDArray[np.bool_],
) -> Targets | None:
    """Returns the targets of the book at every bar; None for strategies that propose trades.

    Those of a single strategy keep its own directions and scores; several have none of their own.
    """
    found = [each.targets for each in tables if each.targets is not None]
    if len(found) < len(tables):
        return None
    standing = [each.standing for each in tables if each.standing is not None]
    shares = [each.weight for each in plan.strategies]
    weights = combined_weights([each.weights for each in found], standing, shares)
    weights = entered_by_members(weights, is_member, has_bar)
    if len(found) == 1:
        return Targets(found[0].direction, found[0].score, weights)
    direction = np.sign(np.nan_to_num(weights)).astype(np.int8)
    return Targets(direction, np.full(weights.shape, np.nan), weights)


def run_plan(plan: RunPlan, panel: Panel, events: Mapping[str, Events]) -> PortfolioRun:
    """Returns what a plan gave, from the first bar to the last.

    Raises CycleFailedError, naming the first failure, where more than `failed_cycles_max` cycles
    fail.
    """
    computed = compute(plan, panel, events)
    if plan.is_compiled and computed.targets is not None:
        config = plan.config
        return simulate_portfolio(
            panel,
            computed.targets,
            initial_cash=config.initial_cash,
            rules=config.rules,
            compounding=config.compounding,
            bars=config.bars(panel),
        )
    return drive_cycles(plan, panel, events, computed.stages, computed.targets)


def drive_cycles(
    plan: RunPlan,
    panel: Panel,
    events: Mapping[str, Events],
    stages: Stages,
    targets: Targets | None = None,
) -> PortfolioRun:
    """Runs a cycle at the close of every bar, and what it orders through the book.

    `targets` are those that the result shows. Raises as `run_plan`.
    """
    config, counts = plan.config, CycleCounts()
    book = PortfolioBook.new(len(panel.symbols), config.initial_cash, config.rules)
    bars = config.bars(panel)
    ledger = Ledger(panel.symbols, config.initial_cash, config.compounding, plan.risk.trades)
    around = Surroundings()
    bases, equity, cash = (np.empty(len(panel)) for _ in range(3))
    for bar in range(len(panel)):
        context = open_cycle(book, bars, ledger, panel, events, around, bar)
        bases[bar] = context.book.capital
        result = run_cycle(context, stages)
        counts.add(result)
        check_failures(counts, result, config.failed_cycles_max)
        place_orders(book, bar, result)
        equity[bar], cash[bar] = book.equity, book.cash
    book.end_of_data()
    return finished_run(plan, panel, targets, book, (bases, equity, cash), counts)


def open_cycle(
    book: PortfolioBook,
    bars: BookBars,
    ledger: Ledger,
    panel: Panel,
    events: Mapping[str, Events],
    around: Surroundings,
    bar: int,
) -> Context:
    """Fills what is open, marks the book at the close, and returns what is known then."""
    open_and_mark(book, bars, bar)
    known_ns = int(panel.known_ns[bar])
    return context_at(panel, events, known_ns, book=ledger.observe(book, known_ns), around=around)


def place_orders(book: PortfolioBook, bar: int, result: CycleResult) -> None:
    """Places what a cycle ordered; what it did not decide about stays as it is in the book.

    In a book that is not plain, the stop and the target of a proposal rest with its position;
    elsewhere its strategy watches them by itself.
    """
    if result.orders is None:
        return
    if book.rules.is_plain:
        # There nothing stays open from bar to bar, so that no decision and no order are the same.
        if len(result.orders):
            book.place(bar, result.orders.quantity)
        return
    row = np.where(decided(result), result.orders.quantity, np.nan)
    if np.isfinite(book.rules.leverage):
        # With a margin, what reduces a position makes room for the rest.
        is_reducing = row * book.quantity < 0.0
        book.place(bar, np.where(is_reducing, row, row * 0.0))
        row = np.where(is_reducing | (row == 0.0), np.nan, row)
    guarded = [each for each in result.orders if each.proposal and not each.proposal.is_exit]
    columns = {symbol: column for column, symbol in enumerate(result.symbols)}
    row[[columns[each.symbol] for each in guarded]] = np.nan
    book.place(bar, row)
    requests = [
        order_request(columns[each.symbol], each.quantity, bracket=bracket_of(each))
        for each in guarded
    ]
    book.place_requests(bar, requests)


def decided(result: CycleResult) -> NDArray[np.bool_]:
    """Returns about which instruments a cycle decided anything, shape (symbols,)."""
    proposals = result.proposals
    if proposals is None:
        return np.zeros(len(result.symbols), dtype=bool)
    if proposals.weights is not None:
        return np.asarray(~np.isnan(proposals.weights))
    traded = {each.symbol for each in proposals.trades}
    return np.array([symbol in traded for symbol in result.symbols], dtype=bool)


def bracket_of(order: CycleOrder) -> Bracket:
    """Returns the exits that rest with what an order enters."""
    proposal = order.proposal
    if proposal is None:
        return Bracket()
    return Bracket(proposal.stop_loss or 0.0, proposal.take_profit or 0.0)


def check_failures(counts: CycleCounts, result: CycleResult, failed_max: int) -> None:
    """Raises CycleFailedError where a cycle failed that is one too many."""
    failure = result.failure
    if failure is None or counts.failed <= failed_max:
        return
    raise CycleFailedError(
        f"{counts.failed} of {counts.cycles} cycles failed, more than failed_cycles_max "
        f"{failed_max}. The first: {counts.first_failure}.",
        metadata={"failed": str(counts.failed), "stage": str(failure.stage)},
    ) from failure.error


def finished_run(
    plan: RunPlan,
    panel: Panel,
    targets: Targets | None,
    book: PortfolioBook,
    curves: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    counts: CycleCounts,
) -> PortfolioRun:
    """Returns the run of a book that has seen its last bar; `curves` are base, equity and cash."""
    run = run_of_book(panel, targets, plan.config.initial_cash, book, curves)
    return replace(run, cycles=counts)
