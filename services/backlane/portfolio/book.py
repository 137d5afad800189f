"""The book of many instruments: one cash, a signed quantity of each, the last price known."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backlane.jit import kernel
from backlane.portfolio.book_records import (
    BOOK_FILL_DTYPE,
    BOOK_ORDER_DTYPE,
    BOOK_TOTALS_DTYPE,
)


class BookArrays(NamedTuple):
    """Everything that a book remembers from bar to bar: arrays, changed in place by kernels.

    `cash` has shape (1,), money, below 0 when borrowed, and is changed by `apply_book_fill` alone;
    `quantity` (symbols,) signed units; `last_close` (symbols,) the last close known, NaN before the
    first bar of the instrument. `orders` (room,) BOOK_ORDER_DTYPE and `fills` (room,)
    BOOK_FILL_DTYPE grow; `open_orders` (room,) lists the indices of open orders, in the order in
    which they were placed; `totals` (1,) BOOK_TOTALS_DTYPE says how many of each count.
    """

    cash: NDArray[np.float64]
    quantity: NDArray[np.float64]
    last_close: NDArray[np.float64]
    open_orders: NDArray[np.int64]
    orders: NDArray[np.void]
    fills: NDArray[np.void]
    totals: NDArray[np.void]


def new_book(symbol_count: int, initial_cash: float, room: int) -> BookArrays:
    """Returns a book that holds nothing but cash, with room for `room` orders and fills."""
    totals = np.zeros(1, BOOK_TOTALS_DTYPE)
    totals["equity"] = totals["peak_equity"] = initial_cash
    return BookArrays(
        np.array([initial_cash]),
        np.zeros(symbol_count),
        np.full(symbol_count, np.nan),
        np.zeros(room, np.int64),
        np.zeros(room, BOOK_ORDER_DTYPE),
        np.zeros(room, BOOK_FILL_DTYPE),
        totals,
    )


def with_more_room(book: BookArrays) -> BookArrays:
    """Returns the same book with twice the room for orders and fills."""
    return book._replace(
        open_orders=_doubled(book.open_orders),
        orders=_doubled(book.orders),
        fills=_doubled(book.fills),
    )


def _doubled(records: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([records, np.zeros_like(records)])


@kernel
def apply_book_fill(
    cash: NDArray[np.float64],
    quantity: NDArray[np.float64],
    symbol: int,
    signed_quantity: float,
    price: float,
    cost: float,
) -> None:
    """Books a fill: cash -= signed quantity * price + cost. The only place where money moves.

    A buy has a positive quantity. 10 units at 20 with a cost of 0.5 take 200.5 out of the cash;
    selling them at 22 with the same cost gives 219.5 back.
    """
    cash[0] -= signed_quantity * price
    cash[0] -= cost
    quantity[symbol] += signed_quantity


@kernel
def note_closes(last_close: NDArray[np.float64], closes: NDArray[np.float64]) -> None:
    """Takes over the closes of a bar; an instrument without one keeps its last (SPEC C2, Q14)."""
    for symbol in range(len(closes)):
        if closes[symbol] == closes[symbol]:  # not NaN
            last_close[symbol] = closes[symbol]


@kernel
def book_equity(
    cash: NDArray[np.float64], quantity: NDArray[np.float64], last_close: NDArray[np.float64]
) -> float:
    """Returns cash + sum(quantity * last close known), money."""
    equity: float = cash[0]
    for symbol in range(len(quantity)):
        if quantity[symbol] != 0.0:
            equity += quantity[symbol] * last_close[symbol]
    return equity
