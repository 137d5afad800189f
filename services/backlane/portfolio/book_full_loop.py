"""The compiled money path with every detail of execution, bar after bar."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backlane.jit import kernel
from backlane.portfolio.book import BookArrays, book_equity
from backlane.portfolio.book_details import BookDetails
from backlane.portfolio.book_full_steps import (
    delist,
    full_has_room,
    full_mark_bar,
    full_open_bar,
    full_place_weights,
)


class BookBars(NamedTuple):
    """The bars of a run: (times,) and (times, symbols), NaN without a bar.

    `is_open` says at which bars the exchange is open. `delisted_bar` and `final_price` (symbols,)
    say before which bar an instrument is delisted, -1 for none, and what is paid out for it, NaN
    where nothing is.
    """

    time_ns: NDArray[np.int64]
    is_open: NDArray[np.bool_]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    delisted_bar: NDArray[np.int64]
    final_price: NDArray[np.float64]


@kernel
def run_full_book(
    book: BookArrays,
    details: BookDetails,
    bars: BookBars,
    weights: NDArray[np.float64],
    constant_base: float,
    bases: NDArray[np.float64],
    equities: NDArray[np.float64],
    cashes: NDArray[np.float64],
    stop: int,
) -> bool:
    """Simulates the bars up to `stop` as `book_loop.run_book` does, with every detail."""
    totals = book.totals[0]
    while totals.next_bar < stop:
        if not full_has_room(book):
            return True
        bar = totals.next_bar
        for symbol in range(len(bars.delisted_bar)):
            if bars.delisted_bar[symbol] == bar:
                delist(book, details, bar, symbol, bars.final_price[symbol])
        highs, lows, closes = bars.high[bar], bars.low[bar], bars.close[bar]
        volumes, is_open = bars.volume[bar], bars.is_open[bar]
        full_open_bar(
            book, details, bar, bars.time_ns[bar], is_open, bars.open[bar], highs, lows, volumes
        )
        equity = full_mark_bar(book, details, bar, highs, lows, closes, volumes)
        base = constant_base
        if base != base:  # NaN: the equity compounds
            base = equity
        bases[bar] = base
        full_place_weights(book, details, bar, closes, volumes, is_open, weights[bar], base)
        equities[bar] = book_equity(book.cash, book.quantity, book.last_close)
        cashes[bar] = book.cash[0]
        totals.next_bar = bar + 1
    return False
