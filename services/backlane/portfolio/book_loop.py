"""The compiled money path over many instruments: orders, fills and marks, bar after bar."""

import numpy as np
from numpy.typing import NDArray

from backlane.execution.target_orders import BookOrderOutcome, order_quantity, target_quantity
from backlane.jit import kernel
from backlane.portfolio.book import apply_book_fill, book_equity, note_closes

_PENDING = int(BookOrderOutcome.PENDING)
_FILLED = int(BookOrderOutcome.FILLED)
_NO_PRICE = int(BookOrderOutcome.NO_PRICE)
_END_OF_DATA = int(BookOrderOutcome.END_OF_DATA)
NO_ORDER = -1
"""Stands in the list of pending orders for an instrument that has none."""


@kernel
def fill_order(
    cash: NDArray[np.float64],
    quantity: NDArray[np.float64],
    orders: NDArray[np.void],
    fills: NDArray[np.void],
    order_index: int,
    fill_index: int,
    time_index: int,
    price: float,
    cost_rate: float,
) -> int:
    """Fills an order at `price`, or lets it expire where that is NaN; returns the fills so far.

    The cost is |quantity| * price * cost_rate, charged once.
    """
    order = orders[order_index]
    if price != price:  # NaN: no bar
        order.outcome = _NO_PRICE
        return fill_index
    order.outcome = _FILLED
    cost = abs(order.quantity) * price * cost_rate
    apply_book_fill(cash, quantity, order.symbol, order.quantity, price, cost)
    fill = fills[fill_index]
    fill.order = order_index
    fill.time_index = time_index
    fill.symbol = order.symbol
    fill.quantity = order.quantity
    fill.price = price
    fill.cost = cost
    fill.cash_after = cash[0]
    return fill_index + 1


@kernel
def _place(
    orders: NDArray[np.void],
    order_index: int,
    time_index: int,
    symbol: int,
    signed_quantity: float,
    price: float,
) -> None:
    order = orders[order_index]
    order.time_index = time_index
    order.symbol = symbol
    order.quantity = signed_quantity
    order.price = price
    order.outcome = _PENDING


@kernel
def _wanted(weight: float, base: float, close: float, held: float) -> float:
    """Returns the signed units to order: none without a decision, or without a price to size at.

    An exit needs no price to size it, so it is ordered even where the instrument has no bar.
    """
    if weight != weight:  # NaN: no decision
        return 0.0
    if weight == 0.0:
        return order_quantity(0.0, held)
    if close != close:
        return 0.0
    return order_quantity(target_quantity(weight, base, close), held)


@kernel
def run_book(
    cash: NDArray[np.float64],
    quantity: NDArray[np.float64],
    last_close: NDArray[np.float64],
    pending: NDArray[np.int64],
    opens: NDArray[np.float64],
    closes: NDArray[np.float64],
    weights: NDArray[np.float64],
    constant_base: float,
    cost_rate: float,
    fills_this_close: bool,
    bases: NDArray[np.float64],
    equities: NDArray[np.float64],
    cashes: NDArray[np.float64],
    orders: NDArray[np.void],
    fills: NDArray[np.void],
    progress: NDArray[np.int64],
) -> bool:
    """Simulates the bars from `progress[0]` on; returns whether it stopped for want of room.

    Arrays of bars have shape (times, symbols), those of the book (symbols,). Each bar: what is
    pending fills at the open; the book is marked at the close; the weights of the row become
    orders. `constant_base` is what the weights are shares of, or NaN for the equity at that close;
    either is noted in `bases`. `progress` is (next bar, orders, fills), and is gone on from.
    """
    symbol_count = quantity.shape[0]
    last_bar = len(opens) - 1
    bar, order_count, fill_count = progress[0], progress[1], progress[2]
    while bar <= last_bar:
        if order_count + symbol_count > len(orders) or fill_count + 2 * symbol_count > len(fills):
            progress[0], progress[1], progress[2] = bar, order_count, fill_count
            return True
        for symbol in range(symbol_count):
            if pending[symbol] != NO_ORDER:
                fill_count = fill_order(
                    cash, quantity, orders, fills, pending[symbol], fill_count, bar,
                    opens[bar, symbol], cost_rate,
                )  # fmt: skip
                pending[symbol] = NO_ORDER
        note_closes(last_close, closes[bar])
        base = constant_base
        if base != base:  # NaN: the equity compounds
            base = book_equity(cash, quantity, last_close)
        bases[bar] = base
        for symbol in range(symbol_count):
            close = closes[bar, symbol]
            wanted = _wanted(weights[bar, symbol], base, close, quantity[symbol])
            if wanted == 0.0:
                continue
            _place(orders, order_count, bar, symbol, wanted, last_close[symbol])
            if fills_this_close:
                fill_count = fill_order(
                    cash, quantity, orders, fills, order_count, fill_count, bar, close, cost_rate
                )
            elif bar == last_bar:
                orders[order_count].outcome = _END_OF_DATA
            else:
                pending[symbol] = order_count
            order_count += 1
        equities[bar] = book_equity(cash, quantity, last_close)
        cashes[bar] = cash[0]
        bar += 1
    progress[0], progress[1], progress[2] = bar, order_count, fill_count
    return False


@kernel
def replay_book(
    cash: NDArray[np.float64],
    quantity: NDArray[np.float64],
    last_close: NDArray[np.float64],
    closes: NDArray[np.float64],
    cost_rate: float,
    equities: NDArray[np.float64],
    cashes: NDArray[np.float64],
    orders: NDArray[np.void],
    fills: NDArray[np.void],
) -> int:
    """Fills recorded orders, sorted by time, each at its own price; returns how many filled."""
    next_order, fill_count = 0, 0
    for bar in range(len(closes)):
        while next_order < len(orders) and orders[next_order].time_index == bar:
            price = orders[next_order].price
            fill_count = fill_order(
                cash, quantity, orders, fills, next_order, fill_count, bar, price, cost_rate
            )
            next_order += 1
        note_closes(last_close, closes[bar])
        equities[bar] = book_equity(cash, quantity, last_close)
        cashes[bar] = cash[0]
    return fill_count
