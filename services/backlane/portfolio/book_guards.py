"""Exits that rest with the positions of a book: when they are reached, and what they then do."""

import math

import numpy as np
from numpy.typing import NDArray

from backlane.execution.order import ExitReason
from backlane.execution.order_prices import OrderKind
from backlane.execution.protection import NO_EXIT, protective_exit, stop_level
from backlane.execution.target_orders import BookOrderOutcome
from backlane.jit import inner_kernel
from backlane.portfolio.book import BookArrays
from backlane.portfolio.book_details import NO_BAR, BookDetails
from backlane.portfolio.book_fills import close_order, try_fill

_PENDING = int(BookOrderOutcome.PENDING)
_NO_VOLUME = int(BookOrderOutcome.NO_VOLUME)
_POSITION_CLOSED = int(BookOrderOutcome.POSITION_CLOSED)
_STOP_LOSS, _STOP_LOSS_REASON = int(OrderKind.STOP_LOSS), int(ExitReason.STOP_LOSS)
_TAKE_PROFIT, _TAKE_PROFIT_REASON = int(OrderKind.TAKE_PROFIT), int(ExitReason.TAKE_PROFIT)
_TRAILING_STOP = int(OrderKind.TRAILING_STOP)


@inner_kernel
def new_order(
    book: BookArrays, details: BookDetails, bar: int, symbol: int, signed_quantity: float, kind: int
) -> int:
    """Notes an order and returns its index; it is not listed as open."""
    totals = book.totals[0]
    index: int = totals.order_count
    order, terms = book.orders[index], details.terms[index]
    order.time_index, order.symbol, order.quantity = bar, symbol, signed_quantity
    order.price, order.outcome = book.last_close[symbol], _PENDING
    terms.kind, terms.limit_price, terms.stop_price = kind, math.nan, math.nan
    terms.expires_bar, terms.is_triggered, terms.filled_quantity = bar, 0, 0.0
    terms.reason, terms.closed_bar = _NO_VOLUME, NO_BAR
    terms.stop_loss, terms.take_profit, terms.trailing_stop = 0.0, 0.0, 0.0
    totals.order_count += 1
    return index


@inner_kernel
def cancel_open_orders(
    book: BookArrays, details: BookDetails, bar: int, symbol: int, outcome: int
) -> None:
    """Ends the open orders of an instrument; they leave the list with the next `drop_closed`."""
    for position in range(book.totals[0].open_count):
        index = book.open_orders[position]
        if book.orders[index].symbol == symbol and book.orders[index].outcome == _PENDING:
            close_order(details, book, index, bar, outcome)


@inner_kernel
def drop_closed(book: BookArrays) -> None:
    """Takes orders that have ended off the list of open ones."""
    totals, kept = book.totals[0], 0
    for position in range(totals.open_count):
        index = book.open_orders[position]
        if book.orders[index].outcome == _PENDING:
            book.open_orders[kept] = index
            kept += 1
    totals.open_count = kept


@inner_kernel
def _reached(
    details: BookDetails, symbol: int, side: int, open_price: float, high: float, low: float,
    is_within: bool,
) -> tuple[int, float]:  # fmt: skip
    """Returns (ExitReason, price) of the exit that a bar reaches, (NO_EXIT, NaN) for none.

    Of a position entered after the open (`is_within`) only the stop is looked at: what was best in
    the bar may have been before it.
    """
    guard = details.guards[symbol]
    reason, stop = stop_level(
        side, guard.entry_price, guard.best_price, guard.stop_loss, guard.trailing_stop, 0.0
    )
    if is_within:
        worst = low if side > 0 else high
        if side * (worst - stop) <= 0.0:
            return reason, stop
        return NO_EXIT, math.nan
    target = math.nan
    if guard.take_profit > 0.0:
        target = guard.entry_price * (1.0 + side * guard.take_profit)
    return protective_exit(side, open_price, high, low, reason, stop, target, 0.0)


@inner_kernel
def _exit_kind(reason: int) -> int:
    if reason == _STOP_LOSS_REASON:
        return _STOP_LOSS
    if reason == _TAKE_PROFIT_REASON:
        return _TAKE_PROFIT
    return _TRAILING_STOP


@inner_kernel
def close_reached(
    book: BookArrays, details: BookDetails, bar: int, opens: NDArray[np.float64],
    highs: NDArray[np.float64], lows: NDArray[np.float64], volumes: NDArray[np.float64],
    is_within: bool,
) -> None:  # fmt: skip
    """Closes the positions whose exits this bar reaches, and cancels their open orders.

    With `is_within` those alone that were entered after the open, else the others. A take-profit
    waits at its limit, and pays no spread; a stop takes what is there.
    """
    for symbol in range(len(opens)):
        held, guard = book.quantity[symbol], details.guards[symbol]
        if held == 0.0 or opens[symbol] != opens[symbol]:
            continue
        if (guard.entered_bar == bar) != is_within:
            continue
        side = 1 if held > 0.0 else -1
        reason, price = _reached(
            details, symbol, side, opens[symbol], highs[symbol], lows[symbol], is_within
        )
        if reason == NO_EXIT:
            continue
        cancel_open_orders(book, details, bar, symbol, _POSITION_CLOSED)
        kind = _exit_kind(reason)
        index = new_order(book, details, bar, symbol, -held, kind)
        is_passive = kind == _TAKE_PROFIT and price != opens[symbol]
        try_fill(
            book, details, index, bar, price, opens[symbol], volumes[symbol], is_passive, NO_BAR
        )
        if book.orders[index].outcome == _PENDING:
            close_order(details, book, index, bar, _NO_VOLUME)


@inner_kernel
def note_best(
    book: BookArrays, details: BookDetails, bar: int, highs: NDArray[np.float64],
    lows: NDArray[np.float64], closes: NDArray[np.float64],
) -> None:  # fmt: skip
    """Follows the best price of each position through a bar; from its close alone if entered in it.

    Called at the close: a trailing stop looks at the bars before.
    """
    for symbol in range(len(closes)):
        held, guard = book.quantity[symbol], details.guards[symbol]
        if held == 0.0 or closes[symbol] != closes[symbol]:
            continue
        best = highs[symbol] if held > 0.0 else lows[symbol]
        if guard.entered_bar == bar:
            best = closes[symbol]
        if held > 0.0:
            guard.best_price = max(guard.best_price, best)
        else:
            guard.best_price = min(guard.best_price, best)
