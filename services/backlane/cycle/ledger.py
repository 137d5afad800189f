"""The ledger of a run: what happened in its book, as the facts that risk and strategies ask for."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backlane.cycle.context import BookFacts, HeldTrade
from backlane.execution.order_prices import OrderKind
from backlane.portfolio.portfolio_book import PortfolioBook
from backlane.risk.facts import TradeTimes
from backlane.risk.limits import RiskLimits
from backlane.risk.position_checks import DAY_NS
from backlane.risk.proposal import canonical_symbol
from backlane.risk.trade_limits import TradeEnd, rest_ns

HOUR_NS = 3_600_000_000_000
WEEK_NS = 7 * DAY_NS
_MONDAY_NS = 3 * DAY_NS  # 1970-01-01 was a Thursday: weeks begin three days before it
STOPS = frozenset({OrderKind.STOP_LOSS, OrderKind.TRAILING_STOP})
FLAT_QUANTITY = 1e-9
"""Units; what rounding leaves of a position that was closed in parts."""


@dataclass(slots=True)
class _Trade:
    """A trade that is open: since when, its units, and its money so far, costs included.

    `entered` and `paid` are the units of its entries and what they were priced at, both positive.
    """

    entry_ns: int
    units: float = 0.0
    money: float = 0.0
    entered: float = 0.0
    paid: float = 0.0

    @property
    def held(self) -> HeldTrade:
        """The same for those who ask."""
        return HeldTrade(self.entry_ns, self.paid / self.entered)


@dataclass(slots=True)
class _Times:
    """What `TradeTimes` says, growing; symbols are canonical."""

    last_trade_ns: int | None = None
    last_trade_ns_by_symbol: dict[str, int] = field(default_factory=dict)
    cooldown_until_ns_by_symbol: dict[str, int] = field(default_factory=dict)
    buy_fills_ns_by_symbol: dict[str, tuple[int, ...]] = field(default_factory=dict)
    last_loss_ns: int | None = None

    def frozen(self) -> TradeTimes:
        """Returns the same for a context, which nothing changes any more."""
        return TradeTimes(
            self.last_trade_ns,
            dict(self.last_trade_ns_by_symbol),
            dict(self.cooldown_until_ns_by_symbol),
            dict(self.buy_fills_ns_by_symbol),
            self.last_loss_ns,
        )


@dataclass(slots=True)
class _Period:
    """A day or a week: its number, and the equity at its start."""

    number: int | None = None
    start_equity: float = 0.0


@dataclass(slots=True)
class Ledger:
    """Follows a book from bar to bar. All times are those at which bars became known, UTC.

    An entry is a fill that opens or enlarges a position: it counts as a trade of its day and of the
    hour before now, and for the spacing of trades. A trade ends when its position is flat: with a
    loss after costs it lengthens the streak of losses, with anything else it ends it; then its
    instrument rests for the minutes of `limits`, those of a stop where a stop ended it. Days are
    those of UTC, weeks begin on Monday; a return is that since the last mark before either.
    """

    symbols: tuple[str, ...]
    initial_cash: float
    compounds: bool = True
    limits: RiskLimits = field(default_factory=RiskLimits)
    external: frozenset[str] = frozenset()
    consecutive_losses: int = 0
    fill_count: int = 0
    _names: tuple[str, ...] = ()
    _times: _Times = field(default_factory=_Times)
    _known_ns: list[int] = field(default_factory=list)
    _entries_ns: list[int] = field(default_factory=list)
    _open: dict[int, _Trade] = field(default_factory=dict)
    _held: dict[str, HeldTrade] = field(default_factory=dict)
    _day: _Period = field(default_factory=_Period)
    _week: _Period = field(default_factory=_Period)
    _last_equity: float | None = None

    def __post_init__(self) -> None:
        self._names = tuple(map(canonical_symbol, self.symbols))

    def observe(self, book: PortfolioBook, known_ns: int) -> BookFacts:
        """Takes over what happened up to the mark of a bar, and returns the facts of its close.

        `known_ns` is when the bar that the book was just marked at became known.
        """
        self._known_ns.append(known_ns)
        self._take_over(book)
        equity = book.equity
        self._turn(self._day, known_ns // DAY_NS)
        self._turn(self._week, (known_ns + _MONDAY_NS) // WEEK_NS)
        self._last_equity = equity
        self._forget(known_ns)
        return self._facts(book, equity, known_ns)

    def _take_over(self, book: PortfolioBook) -> None:
        """Books the fills since the last bar, as plain numbers: there may be many."""
        fills = book.fills[self.fill_count :]
        if len(fills) == 0:
            return
        parts = book.fill_parts[self.fill_count :]
        kinds = parts["kind"].tolist() if len(parts) else [OrderKind.MARKET] * len(fills)
        columns = [
            fills[name].tolist() for name in ("symbol", "time_index", "quantity", "price", "cost")
        ]
        for kind, column, index, quantity, price, cost in zip(kinds, *columns, strict=True):
            self._fill(column, quantity, price, cost, self._known_ns[index], kind in STOPS)
        self.fill_count += len(fills)

    def _fill(
        self, column: int, quantity: float, price: float, cost: float, at_ns: int, is_stop: bool
    ) -> None:
        """Books a fill: what it closes ends a trade, what is left of it enters one."""
        trade = self._open.get(column)
        rest = quantity
        if trade is not None and trade.units * quantity < 0.0:
            closing = math.copysign(min(abs(quantity), abs(trade.units)), quantity)
            trade.units += closing
            trade.money -= closing * price + cost * closing / quantity
            rest = quantity - closing
            if abs(trade.units) <= FLAT_QUANTITY:
                self._end(column, trade.money, at_ns, is_stop)
        if abs(rest) > FLAT_QUANTITY:
            self._enter(column, rest, price, cost * rest / quantity, at_ns)

    def _enter(self, column: int, units: float, price: float, cost: float, at_ns: int) -> None:
        trade = self._open.setdefault(column, _Trade(at_ns))
        trade.units += units
        trade.money -= units * price + cost
        trade.entered += abs(units)
        trade.paid += abs(units) * price
        self._held[self.symbols[column]] = trade.held
        name, times = self._names[column], self._times
        self._entries_ns.append(at_ns)
        times.last_trade_ns = at_ns
        times.last_trade_ns_by_symbol[name] = at_ns
        if units > 0.0:
            bought = times.buy_fills_ns_by_symbol.get(name, ())
            day = at_ns // DAY_NS
            kept = tuple(each for each in bought if each // DAY_NS == day)
            times.buy_fills_ns_by_symbol[name] = (*kept, at_ns)

    def _end(self, column: int, profit: float, at_ns: int, is_stop: bool) -> None:
        del self._open[column], self._held[self.symbols[column]]
        is_loss = profit < 0.0
        self.consecutive_losses = self.consecutive_losses + 1 if is_loss else 0
        end = TradeEnd.LOSS if is_loss else TradeEnd.WIN
        end = TradeEnd.STOP_LOSS if is_stop else end
        if is_loss:
            self._times.last_loss_ns = at_ns
        until_ns = at_ns + rest_ns(end, self.limits)
        self._times.cooldown_until_ns_by_symbol[self._names[column]] = until_ns

    def _turn(self, period: _Period, number: int) -> None:
        """Begins a new day or week with the equity of the last mark before it."""
        if period.number != number:
            before = self._last_equity
            period.number = number
            period.start_equity = self.initial_cash if before is None else before

    def _forget(self, known_ns: int) -> None:
        """Forgets entries that neither this day nor the last hour has."""
        least_ns = min(known_ns // DAY_NS * DAY_NS, known_ns - HOUR_NS + 1)
        self._entries_ns = [each for each in self._entries_ns if each >= least_ns]

    def _facts(self, book: PortfolioBook, equity: float, known_ns: int) -> BookFacts:
        day = known_ns // DAY_NS
        return BookFacts(
            cash=book.cash,
            equity=equity,
            capital=equity if self.compounds else self.initial_cash,
            peak_equity=book.peak_equity,
            quantity=book.quantity.copy(),
            pending_quantity=book.pending_quantity,
            last_close=book.last_close.copy(),
            times=self._times.frozen(),
            open_trades=dict(self._held),
            daily_return=_return(equity, self._day),
            weekly_return=_return(equity, self._week),
            trades_today=sum(each // DAY_NS == day for each in self._entries_ns),
            trades_this_hour=sum(each > known_ns - HOUR_NS for each in self._entries_ns),
            consecutive_losses=self.consecutive_losses,
            external=self.external,
        )

    # --- to go on from ------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Returns everything that the next bar depends on, as plain data that JSON can hold."""
        return {
            "times": asdict(self._times),
            "consecutive_losses": self.consecutive_losses,
            "fill_count": self.fill_count,
            "known_ns": list(self._known_ns),
            "entries_ns": list(self._entries_ns),
            "open": {str(key): asdict(each) for key, each in self._open.items()},
            "day": asdict(self._day),
            "week": asdict(self._week),
            "last_equity": self._last_equity,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state`; the ledger must have been made with the same arguments."""
        self._times = _Times(**state["times"])
        bought = self._times.buy_fills_ns_by_symbol
        self._times.buy_fills_ns_by_symbol = {key: tuple(each) for key, each in bought.items()}
        self.consecutive_losses = state["consecutive_losses"]
        self.fill_count = state["fill_count"]
        self._known_ns = list(state["known_ns"])
        self._entries_ns = list(state["entries_ns"])
        self._open = {int(key): _Trade(**each) for key, each in state["open"].items()}
        self._held = {self.symbols[key]: each.held for key, each in self._open.items()}
        self._day, self._week = _Period(**state["day"]), _Period(**state["week"])
        self._last_equity = state["last_equity"]


def _return(equity: float, period: _Period) -> float:
    return equity / period.start_equity - 1.0 if period.start_equity > 0.0 else 0.0
