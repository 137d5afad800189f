"""Fills of the full path: as much as volume, money and lots let through, and what it costs."""

import math

from backlane.execution.cost_model import fill_cost
from backlane.execution.order_prices import fillable_units, whole_lots
from backlane.execution.target_orders import MIN_ORDER_QUANTITY, BookOrderOutcome
from backlane.jit import inner_kernel
from backlane.portfolio.book import BookArrays, apply_book_fill
from backlane.portfolio.book_details import NO_BAR, BookDetails

_PENDING = int(BookOrderOutcome.PENDING)
_FILLED = int(BookOrderOutcome.FILLED)
_NO_VOLUME = int(BookOrderOutcome.NO_VOLUME)
_CUT_BY_MARGIN = int(BookOrderOutcome.CUT_BY_MARGIN)
_DENIED_MARGIN = int(BookOrderOutcome.DENIED_MARGIN)
DUST = 1e-9
"""Units; what rounding leaves of a position that is closed in parts."""
_HALVINGS = 60
"""Steps of the search for what the money does for: as fine as doubles are."""
_MARGIN_TOLERANCE = 1e-9
"""Share of the equity by which rounding may pass the limit."""


@inner_kernel
def close_order(details: BookDetails, book: BookArrays, index: int, bar: int, outcome: int) -> None:
    """Ends an order at `bar` with an outcome; it leaves the list of open ones later."""
    book.orders[index].outcome = outcome
    details.terms[index].closed_bar = bar


@inner_kernel
def average_of(details: BookDetails, symbol: int) -> tuple[float, float]:
    """Returns (average volume in money, volatility) of an instrument; NaN until there are enough.

    The mean of close * volume and the sample deviation of the log returns of its last bars.
    """
    window = len(details.turnovers)
    total, mean = 0.0, 0.0
    for at in range(window):
        total += details.turnovers[at, symbol]
        mean += details.returns[at, symbol]
    mean /= window
    squares = 0.0
    for at in range(window):
        squares += (details.returns[at, symbol] - mean) ** 2
    if window < 2:
        return total / window, math.nan
    return total / window, math.sqrt(squares / (window - 1))


@inner_kernel
def _met_by(details: BookDetails, symbol: int) -> tuple[float, float]:
    """Returns `average_of` for costs; NaN for linear ones, which do not look at it."""
    if details.costs[0].linear_rate == details.costs[0].linear_rate:  # not NaN
        return math.nan, math.nan
    return average_of(details, symbol)


@inner_kernel
def note_liquidity(
    details: BookDetails, symbol: int, last_close: float, close: float, volume: float
) -> None:
    """Notes a bar of an instrument for its average volume and its volatility."""
    guard = details.guards[symbol]
    at = guard.bar_count % len(details.turnovers)
    details.turnovers[at, symbol] = close * volume
    details.returns[at, symbol] = math.log(close / last_close)
    guard.bar_count += 1


@inner_kernel
def _volume_left(
    details: BookDetails, symbol: int, wanted: float, price: float, volume: float, bar: int
) -> float:
    """Returns the units that the volume of a bar still lets through."""
    rules, guard = details.rules[0], details.guards[symbol]
    if rules.participation_max == math.inf:
        return wanted
    available: float = rules.participation_max * volume
    if rules.of_average_volume:
        average, _ = average_of(details, symbol)
        available = rules.participation_max * average / price
    if available != available:  # NaN: not known
        available = rules.unknown_volume_fraction * wanted
    elif guard.traded_bar == bar:
        available -= guard.traded_units
    return max(available, 0.0)


@inner_kernel
def _mark_of(book: BookArrays, symbol: int, open_price: float) -> float:
    """Returns the price at which a position is valued while orders fill: open, or last close."""
    known: float = book.last_close[symbol]
    if open_price == open_price:  # not NaN
        known = open_price
    return known


@inner_kernel
def _fits(
    book: BookArrays, details: BookDetails, symbol: int, signed: float, price: float, mark: float,
    cost: float,
) -> bool:  # fmt: skip
    """Says whether gross exposure after a fill is at most leverage times the equity after it."""
    totals, held = details.totals[0], book.quantity[symbol]
    gross = totals.margin_gross + (abs(held + signed) - abs(held)) * mark
    equity = totals.margin_equity - signed * (price - mark) - cost
    tolerance = _MARGIN_TOLERANCE * abs(totals.margin_equity)
    fits: bool = gross <= details.rules[0].leverage * equity + tolerance
    return fits


@inner_kernel
def _affordable(
    book: BookArrays, details: BookDetails, symbol: int, side: int, units: float, price: float,
    mark: float, is_passive: bool,
) -> float:  # fmt: skip
    """Returns how many of `units` the margin lets through; what reduces a position always may."""
    held = book.quantity[symbol]
    least = min(units, abs(held)) if side * held < 0.0 else 0.0
    if details.rules[0].leverage == math.inf or units <= least:
        return units
    average, volatility = _met_by(details, symbol)
    low, high, tried = least, units, units
    for _ in range(_HALVINGS):
        notional = tried * price
        cost, _, _, _ = fill_cost(
            notional, tried, average, volatility, is_passive, details.costs[0]
        )
        if _fits(book, details, symbol, side * tried, price, mark, cost):
            low = tried
            if tried == units:
                break
        else:
            high = tried
        tried = (low + high) / 2.0
    return low


@inner_kernel
def _guard_after(
    book: BookArrays, details: BookDetails, index: int, signed: float, price: float,
    entered_bar: int,
) -> None:  # fmt: skip
    """Notes entry price, best price and bracket of the position as it is after a fill."""
    order, terms, rules = book.orders[index], details.terms[index], details.rules[0]
    guard, held = details.guards[order.symbol], book.quantity[order.symbol]
    before = held - signed
    if held == 0.0:
        guard.entry_price, guard.best_price = 0.0, 0.0
        guard.stop_loss, guard.take_profit, guard.trailing_stop = 0.0, 0.0, 0.0
        guard.entered_bar = NO_BAR
        return
    if abs(before) <= DUST or before * held < 0.0:
        guard.entry_price, guard.best_price = price, price
        guard.stop_loss, guard.take_profit = rules.stop_loss, rules.take_profit
        guard.trailing_stop = rules.trailing_stop
        guard.entered_bar = entered_bar
    elif before * signed > 0.0:
        paid = abs(before) * guard.entry_price + abs(signed) * price
        guard.entry_price = paid / abs(held)
    else:
        return
    if terms.stop_loss > 0.0 or terms.take_profit > 0.0 or terms.trailing_stop > 0.0:
        guard.stop_loss, guard.take_profit = terms.stop_loss, terms.take_profit
        guard.trailing_stop = terms.trailing_stop


@inner_kernel
def book_the_fill(
    book: BookArrays, details: BookDetails, index: int, bar: int, signed: float, price: float,
    mark: float, is_passive: bool, is_free: bool, entered_bar: int,
) -> None:  # fmt: skip
    """Books a fill of `signed` units with its costs, and notes all that follows from it."""
    order, terms = book.orders[index], details.terms[index]
    symbol = order.symbol
    if abs(book.quantity[symbol] + signed) <= DUST:
        signed = -book.quantity[symbol]
    units, guard = abs(signed), details.guards[symbol]
    cost, commission, spread, impact = 0.0, 0.0, 0.0, 0.0
    if not is_free:
        average, volatility = _met_by(details, symbol)
        cost, commission, spread, impact = fill_cost(
            units * price, units, average, volatility, is_passive, details.costs[0]
        )
    totals, margin = book.totals[0], details.totals[0]
    held = book.quantity[symbol]
    margin.margin_equity -= signed * (price - mark) + cost
    margin.margin_gross += (abs(held + signed) - abs(held)) * mark
    apply_book_fill(book.cash, book.quantity, symbol, signed, price, cost)
    fill, part = book.fills[totals.fill_count], details.parts[totals.fill_count]
    fill.order, fill.time_index, fill.symbol = index, bar, symbol
    fill.quantity, fill.price, fill.cost = signed, price, cost
    fill.cash_after = book.cash[0]
    part.commission, part.half_spread, part.impact = commission, spread, impact
    part.borrow, part.kind = guard.borrow, terms.kind
    guard.borrow = 0.0
    totals.fill_count += 1
    if guard.traded_bar != bar:
        guard.traded_bar, guard.traded_units = bar, 0.0
    guard.traded_units += units
    terms.filled_quantity += signed
    if abs(order.quantity - terms.filled_quantity) <= MIN_ORDER_QUANTITY:
        close_order(details, book, index, bar, _FILLED)
    _guard_after(book, details, index, signed, price, entered_bar)


@inner_kernel
def try_fill(
    book: BookArrays, details: BookDetails, index: int, bar: int, price: float, open_price: float,
    volume: float, is_passive: bool, entered_bar: int,
) -> None:  # fmt: skip
    """Fills as much of an open order at `price` as volume, money and lots let through.

    What the volume leaves stays open; what the money does not do for is cut off, and the order
    ends. `entered_bar` is the bar when it fills after the open, NO_BAR at the open or the close.
    """
    order, terms, rules = book.orders[index], details.terms[index], details.rules[0]
    symbol = order.symbol
    remaining = order.quantity - terms.filled_quantity
    side = 1 if remaining > 0.0 else -1
    wanted = abs(remaining)
    available = _volume_left(details, symbol, wanted, price, volume, bar)
    units = fillable_units(wanted, available, min(rules.min_fill_quantity, wanted))
    if units < wanted:
        terms.reason = _NO_VOLUME
        units = whole_lots(units, rules.lot_size)
    mark = _mark_of(book, symbol, open_price)
    if mark != mark:  # NaN: nothing is known of the instrument yet
        mark = price
    affordable = _affordable(book, details, symbol, side, units, price, mark, is_passive)
    is_cut = affordable < units
    if is_cut:  # what closes a position is left whole
        held = book.quantity[symbol]
        closing = min(affordable, abs(held)) if side * held < 0.0 else 0.0
        units = closing + whole_lots(affordable - closing, rules.lot_size)
    if units > MIN_ORDER_QUANTITY:
        book_the_fill(
            book, details, index, bar, side * units, price, mark, is_passive, False, entered_bar
        )
    if is_cut and order.outcome == _PENDING:
        has_filled = terms.filled_quantity != 0.0
        outcome = _CUT_BY_MARGIN if has_filled else _DENIED_MARGIN
        close_order(details, book, index, bar, outcome)
