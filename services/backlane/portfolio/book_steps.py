"""One bar of a book, in steps: it opens, it is marked at its close, and orders are placed.

The compiled loop (`book_loop.run_book`) and the book that Python drives bar by bar
(`portfolio_book.PortfolioBook`) call these same kernels, so that both give the same bits.
"""

import numpy as np
from numpy.typing import NDArray

from backlane.execution.target_orders import BookOrderOutcome, order_quantity, target_quantity
from backlane.jit import kernel
from backlane.portfolio.book import BookArrays, apply_book_fill, book_equity, note_closes

_PENDING = int(BookOrderOutcome.PENDING)
_FILLED = int(BookOrderOutcome.FILLED)
_NO_PRICE = int(BookOrderOutcome.NO_PRICE)
_END_OF_DATA = int(BookOrderOutcome.END_OF_DATA)


@kernel
def has_room(book: BookArrays) -> bool:
    """Says whether one more bar fits: an order and two fills for each instrument at most."""
    totals, symbol_count = book.totals[0], len(book.quantity)
    orders_fit = totals.order_count + symbol_count <= len(book.orders)
    fits: bool = orders_fit and totals.fill_count + 2 * symbol_count <= len(book.fills)
    return fits


@kernel
def fill_order(
    book: BookArrays, order_index: int, time_index: int, price: float, cost_rate: float
) -> None:
    """Fills an order at `price`, or lets it expire where that is NaN.

    The cost is |quantity| * price * cost_rate, charged once.
    """
    order = book.orders[order_index]
    if price != price:  # NaN: no bar
        order.outcome = _NO_PRICE
        return
    order.outcome = _FILLED
    cost = abs(order.quantity) * price * cost_rate
    apply_book_fill(book.cash, book.quantity, order.symbol, order.quantity, price, cost)
    totals = book.totals[0]
    fill = book.fills[totals.fill_count]
    fill.order = order_index
    fill.time_index = time_index
    fill.symbol = order.symbol
    fill.quantity = order.quantity
    fill.price = price
    fill.cost = cost
    fill.cash_after = book.cash[0]
    totals.fill_count += 1


@kernel
def open_bar(
    book: BookArrays, rules: NDArray[np.void], bar: int, opens: NDArray[np.float64]
) -> None:
    """Fills the open orders at the open of `bar`; one whose instrument has no bar expires."""
    totals = book.totals[0]
    for position in range(totals.open_count):
        index = book.open_orders[position]
        price = opens[book.orders[index].symbol]
        fill_order(book, index, bar, price, rules[0].cost_rate)
    totals.open_count = 0


@kernel
def mark_bar(book: BookArrays, closes: NDArray[np.float64]) -> float:
    """Marks the book at the closes of a bar and returns its equity, money."""
    note_closes(book.last_close, closes)
    equity = book_equity(book.cash, book.quantity, book.last_close)
    totals = book.totals[0]
    totals.equity = equity
    totals.peak_equity = max(totals.peak_equity, equity)
    return equity


@kernel
def place_order(
    book: BookArrays,
    rules: NDArray[np.void],
    bar: int,
    symbol: int,
    signed_quantity: float,
    close: float,
) -> None:
    """Places an order decided at the close of `bar`; it fills there or at the next open.

    `close` is that of the instrument, NaN where it has no bar.
    """
    totals = book.totals[0]
    index = totals.order_count
    order = book.orders[index]
    order.time_index = bar
    order.symbol = symbol
    order.quantity = signed_quantity
    order.price = book.last_close[symbol]
    order.outcome = _PENDING
    totals.order_count += 1
    if rules[0].fills_this_close:
        fill_order(book, index, bar, close, rules[0].cost_rate)
    else:
        book.open_orders[totals.open_count] = index
        totals.open_count += 1


@kernel
def wanted_units(weight: float, base: float, close: float, held: float) -> float:
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
def place_weights(
    book: BookArrays,
    rules: NDArray[np.void],
    bar: int,
    closes: NDArray[np.float64],
    weights: NDArray[np.float64],
    base: float,
) -> None:
    """Places the orders that turn what is held into `weights` of `base`, money.

    `closes` and `weights` have shape (symbols,): NaN is no bar, and no decision.
    """
    for symbol in range(len(weights)):
        close = closes[symbol]
        wanted = wanted_units(weights[symbol], base, close, book.quantity[symbol])
        if wanted != 0.0:
            place_order(book, rules, bar, symbol, wanted, close)


@kernel
def place_quantities(
    book: BookArrays,
    rules: NDArray[np.void],
    bar: int,
    closes: NDArray[np.float64],
    quantities: NDArray[np.float64],
) -> None:
    """Places orders for signed units (symbols,); 0 and NaN are none."""
    for symbol in range(len(quantities)):
        if abs(quantities[symbol]) > 0.0:
            place_order(book, rules, bar, symbol, quantities[symbol], closes[symbol])


@kernel
def end_of_data(book: BookArrays) -> None:
    """Ends what is still open: there is no bar left at which it could fill."""
    totals = book.totals[0]
    for position in range(totals.open_count):
        book.orders[book.open_orders[position]].outcome = _END_OF_DATA
    totals.open_count = 0
