"""One bar of a book with every detail of execution, in the steps of `book_steps`.

Within a bar: carry is paid for the time since the bar before; open orders fill at the open, with a
margin those first that reduce a position; resting exits are looked at; orders fill after the open;
of what was entered so, the stops are looked at; what has waited long enough expires.
"""

import math

import numpy as np
from numpy.typing import NDArray

from backlane.execution.order_prices import (
    OrderKind,
    price_at_open,
    price_within_bar,
    whole_lots,
)
from backlane.execution.target_orders import BookOrderOutcome
from backlane.jit import Record, inner_kernel, kernel
from backlane.portfolio.book import BookArrays, apply_book_fill, book_equity, note_closes
from backlane.portfolio.book_details import NO_BAR, BookDetails
from backlane.portfolio.book_fills import (
    book_the_fill,
    close_order,
    note_liquidity,
    try_fill,
)
from backlane.portfolio.book_guards import (
    cancel_open_orders,
    close_reached,
    drop_closed,
    new_order,
    note_best,
)
from backlane.portfolio.book_rules import NEVER
from backlane.portfolio.book_steps import wanted_units

_PENDING = int(BookOrderOutcome.PENDING)
_NO_PRICE = int(BookOrderOutcome.NO_PRICE)
_END_OF_DATA = int(BookOrderOutcome.END_OF_DATA)
_NOT_REACHED = int(BookOrderOutcome.NOT_REACHED)
_NO_VOLUME = int(BookOrderOutcome.NO_VOLUME)
_SESSION_CLOSED = int(BookOrderOutcome.SESSION_CLOSED)
_REPLACED = int(BookOrderOutcome.REPLACED)
_DELISTED = int(BookOrderOutcome.DELISTED)
_CANCELLED = int(BookOrderOutcome.CANCELLED)
_DENIED_LOT = int(BookOrderOutcome.DENIED_LOT)
_DENIED_DELISTED = int(BookOrderOutcome.DENIED_DELISTED)
_MARKET, _DELISTING = int(OrderKind.MARKET), int(OrderKind.DELISTING)
_YEAR_NS = 365.0 * 86_400e9


@kernel
def full_has_room(book: BookArrays) -> bool:
    """Says whether one more bar fits.

    For each instrument at most two orders, an exit and a delisting are made; each of them and of
    the open orders fills at most once.
    """
    totals, made = book.totals[0], 4 * len(book.quantity)
    orders_fit = totals.order_count + made <= len(book.orders)
    fills_fit = totals.fill_count + totals.open_count + made <= len(book.fills)
    fits: bool = orders_fit and fills_fit
    return fits


@inner_kernel
def _pay_carry(book: BookArrays, details: BookDetails, time_ns: int) -> None:
    """Pays borrow fees on shorts and interest on borrowed cash for the time since the last bar.

    |units| * last close * rate * years, and -cash * rate * years, with years of 365 days.
    """
    rules, totals = details.rules[0], details.totals[0]
    years = (time_ns - totals.last_time_ns) / _YEAR_NS if totals.has_time else 0.0
    totals.last_time_ns, totals.has_time = time_ns, 1
    if years <= 0.0:
        return
    if rules.financing_rate > 0.0 and book.cash[0] < 0.0:
        interest = -book.cash[0] * rules.financing_rate * years
        apply_book_fill(book.cash, book.quantity, 0, 0.0, 0.0, interest)
        totals.interest += interest
    if rules.borrow_rate > 0.0:
        for symbol in range(len(book.quantity)):
            held = book.quantity[symbol]
            if held < 0.0:
                fee = -held * book.last_close[symbol] * rules.borrow_rate * years
                apply_book_fill(book.cash, book.quantity, symbol, 0.0, 0.0, fee)
                details.guards[symbol].borrow += fee
                totals.borrow += fee


@inner_kernel
def _measure_margin(book: BookArrays, details: BookDetails, opens: NDArray[np.float64]) -> None:
    """Notes equity and gross exposure at the prices of the moment: the open, or the last close."""
    totals = details.totals[0]
    equity, gross = book.cash[0], 0.0
    for symbol in range(len(opens)):
        held = book.quantity[symbol]
        if held != 0.0:
            is_known = opens[symbol] == opens[symbol]
            price = opens[symbol] if is_known else book.last_close[symbol]
            equity += held * price
            gross += abs(held) * price
    totals.margin_equity, totals.margin_gross = equity, gross


@inner_kernel
def _in_lots(signed: float, held: float, lot_size: float) -> float:
    """Returns signed units in whole lots; what closes a position is left whole."""
    if signed == -held:
        return signed
    side = 1.0 if signed > 0.0 else -1.0
    return side * whole_lots(abs(signed), lot_size)


@inner_kernel
def _lot_when_placed(details: BookDetails, kind: int) -> float:
    """Returns the lot size by which an order is rounded when it is placed, 0 for none yet."""
    rules = details.rules[0]
    lot_size: float = rules.lot_size
    if rules.sized_at_open and kind == _MARKET:
        lot_size = 0.0
    return lot_size


@inner_kernel
def _size_at_open(book: BookArrays, details: BookDetails, index: int, price: float) -> None:
    """Sizes a market order at the price that fills it: units * close of the decision / price.

    What reduces a position stays what it is, but for lots. 100 units decided at a close of 50 and
    filled at 40 are 125: the money of the decision.
    """
    order, terms = book.orders[index], details.terms[index]
    held, units = book.quantity[order.symbol], order.quantity
    if units * held >= 0.0 and order.price == order.price:  # its close is known
        units = units * order.price / price
    order.quantity = _in_lots(units, held, details.rules[0].lot_size)
    terms.is_triggered = 1


@inner_kernel
def _fill_at_open(
    book: BookArrays, details: BookDetails, bar: int, opens: NDArray[np.float64],
    volumes: NDArray[np.float64], reduces: bool, is_ranked: bool,
) -> None:  # fmt: skip
    """Fills open orders at the open; when ranked those alone that reduce a position, or do not."""
    for position in range(book.totals[0].open_count):
        index = book.open_orders[position]
        order, terms = book.orders[index], details.terms[index]
        price, symbol = opens[order.symbol], order.symbol
        if order.outcome != _PENDING:
            continue
        if is_ranked and (order.quantity * book.quantity[symbol] < 0.0) != reduces:
            continue
        if price != price:  # NaN: no bar
            terms.reason = _NO_PRICE
            continue
        if details.rules[0].sized_at_open and terms.kind == _MARKET and not terms.is_triggered:
            decided = order.quantity
            _size_at_open(book, details, index, price)
            if order.quantity == 0.0:
                order.quantity = decided
                close_order(details, book, index, bar, _DENIED_LOT)
                continue
        side = 1 if order.quantity > 0.0 else -1
        terms.reason = _NOT_REACHED
        price, triggered = price_at_open(
            terms.kind, side, terms.limit_price, terms.stop_price, terms.is_triggered != 0, price
        )
        if terms.kind != _MARKET:  # of a market order it says that it was sized at an open
            terms.is_triggered = 1 if triggered else 0
        if price == price:
            try_fill(
                book, details, index, bar, price, opens[symbol], volumes[symbol], False, NO_BAR
            )


@inner_kernel
def _fill_within_bar(
    book: BookArrays, details: BookDetails, bar: int, opens: NDArray[np.float64],
    highs: NDArray[np.float64], lows: NDArray[np.float64], volumes: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fills the orders whose limit or stop the bar reaches after its open."""
    for position in range(book.totals[0].open_count):
        index = book.open_orders[position]
        order, terms = book.orders[index], details.terms[index]
        symbol = order.symbol
        if order.outcome != _PENDING or terms.kind == _MARKET or opens[symbol] != opens[symbol]:
            continue
        if terms.reason == _NO_VOLUME:
            continue  # it has had its share of this bar at the open
        side = 1 if order.quantity > 0.0 else -1
        price, is_passive, triggered = price_within_bar(
            terms.kind, side, terms.limit_price, terms.stop_price, terms.is_triggered != 0,
            opens[symbol], highs[symbol], lows[symbol],
        )  # fmt: skip
        terms.is_triggered = 1 if triggered else 0
        if price == price:
            try_fill(
                book, details, index, bar, price, opens[symbol], volumes[symbol], is_passive, bar
            )


@inner_kernel
def _expire(book: BookArrays, details: BookDetails, bar: int) -> None:
    """Ends the open orders that had their last bar."""
    for position in range(book.totals[0].open_count):
        index = book.open_orders[position]
        terms = details.terms[index]
        if book.orders[index].outcome == _PENDING and terms.expires_bar <= bar:
            close_order(details, book, index, bar, terms.reason)
    drop_closed(book)


@kernel
def full_open_bar(
    book: BookArrays, details: BookDetails, bar: int, time_ns: int, is_open: bool,
    opens: NDArray[np.float64], highs: NDArray[np.float64], lows: NDArray[np.float64],
    volumes: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fills what is open within a bar; rows have shape (symbols,), NaN without a bar or a volume.

    While the exchange is not open (`is_open`) nothing fills, and orders grow older.
    """
    _pay_carry(book, details, time_ns)
    if is_open:
        is_ranked = details.rules[0].leverage != math.inf
        if is_ranked:
            _measure_margin(book, details, opens)
            _fill_at_open(book, details, bar, opens, volumes, True, True)
        _fill_at_open(book, details, bar, opens, volumes, False, is_ranked)
        close_reached(book, details, bar, opens, highs, lows, volumes, False)
        _fill_within_bar(book, details, bar, opens, highs, lows, volumes)
        close_reached(book, details, bar, opens, highs, lows, volumes, True)
    else:
        for position in range(book.totals[0].open_count):
            details.terms[book.open_orders[position]].reason = _SESSION_CLOSED
    _expire(book, details, bar)


@kernel
def full_mark_bar(
    book: BookArrays, details: BookDetails, bar: int, highs: NDArray[np.float64],
    lows: NDArray[np.float64], closes: NDArray[np.float64], volumes: NDArray[np.float64],
) -> float:  # fmt: skip
    """Marks the book at the closes of a bar and returns its equity, money."""
    note_best(book, details, bar, highs, lows, closes)
    if details.rules[0].notes_liquidity:
        for symbol in range(len(closes)):
            last_close, close = book.last_close[symbol], closes[symbol]
            if close == close:  # not NaN
                note_liquidity(details, symbol, last_close, close, volumes[symbol])
    note_closes(book.last_close, closes)
    equity = book_equity(book.cash, book.quantity, book.last_close)
    totals = book.totals[0]
    totals.equity = equity
    totals.peak_equity = max(totals.peak_equity, equity)
    if details.rules[0].leverage != math.inf:
        _measure_margin(book, details, closes)
    return equity


@inner_kernel
def _place(
    book: BookArrays, details: BookDetails, bar: int, index: int, expires_bars: int,
    close: float, volume: float, is_open: bool,
) -> None:  # fmt: skip
    """Opens an order: it may fill at this close, or at the bars that come."""
    order, terms, rules = book.orders[index], details.terms[index], details.rules[0]
    is_now = rules.fills_this_close and terms.kind == _MARKET
    last = bar + expires_bars - (1 if is_now else 0)
    terms.expires_bar = NEVER if expires_bars >= NEVER else last
    if details.guards[order.symbol].is_delisted:
        close_order(details, book, index, bar, _DENIED_DELISTED)
        return
    if is_now:
        terms.reason = _NO_PRICE if is_open else _SESSION_CLOSED
        if close == close and is_open:
            try_fill(book, details, index, bar, close, close, volume, False, NO_BAR)
        if order.outcome == _PENDING and terms.expires_bar <= bar:
            close_order(details, book, index, bar, terms.reason)
    if order.outcome == _PENDING:
        totals = book.totals[0]
        book.open_orders[totals.open_count] = index
        totals.open_count += 1


@inner_kernel
def _replace_open(
    book: BookArrays, details: BookDetails, bar: int, decided: NDArray[np.float64]
) -> None:
    """Cancels the open orders of every instrument about which something is decided (not NaN)."""
    for position in range(book.totals[0].open_count):
        index = book.open_orders[position]
        if decided[book.orders[index].symbol] == decided[book.orders[index].symbol]:
            close_order(details, book, index, bar, _REPLACED)
    drop_closed(book)


@kernel
def full_place_weights(
    book: BookArrays, details: BookDetails, bar: int, closes: NDArray[np.float64],
    volumes: NDArray[np.float64], is_open: bool, weights: NDArray[np.float64], base: float,
) -> None:  # fmt: skip
    """Places the orders that turn what is held into `weights` of `base`, money.

    An instrument that is decided about loses its open orders. With a margin, what reduces a
    position is placed before the rest.
    """
    _replace_open(book, details, bar, weights)
    lot_size = _lot_when_placed(details, _MARKET)
    passes = 2 if details.rules[0].leverage != math.inf else 1
    for each in range(passes):
        for symbol in range(len(weights)):
            held = book.quantity[symbol]
            wanted = wanted_units(weights[symbol], base, closes[symbol], held)
            wanted = _in_lots(wanted, held, lot_size)
            # What was reduced in the first pass has nothing left to want, unless it was cut.
            if wanted == 0.0 or (passes == 2 and (wanted * held < 0.0) != (each == 0)):
                continue
            index = new_order(book, details, bar, symbol, wanted, _MARKET)
            _place(
                book, details, bar, index, details.rules[0].expires_bars,
                closes[symbol], volumes[symbol], is_open,
            )  # fmt: skip


@kernel
def full_place_quantities(
    book: BookArrays, details: BookDetails, bar: int, closes: NDArray[np.float64],
    volumes: NDArray[np.float64], is_open: bool, quantities: NDArray[np.float64],
) -> None:  # fmt: skip
    """Places market orders for signed units (symbols,); NaN is no decision, 0 cancels what is open.

    Less than one lot is denied.
    """
    _replace_open(book, details, bar, quantities)
    for symbol in range(len(quantities)):
        if not abs(quantities[symbol]) > 0.0:
            continue
        lot_size = _lot_when_placed(details, _MARKET)
        units = _in_lots(quantities[symbol], book.quantity[symbol], lot_size)
        index = new_order(book, details, bar, symbol, units, _MARKET)
        if units == 0.0:
            book.orders[index].quantity = quantities[symbol]
            close_order(details, book, index, bar, _DENIED_LOT)
            continue
        _place(
            book, details, bar, index, details.rules[0].expires_bars,
            closes[symbol], volumes[symbol], is_open,
        )  # fmt: skip


@kernel
def full_place_request(
    book: BookArrays, details: BookDetails, bar: int, close: float, volume: float, is_open: bool,
    request: Record,
) -> None:  # fmt: skip
    """Places an order with its own kind, prices, expiry and bracket; others stay open."""
    rules, held = details.rules[0], book.quantity[request.symbol]
    units = _in_lots(request.quantity, held, _lot_when_placed(details, request.kind))
    index = new_order(book, details, bar, request.symbol, units, request.kind)
    terms = details.terms[index]
    terms.limit_price, terms.stop_price = request.limit_price, request.stop_price
    terms.stop_loss, terms.take_profit = request.stop_loss, request.take_profit
    terms.trailing_stop = request.trailing_stop
    terms.reason = _NOT_REACHED
    if units == 0.0:
        book.orders[index].quantity = request.quantity
        close_order(details, book, index, bar, _DENIED_LOT)
        return
    expires_bars: int = request.expires_bars
    if expires_bars == 0:
        expires_bars = rules.expires_bars
    if expires_bars < 0:
        expires_bars = NEVER
    _place(book, details, bar, index, expires_bars, close, volume, is_open)


@kernel
def cancel_order(book: BookArrays, details: BookDetails, bar: int, index: int) -> bool:
    """Cancels an order; returns whether it was open."""
    if book.orders[index].outcome != _PENDING:
        return False
    close_order(details, book, index, bar, _CANCELLED)
    drop_closed(book)
    return True


@kernel
def delist(
    book: BookArrays, details: BookDetails, bar: int, symbol: int, final_price: float
) -> None:
    """Ends the trading of an instrument before `bar` opens; later orders are denied.

    Open ones are cancelled. Its position is paid out at `final_price`, at no cost; with NaN it is
    kept at its last close.
    """
    cancel_open_orders(book, details, bar, symbol, _DELISTED)
    drop_closed(book)
    held = book.quantity[symbol]
    if held != 0.0 and final_price == final_price:
        index = new_order(book, details, bar, symbol, -held, _DELISTING)
        book_the_fill(
            book, details, index, bar, -held, final_price, final_price, False, True, NO_BAR
        )
        book.last_close[symbol] = final_price
    details.guards[symbol].is_delisted = 1


@kernel
def full_end_of_data(book: BookArrays, details: BookDetails, bar: int) -> None:
    """Ends what is still open: there is no bar left at which it could fill."""
    for position in range(book.totals[0].open_count):
        close_order(details, book, book.open_orders[position], bar, _END_OF_DATA)
    drop_closed(book)
