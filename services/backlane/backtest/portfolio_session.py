"""A portfolio fed one bar at a time: the cycle and the book of the backtest, without a file.

The same bars give the orders, fills and equity of a backtest, to the bit, and so does a session
that goes on from a `state`. It knows nothing but what it was fed, so nothing later can be in it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_cycle import (
    RunPlan,
    check_failures,
    compute,
    finished_run,
    open_cycle,
    place_orders,
)
from backlane.backtest.portfolio_decision import outcome_of
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
from backlane.backtest.portfolio_simulator import run_of_book
from backlane.backtest.session_records import (
    BarReport,
    BarRow,
    FillMade,
    OrderEnded,
    OrderPlaced,
    PositionHeld,
    SessionSetup,
)
from backlane.backtest.session_tape import GrowingRows, SessionTape
from backlane.cycle.context import Surroundings, counted_ids
from backlane.cycle.cycle_counts import CycleCounts
from backlane.cycle.ledger import Ledger
from backlane.cycle.run_cycle import run_cycle
from backlane.cycle.stages import Stages
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import Registry
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.execution.target_orders import BookOrderOutcome
from backlane.portfolio.portfolio_book import PortfolioBook

NO_FILE = "stream"
"""What stands for the panel in the configuration of a session that names no file."""
LOOKS_AHEAD = "full_sample"
"""The value of parameters that look at the whole of a file, which a session does not have."""
_CURVES = ("base", "equity", "cash")


@dataclass(frozen=True, slots=True)
class SessionState:
    """Everything that the next bar depends on: arrays by name, and plain data for JSON."""

    arrays: Mapping[str, NDArray[Any]]
    memory: Mapping[str, Any]


def session_plan(setup: SessionSetup, registry: Registry = BUILT_IN) -> RunPlan:
    """Returns the plan of a session; its configuration may leave out `data`.

    Raises InvalidRequestError, with the field of each mistake, as for a run from files, and for
    parameters that look ahead.
    """
    content = {"data": {"panel": NO_FILE}, **setup.config, "mode": "paper"}
    config = parse_portfolio_config(content, registry)
    named = [config.strategy] if config.strategy is not None else list(config.strategies)
    found = [
        FieldViolation(f"{each.name}.parameters.{key}", "looks ahead: no session can follow it")
        for each in named
        for key, value in each.parameters.items()
        if value == LOOKS_AHEAD
    ]
    if found:
        said = f"{found[0].field}: {found[0].description}"
        raise InvalidRequestError(f"The session is not valid. {said}.", violations=tuple(found))
    return plan_run(config, tuple(setup.event_columns), registry)


class PortfolioSession:
    """The book of a session, and what its cycles remember, after some bars."""

    def __init__(
        self, setup: SessionSetup, registry: Registry = BUILT_IN, stages: Stages | None = None
    ) -> None:
        """Stands before the first bar; raises what `session_plan` raises.

        `stages` stand in for those of the plan, which ask the strategies anew at each bar.
        """
        self.plan = session_plan(setup, registry)
        config = self.plan.config
        delistings = tuple(each.delisting for each in config.execution.delistings)
        _check_delistings(setup, [each.symbol for each in delistings])
        self._setup = setup
        self._tape = SessionTape(setup, config.execution.session, delistings)
        self._stages = self.plan.stages() if stages is None else stages
        self._book = PortfolioBook.new(len(setup.symbols), config.initial_cash, config.rules)
        self._ledger = Ledger(
            setup.symbols, config.initial_cash, config.compounding, self.plan.risk.trades
        )
        self._counts, self._around = CycleCounts(), Surroundings()
        self._curves = {name: GrowingRows(np.float64) for name in _CURVES}
        self._open: list[int] = []

    @property
    def bar_count(self) -> int:
        """How many bars it was fed."""
        return len(self._tape)

    def check(self, bar: BarRow) -> None:
        """Raises InvalidRequestError, naming every field at fault, for a bar that cannot follow."""
        self._tape.check(bar)

    def feed(self, bar: BarRow) -> BarReport:
        """Takes one bar, and returns what was made of it.

        Raises InvalidRequestError for a bar that cannot follow, which changes nothing, and
        CycleFailedError where too many cycles failed, which ends the session.
        """
        self._tape.check(bar)
        self._tape.append(bar)
        book, index = self._book, bar.number - 1
        orders, fills = len(book.orders), len(book.fills)
        context = open_cycle(
            book, self._tape.bars, self._ledger, self._tape.panel, self._tape.events,
            self._around, index,
        )  # fmt: skip
        result = run_cycle(context, self._stages)
        self._counts.add(result)
        check_failures(self._counts, result, self.plan.config.failed_cycles_max)
        place_orders(book, index, result)
        for name, value in zip(
            _CURVES, (context.book.capital, book.equity, book.cash), strict=True
        ):
            self._curves[name].append(value)
        return BarReport(
            bar.number,
            bar.time_ns,
            outcome_of(context, result),
            self._placed(orders),
            self._ended(orders),
            self._filled(fills),
            self.positions(),
            book.equity,
            book.cash,
        )

    def _placed(self, first: int) -> tuple[OrderPlaced, ...]:
        orders, symbols = self._book.orders, self._setup.symbols
        return tuple(
            OrderPlaced(
                index + 1,
                symbols[int(orders[index]["symbol"])],
                float(orders[index]["quantity"]),
                _number(orders[index]["price"]),
            )
            for index in range(first, len(orders))
        )

    def _ended(self, first: int) -> tuple[OrderEnded, ...]:
        """Returns what became of the orders that were open, and of those from `first` on."""
        orders = self._book.orders
        open_before = [*self._open, *range(first, len(orders))]
        outcomes = [BookOrderOutcome(int(orders[index]["outcome"])) for index in open_before]
        self._open = [
            index
            for index, outcome in zip(open_before, outcomes, strict=True)
            if outcome is BookOrderOutcome.PENDING
        ]
        return tuple(
            OrderEnded(index + 1, outcome.name.lower())
            for index, outcome in zip(open_before, outcomes, strict=True)
            if outcome is not BookOrderOutcome.PENDING
        )

    def _filled(self, first: int) -> tuple[FillMade, ...]:
        symbols = self._setup.symbols
        return tuple(
            FillMade(
                int(each["order"]) + 1,
                symbols[int(each["symbol"])],
                float(each["quantity"]),
                float(each["price"]),
                float(each["cost"]),
                float(each["cash_after"]),
            )
            for each in self._book.fills[first:]
        )

    def positions(self) -> tuple[PositionHeld, ...]:
        """Returns what is held now, by instrument."""
        quantity, closes = self._book.quantity, self._book.last_close
        return tuple(
            PositionHeld(self._setup.symbols[column], float(quantity[column]), _number(close))
            for column in np.flatnonzero(quantity).tolist()
            for close in (closes[column],)
        )

    def finish(self) -> PortfolioRun:
        """Ends what is open and returns the run, as a backtest over the same bars would."""
        panel, events, book = self._tape.panel, self._tape.events, self._book
        book.end_of_data()
        targets = compute(self.plan, panel, events).targets
        base, equity, cash = (self._curves[name].rows for name in _CURVES)
        if self.plan.is_compiled:
            start = self.plan.config.initial_cash
            return run_of_book(panel, targets, start, book, (base, equity, cash))
        return finished_run(self.plan, panel, targets, book, (base, equity, cash), self._counts)

    # --- to go on from ------------------------------------------------------------------------

    def state(self) -> SessionState:
        """Returns everything that the next bar depends on, as copies."""
        arrays = {f"tape.{name}": rows for name, rows in self._tape.state().items()}
        arrays |= {f"book.{name}": rows for name, rows in self._book.state().items()}
        arrays |= {f"curves.{name}": self._curves[name].rows.copy() for name in _CURVES}
        memory = {"ledger": self._ledger.state(), "counts": asdict(self._counts)}
        return SessionState(arrays, {**memory, "open": list(self._open)})

    def restore(self, state: SessionState) -> None:
        """Goes on from a `state` of a session of the same setup, to the same bits."""
        self._tape.restore(_part(state, "tape."))
        self._book = PortfolioBook.restore(_part(state, "book."), self.plan.config.rules)
        for name, rows in _part(state, "curves.").items():
            self._curves[name].restore(rows)
        self._ledger.restore(state.memory["ledger"])
        self._counts = CycleCounts(**state.memory["counts"])
        self._open = list(state.memory["open"])
        self._around = Surroundings(ids=counted_ids(len(self._book.orders) + 1))


def _part(state: SessionState, prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): rows
        for name, rows in state.arrays.items()
        if name.startswith(prefix)
    }


def _check_delistings(setup: SessionSetup, symbols: list[str]) -> None:
    for place, symbol in enumerate(symbols):
        if symbol not in setup.symbols:
            field = f"execution.delistings.{place}.symbol"
            said = f"{symbol[:80]!r} is no instrument of the session"
            violation = FieldViolation(field, said)
            raise InvalidRequestError(f"{field}: {said}.", violations=(violation,))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
