"""The compiled money path over many instruments: orders, fills and marks, bar after bar."""

import numpy as np
from numpy.typing import NDArray

from backlane.jit import kernel
from backlane.portfolio.book import BookArrays, book_equity, note_closes
from backlane.portfolio.book_steps import (
    fill_order,
    has_room,
    mark_bar,
    open_bar,
    place_weights,
)


@kernel
def run_book(
    book: BookArrays,
    rules: NDArray[np.void],
    opens: NDArray[np.float64],
    closes: NDArray[np.float64],
    weights: NDArray[np.float64],
    constant_base: float,
    bases: NDArray[np.float64],
    equities: NDArray[np.float64],
    cashes: NDArray[np.float64],
    stop: int,
) -> bool:
    """Simulates the bars from the book's next one up to `stop`, which is left out.

    Returns whether it stopped before for want of room. Arrays of bars have shape (times, symbols).
    Each bar: what is open fills; the book is marked at the close; the weights of the row become
    orders. `constant_base` is what the weights are shares of, or NaN for the equity at that close;
    either is noted in `bases` (times,), as equity and cash are after it all. It is gone on from
    where the last call stopped: what is open at `stop` stays open.
    """
    totals = book.totals[0]
    while totals.next_bar < stop:
        if not has_room(book):
            return True
        bar = totals.next_bar
        open_bar(book, rules, bar, opens[bar])
        equity = mark_bar(book, closes[bar])
        base = constant_base
        if base != base:  # NaN: the equity compounds
            base = equity
        bases[bar] = base
        fill_count = totals.fill_count
        place_weights(book, rules, bar, closes[bar], weights[bar], base)
        if totals.fill_count > fill_count:  # at this close
            equity = book_equity(book.cash, book.quantity, book.last_close)
        equities[bar] = equity
        cashes[bar] = book.cash[0]
        totals.next_bar = bar + 1
    return False


@kernel
def replay_book(
    book: BookArrays,
    closes: NDArray[np.float64],
    cost_rate: float,
    equities: NDArray[np.float64],
    cashes: NDArray[np.float64],
) -> None:
    """Fills the book's orders, recorded and sorted by time, each at its own price."""
    next_order = 0
    for bar in range(len(closes)):
        while next_order < len(book.orders) and book.orders[next_order].time_index == bar:
            fill_order(book, next_order, bar, book.orders[next_order].price, cost_rate)
            next_order += 1
        note_closes(book.last_close, closes[bar])
        equities[bar] = book_equity(book.cash, book.quantity, book.last_close)
        cashes[bar] = book.cash[0]
