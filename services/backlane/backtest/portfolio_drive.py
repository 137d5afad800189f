"""A portfolio run in slices: watched, stopped, kept, and gone on with to the same bits.

It calls what `portfolio_cycle.run_plan` calls, on the same bars: a book that runs compiled, or a
cycle at each bar. So a run through the services gives the bytes of one in process.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.observer import RunObserver, raise_if_cancelled
from backlane.backtest.portfolio_checkpoint import CURVES, PortfolioCheckpoint
from backlane.backtest.portfolio_cycle import (
    RunPlan,
    check_failures,
    compute,
    finished_run,
    open_cycle,
    place_orders,
)
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_simulator import run_of_book
from backlane.cycle.context import Surroundings, counted_ids
from backlane.cycle.cycle_counts import CycleCounts
from backlane.cycle.ledger import FLAT_QUANTITY, Ledger
from backlane.cycle.loop import Slot
from backlane.cycle.run_cycle import run_cycle
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.portfolio.portfolio_book import PortfolioBook
from backlane.portfolio.trade import TRADE_DTYPE

SLICES_PER_RUN = 64
"""Into how many slices a run is cut at least: after each, the equity is reported."""
CYCLES_PER_SLICE_MAX = 100
"""Bars of a slice that is driven by Python, so that a checkpoint is never far."""
CELLS_PER_SLICE_MAX = 2_000_000
"""Bars times instruments of a compiled slice, which cannot be stopped inside."""
_NO_TRADES = np.empty(0, TRADE_DTYPE)


class PortfolioCheckpointTaker(Protocol):
    """Decides when a checkpoint is due, and keeps it; see `checkpointing.CheckpointTaker`."""

    def is_due(self, simulated_bars: int) -> bool:
        """Says whether one is due now, so many bars being simulated."""
        ...

    def take(self, checkpoint: PortfolioCheckpoint, *, is_final: bool = False) -> None:
        """Takes it; its arrays are copies, or views that nobody changes any more."""
        ...


class PortfolioDrive:
    """The book of a run, and what its cycles remember, at some bar."""

    def __init__(self, plan: RunPlan, panel: Panel, events: Mapping[str, Events]) -> None:
        """Asks the strategies, once for all bars; the book stands before the first.

        Raises what `portfolio_run.run_portfolio` raises.
        """
        config = plan.config
        self._plan, self._panel, self._events = plan, panel, events
        self._computed = compute(plan, panel, events)
        self._bars = config.bars(panel)
        self._book = PortfolioBook.new(len(panel.symbols), config.initial_cash, config.rules)
        self._ledger = Ledger(
            panel.symbols, config.initial_cash, config.compounding, plan.risk.trades
        )
        self._counts = CycleCounts()
        self._around = Surroundings()
        self._curves = (np.empty(len(panel)), np.empty(len(panel)), np.empty(len(panel)))
        self._tally = TradeTally(len(panel.symbols))
        self._weights: NDArray[np.float64] | None = None
        if plan.is_compiled and self._computed.targets is not None:
            self._weights = np.array(self._computed.targets.weights, np.float64, order="C")

    @property
    def next_bar(self) -> int:
        """Returns the bar to simulate next."""
        return self._book.next_bar

    @property
    def trade_count(self) -> int:
        """Returns how many trades have ended so far."""
        return self._tally.count(self._book.fills)

    def equity_at(self, bar: int) -> float:
        """Returns the equity at the close of a bar that is simulated, money."""
        return float(self._curves[1][bar])

    def slice_ends(self) -> list[int]:
        """Returns the bar after each slice: the same for a run and for what goes on from it."""
        bar_count, symbol_count = len(self._panel), max(1, len(self._panel.symbols))
        most = CYCLES_PER_SLICE_MAX
        if self._weights is not None:
            most = max(1, CELLS_PER_SLICE_MAX // symbol_count)
        length = min(most, max(1, -(-bar_count // SLICES_PER_RUN)))
        return [*range(length, bar_count, length), bar_count] if bar_count else []

    def advance(self, stop: int, is_cancelled: Callable[[], bool]) -> bool:
        """Simulates the bars up to `stop`, which is left out; False when cancelled before it."""
        config = self._plan.config
        if self._weights is not None:
            if is_cancelled():
                return False
            base = None if config.compounding else config.initial_cash
            self._book.advance(self._bars, self._weights, self._curves, stop, base)
            return True
        for bar in range(self.next_bar, stop):
            if is_cancelled():
                return False
            self._cycle(bar)
        return True

    def _cycle(self, bar: int) -> None:
        """Does what `portfolio_cycle.drive_cycles` does at a bar."""
        book, (bases, equity, cash) = self._book, self._curves
        context = open_cycle(
            book, self._bars, self._ledger, self._panel, self._events, self._around, bar
        )
        bases[bar] = context.book.capital
        result = run_cycle(context, self._computed.stages)
        self._counts.add(result)
        check_failures(self._counts, result, self._plan.config.failed_cycles_max)
        place_orders(book, bar, result)
        equity[bar], cash[bar] = book.equity, book.cash

    def finish(self) -> PortfolioRun:
        """Returns the run of a book that has seen its last bar."""
        self._book.end_of_data()
        targets = self._computed.targets
        if self._weights is not None:
            cash = self._plan.config.initial_cash
            return run_of_book(self._panel, targets, cash, self._book, self._curves)
        return finished_run(
            self._plan, self._panel, targets, self._book, self._curves, self._counts
        )

    # --- to go on from ------------------------------------------------------------------------

    def checkpoint(self) -> PortfolioCheckpoint:
        """Returns everything that the next bar depends on."""
        memory: dict[str, Any] = {}
        if self._weights is None:
            memory = {"ledger": self._ledger.state(), "counts": asdict(self._counts)}
        curves = {
            name: values[: self.next_bar] for name, values in zip(CURVES, self._curves, strict=True)
        }
        shape = (len(self._panel), len(self._panel.symbols))
        return PortfolioCheckpoint(*shape, self.next_bar, self._book.state(), curves, memory)

    def restore(self, checkpoint: PortfolioCheckpoint) -> None:
        """Goes on from a checkpoint; raises CheckpointForeignError when it is of other bars."""
        checkpoint.check_fits(len(self._panel), len(self._panel.symbols))
        self._book = PortfolioBook.restore(checkpoint.book, self._plan.config.rules)
        for name, values in zip(CURVES, self._curves, strict=True):
            values[: checkpoint.next_bar] = checkpoint.curves[name]
        if self._weights is None:
            self._ledger.restore(checkpoint.memory["ledger"])
            self._counts = CycleCounts(**checkpoint.memory["counts"])
            self._around = Surroundings(ids=counted_ids(len(self._book.orders) + 1))


class TradeTally:
    """Counts the trades that have ended, from fills as they come."""

    def __init__(self, symbol_count: int) -> None:
        self._held = [0.0] * symbol_count
        self._seen = self._ended = 0

    def count(self, fills: NDArray[np.void]) -> int:
        """Returns how many trades the fills so far have ended; of `fills` the new ones are read."""
        new = fills[self._seen :]
        for symbol, quantity in zip(new["symbol"].tolist(), new["quantity"].tolist(), strict=True):
            before = self._held[symbol]
            after = before + quantity
            is_flat = abs(after) <= FLAT_QUANTITY
            if before != 0.0 and (is_flat or before * after < 0.0):
                self._ended += 1
            self._held[symbol] = 0.0 if is_flat else after
        self._seen = len(fills)
        return self._ended


def run_in_slices(
    plan: RunPlan,
    panel: Panel,
    events: Mapping[str, Events],
    *,
    observer: RunObserver,
    slot: NDArray[np.float64],
    checkpoints: PortfolioCheckpointTaker,
    resume: PortfolioCheckpoint | None = None,
) -> PortfolioRun:
    """Runs a plan to its end, and tells the observer of it; see `engine.run_backtest`.

    With `resume` the run goes on from there: the observer is told everything from the first bar on
    all the same, and the result has the bits of a run that was never interrupted. `checkpoints`
    takes them on the way, and a last one when the slot's CANCEL is set, which raises
    CancelledRunError. Raises CheckpointForeignError when `resume` is of other bars, and what
    `portfolio_run.run_portfolio` raises.
    """
    bar_count = len(panel)
    observer.entered("features", bar_count)
    drive = PortfolioDrive(plan, panel, events)
    observer.advanced(bar_count)
    if resume is not None:
        drive.restore(resume)
    observer.entered("simulation", bar_count)
    for stop in drive.slice_ends():
        if drive.next_bar < stop:
            if not drive.advance(stop, lambda: bool(slot[Slot.CANCEL] != 0.0)):
                checkpoints.take(drive.checkpoint(), is_final=True)
                raise_if_cancelled(slot)
            _show(slot, drive)
            if stop < bar_count and checkpoints.is_due(stop):
                checkpoints.take(drive.checkpoint())
        time_ns = int(panel.time_ns[stop - 1])
        observer.simulated(stop - 1, time_ns, drive.equity_at(stop - 1), _NO_TRADES)
    observer.entered("metrics", bar_count)
    run = drive.finish()
    observer.advanced(bar_count)
    return run


def _show(slot: NDArray[np.float64], drive: PortfolioDrive) -> None:
    slot[Slot.EQUITY] = drive.equity_at(drive.next_bar - 1)
    slot[Slot.TRADE_COUNT] = drive.trade_count
    slot[Slot.NEXT_INDEX] = drive.next_bar
