"""The book of a portfolio, driven bar by bar: open, mark, place."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.execution.order_prices import OrderKind
from backlane.portfolio import book_full_steps, book_steps
from backlane.portfolio.book import BookArrays, book_equity, new_book, with_more_room
from backlane.portfolio.book_details import (
    FILL_PARTS_DTYPE,
    ORDER_REQUEST_DTYPE,
    ORDER_TERMS_DTYPE,
    BookDetails,
    new_details,
    with_room_of,
)
from backlane.portfolio.book_full_loop import BookBars, run_full_book
from backlane.portfolio.book_loop import run_book
from backlane.portfolio.book_rules import BookRules, Bracket

FIRST_ROOM = 1024
"""Orders that a book has room for at first, at least; the room doubles when it is full."""
NO_BRACKET = Bracket()
_EMPTY = {"terms": ORDER_TERMS_DTYPE, "parts": FILL_PARTS_DTYPE}
_DETAILS = ("terms", "parts", "guards", "turnovers", "returns")


def order_request(
    symbol: int,
    quantity: float,
    kind: OrderKind = OrderKind.MARKET,
    *,
    limit_price: float = math.nan,
    stop_price: float = math.nan,
    expires_bars: int = 0,
    bracket: Bracket = NO_BRACKET,
) -> NDArray[np.void]:
    """Returns an order to place, ORDER_REQUEST_DTYPE of shape (1,).

    `quantity` is in signed units. `expires_bars` of 0 takes those of the rules, below 0 the order
    does not expire. The bracket is that of the position which the order enters; without one the
    rules' holds. A kind without the prices that it needs raises ValueError.
    """
    needs_limit = kind in {OrderKind.LIMIT, OrderKind.STOP_LIMIT}
    needs_stop = kind in {OrderKind.STOP, OrderKind.STOP_LIMIT}
    if kind > OrderKind.STOP_LIMIT:
        raise ValueError(f"{kind.name} is no order to place: give the order a bracket")
    if (needs_limit and not limit_price > 0) or (needs_stop and not stop_price > 0):
        raise ValueError(
            f"a {kind.name} order has a limit of {limit_price}, a stop of {stop_price}"
        )
    if not abs(quantity) > 0 or math.isinf(quantity):
        raise ValueError(f"an order has a quantity of {quantity}: give signed units")
    request = np.zeros(1, ORDER_REQUEST_DTYPE)
    request[0] = (
        symbol, quantity, int(kind), limit_price, stop_price, expires_bars,
        bracket.stop_loss, bracket.take_profit, bracket.trailing_stop,
    )  # fmt: skip
    return request


class PortfolioBook:
    """Cash, positions and orders of many instruments, advanced one bar at a time.

    A bar is `open_bar`, `mark_bar`, then any of the `place...` calls: what was open fills, the book
    is marked at the close, and what is decided there becomes orders. The steps are those of the
    compiled loops, and give the same bits. Rows have shape (symbols,), NaN where an instrument has
    no bar. Steps out of their order raise ValueError.

    A book whose rules are plain runs on the short path; any other needs high, low and volume of
    each bar, and its time where money is borrowed.
    """

    def __init__(
        self,
        arrays: BookArrays,
        details: BookDetails | None,
        rules: BookRules,
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Takes arrays over and fills them with a state; `new` and `restore` make books."""
        self._arrays = arrays
        self._details = details
        self._rules = rules
        self._record = rules.record()
        self._closes = np.full(len(arrays.quantity), np.nan)
        self._volumes = self._highs = self._lows = self._closes
        self._is_open = True
        self._opened: int | None = None
        if state is not None:
            self._take_over(state)

    @classmethod
    def new(
        cls, symbol_count: int, initial_cash: float, rules: BookRules | None = None
    ) -> "PortfolioBook":
        """Returns a book that holds nothing but cash; its first bar has index 0."""
        told, room = rules or BookRules(), max(FIRST_ROOM, 4 * symbol_count)
        details = None if told.is_plain else new_details(symbol_count, told, room)
        return cls(new_book(symbol_count, initial_cash, room), details, told)

    @classmethod
    def restore(
        cls, state: Mapping[str, NDArray[Any]], rules: BookRules | None = None
    ) -> "PortfolioBook":
        """Returns the book of a `state`, which goes on to the same bits; the arrays are copied.

        The rules must be those of the book that the state is of.
        """
        told, symbol_count = rules or BookRules(), len(state["quantity"])
        room = max(FIRST_ROOM, 4 * symbol_count, len(state["orders"]), len(state["fills"]))
        details = None if told.is_plain else new_details(symbol_count, told, room)
        return cls(new_book(symbol_count, 0.0, room), details, told, state)

    def _take_over(self, state: Mapping[str, NDArray[Any]]) -> None:
        kept = {**self._arrays._asdict(), **self._detail_arrays()}
        if set(state) != {*kept, "closes", "volumes", "is_open"}:
            raise ValueError(f"a state of other rules: it has {', '.join(sorted(state))}")
        for name, values in kept.items():
            values[: len(state[name])] = state[name]
        self._closes, self._volumes = state["closes"].copy(), state["volumes"].copy()
        self._is_open = bool(state["is_open"][0])

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns everything that the next bar depends on, as copies, between two bars."""
        if self._opened is not None:
            raise ValueError(f"bar {self._opened} is open: its close is still to come")
        totals = self._arrays.totals[0]
        counts = {
            "orders": totals["order_count"], "terms": totals["order_count"],
            "fills": totals["fill_count"], "parts": totals["fill_count"],
            "open_orders": totals["open_count"],
        }  # fmt: skip
        arrays = {**self._arrays._asdict(), **self._detail_arrays()}
        state = {name: values[: counts.get(name)].copy() for name, values in arrays.items()}
        state["closes"], state["volumes"] = self._closes.copy(), self._volumes.copy()
        state["is_open"] = np.array([self._is_open])
        return state

    def _detail_arrays(self) -> dict[str, NDArray[Any]]:
        if self._details is None:
            return {}
        named = {name: getattr(self._details, name) for name in _DETAILS}
        return {**named, "detail_totals": self._details.totals}

    # --- a bar --------------------------------------------------------------------------------

    def open_bar(
        self,
        bar_index: int,
        open: NDArray[np.float64],  # noqa: A002 - the word of the bar
        high: NDArray[np.float64] | None = None,
        low: NDArray[np.float64] | None = None,
        volume: NDArray[np.float64] | None = None,
        *,
        time_ns: int = 0,
        is_open: bool = True,
    ) -> None:
        """Fills what is open. Bars come in order: `bar_index` is the `next_bar`.

        Without a `volume` none is known. `is_open` says whether the exchange is.
        """
        if bar_index != self.next_bar or self._opened is not None:
            raise ValueError(f"bar {bar_index} is opened; the next is {self.next_bar}")
        self._make_room()
        opens = self._row(open)
        if self._details is None:
            book_steps.open_bar(self._arrays, self._record, bar_index, opens)
        elif high is None or low is None:
            raise ValueError("the rules of this book need the high and the low of a bar")
        else:
            self._highs, self._lows = self._row(high), self._row(low)
            self._volumes = np.full_like(opens, np.nan) if volume is None else self._row(volume)
            self._is_open = is_open
            book_full_steps.full_open_bar(
                self._arrays, self._details, bar_index, time_ns, is_open,
                opens, self._highs, self._lows, self._volumes,
            )  # fmt: skip
        self._opened = bar_index

    def mark_bar(self, bar_index: int, close: NDArray[np.float64]) -> float:
        """Marks the book at the closes and returns its equity, money."""
        if bar_index != self._opened:
            raise ValueError(f"bar {bar_index} is marked before it is opened")
        self._closes = self._row(close)
        equity: float
        if self._details is None:
            equity = book_steps.mark_bar(self._arrays, self._closes)
        else:
            equity = book_full_steps.full_mark_bar(
                self._arrays, self._details, bar_index,
                self._highs, self._lows, self._closes, self._volumes,
            )  # fmt: skip
        self._arrays.totals["next_bar"] = bar_index + 1
        self._opened = None
        return equity

    def advance(
        self,
        bars: BookBars,
        weights: NDArray[np.float64],
        curves: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
        stop: int,
        constant_base: float | None = None,
    ) -> None:
        """Runs the compiled loop over the bars from `next_bar` up to `stop`, which is left out.

        `weights` (times, symbols) are placed at every bar, as shares of `constant_base` or, without
        it, of the equity; `curves` are (base, equity, cash), arrays (times,), filled in.
        """
        base = math.nan if constant_base is None else constant_base
        while True:
            if self._details is None:
                is_full = run_book(
                    self._arrays, self._record, bars.open, bars.close, weights, base, *curves, stop
                )
            else:
                is_full = run_full_book(
                    self._arrays, self._details, bars, weights, base, *curves, stop
                )
            if not is_full:
                break
            self._grow()
        last = self.next_bar - 1
        if last >= 0:
            self._closes = bars.close[last].copy()
        if last >= 0 and self._details is not None:
            self._volumes, self._is_open = bars.volume[last].copy(), bool(bars.is_open[last])

    def place(self, bar_index: int, orders: NDArray[np.float64]) -> None:
        """Places market orders for signed units, one for each instrument.

        NaN is no decision; 0 orders nothing, and like any other number replaces what is open.
        """
        self._check_marked(bar_index)
        row = self._row(orders)
        if self._details is None:
            book_steps.place_quantities(self._arrays, self._record, bar_index, self._closes, row)
        else:
            book_full_steps.full_place_quantities(
                self._arrays, self._details, bar_index,
                self._closes, self._volumes, self._is_open, row,
            )  # fmt: skip

    def place_weights(
        self, bar_index: int, weights: NDArray[np.float64], base: float | None = None
    ) -> None:
        """Places what turns the positions into `weights` of `base`, by default of the equity.

        NaN is no decision, 0 is flat.
        """
        self._check_marked(bar_index)
        capital = float(self._arrays.totals[0]["equity"]) if base is None else base
        row = self._row(weights)
        if self._details is None:
            book_steps.place_weights(
                self._arrays, self._record, bar_index, self._closes, row, capital
            )
        else:
            book_full_steps.full_place_weights(
                self._arrays, self._details, bar_index,
                self._closes, self._volumes, self._is_open, row, capital,
            )  # fmt: skip

    def place_requests(self, bar_index: int, requests: Sequence[NDArray[np.void]]) -> list[int]:
        """Places each `order_request` beside what is open, and returns their indices.

        The rules must say `takes_requests`, or have any other detail.
        """
        details = self._needs_details("orders with terms of their own")
        self._check_marked(bar_index)
        placed = []
        for request in requests:
            self._make_room()
            details = self._needs_details("orders")
            symbol = int(request["symbol"][0])
            placed.append(int(self._arrays.totals[0]["order_count"]))
            book_full_steps.full_place_request(
                self._arrays, details, bar_index, self._closes[symbol], self._volumes[symbol],
                self._is_open, request[0],
            )  # fmt: skip
        return placed

    def cancel(self, order_index: int) -> bool:
        """Cancels an order; returns whether it was open."""
        details = self._needs_details("orders that stay open")
        bar = self.next_bar - 1
        return bool(book_full_steps.cancel_order(self._arrays, details, bar, order_index))

    def delist(self, symbol: int, final_price: float = math.nan) -> None:
        """Ends the trading of an instrument before the next bar opens.

        Its position is paid out at `final_price`; with NaN it is kept, at its last close.
        """
        details = self._needs_details("delistings")
        self._make_room()
        book_full_steps.delist(self._arrays, details, self.next_bar, symbol, final_price)

    def end_of_data(self) -> None:
        """Ends the orders that are still open: there will be no bar for them."""
        if self._details is None:
            book_steps.end_of_data(self._arrays)
        else:
            book_full_steps.full_end_of_data(self._arrays, self._details, self.next_bar - 1)

    # --- facts --------------------------------------------------------------------------------

    @property
    def next_bar(self) -> int:
        """The index of the bar to open next: how many were marked."""
        return int(self._arrays.totals[0]["next_bar"])

    @property
    def cash(self) -> float:
        """Money not invested; below 0 when borrowed."""
        return float(self._arrays.cash[0])

    @property
    def quantity(self) -> NDArray[np.float64]:
        """Signed units of each instrument, read-only."""
        return _view(self._arrays.quantity)

    @property
    def last_close(self) -> NDArray[np.float64]:
        """The last close known of each instrument, NaN before its first bar; read-only."""
        return _view(self._arrays.last_close)

    @property
    def equity(self) -> float:
        """Cash and the value of the positions at the last closes, money, after all fills."""
        book = self._arrays
        return float(book_equity(book.cash, book.quantity, book.last_close))

    @property
    def peak_equity(self) -> float:
        """The highest equity at a mark so far, or the initial cash."""
        return float(self._arrays.totals[0]["peak_equity"])

    @property
    def pending(self) -> NDArray[np.void]:
        """The orders that are open, BOOK_ORDER_DTYPE, in the order in which they were placed."""
        count = self._arrays.totals[0]["open_count"]
        return self._arrays.orders[self._arrays.open_orders[:count]]

    @property
    def pending_quantity(self) -> NDArray[np.float64]:
        """The signed units of the open orders of each instrument that have not filled yet."""
        totals, units = self._arrays.totals[0], np.zeros(len(self._arrays.quantity))
        listed = self._arrays.open_orders[: totals["open_count"]]
        left = self._arrays.orders["quantity"][listed]
        if self._details is not None:
            left = left - self._details.terms["filled_quantity"][listed]
        np.add.at(units, self._arrays.orders["symbol"][listed], left)
        return units

    @property
    def orders(self) -> NDArray[np.void]:
        """Every order so far, BOOK_ORDER_DTYPE, read-only; a longer array after more of them."""
        return _view(self._arrays.orders[: self._arrays.totals[0]["order_count"]])

    @property
    def fills(self) -> NDArray[np.void]:
        """Every fill so far, BOOK_FILL_DTYPE, read-only."""
        return _view(self._arrays.fills[: self._arrays.totals[0]["fill_count"]])

    @property
    def terms(self) -> NDArray[np.void]:
        """Kind, prices, expiry and state of every order, ORDER_TERMS_DTYPE; empty when plain."""
        return _view(self._counted("terms", "order_count"))

    @property
    def fill_parts(self) -> NDArray[np.void]:
        """The costs of every fill by component, FILL_PARTS_DTYPE; empty when plain."""
        return _view(self._counted("parts", "fill_count"))

    @property
    def interest(self) -> float:
        """Money paid so far on borrowed cash."""
        return 0.0 if self._details is None else float(self._details.totals[0]["interest"])

    @property
    def unpaid_borrow(self) -> NDArray[np.float64]:
        """Borrow fees of each instrument since its last fill, money; they have left the cash."""
        if self._details is None:
            return np.zeros(len(self._arrays.quantity))
        return self._details.guards["borrow"].copy()

    @property
    def is_delisted(self) -> NDArray[np.bool_]:
        """Which instruments are no longer traded."""
        if self._details is None:
            return np.zeros(len(self._arrays.quantity), bool)
        flags: NDArray[np.bool_] = self._details.guards["is_delisted"] != 0
        return flags

    @property
    def rules(self) -> BookRules:
        """The rules that it was made with."""
        return self._rules

    def _counted(self, name: str, count: str) -> NDArray[Any]:
        if self._details is None:
            return np.zeros(0, _EMPTY[name])
        records: NDArray[Any] = getattr(self._details, name)
        return records[: self._arrays.totals[0][count]]

    def _needs_details(self, what: str) -> BookDetails:
        if self._details is None:
            raise ValueError(f"the rules of this book are plain: they know no {what}")
        return self._details

    def _check_marked(self, bar_index: int) -> None:
        if self._opened is not None or bar_index != self.next_bar - 1:
            raise ValueError(f"orders of bar {bar_index} are placed; marked is {self.next_bar - 1}")
        self._make_room()  # orders may be placed more than once at a bar

    def _make_room(self) -> None:
        is_full = self._details is not None
        has_room = book_full_steps.full_has_room if is_full else book_steps.has_room
        while not has_room(self._arrays):
            self._grow()

    def _grow(self) -> None:
        self._arrays = with_more_room(self._arrays)
        if self._details is not None:
            self._details = with_room_of(self._details, len(self._arrays.orders))

    def _row(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        row = np.array(values, dtype=np.float64)
        if row.shape != self._arrays.quantity.shape:
            raise ValueError(f"a row has shape {row.shape}, not {self._arrays.quantity.shape}")
        return row


def _view(values: NDArray[Any]) -> NDArray[Any]:
    view = values.view()
    view.flags.writeable = False
    return view
