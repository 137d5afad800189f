"""At what price an order fills within a bar: market, limit, stop and stop-limit orders.

What a bar does not tell is assumed as in docs/fill-assumptions.md: a bar that opens beyond a price
fills at its open; else an order fills at its own price when the bar reaches it; a stop-limit order
that is triggered within a bar cannot know what came after, so that a limit better than the stop
waits for the next bar.
"""

import math
from enum import IntEnum

from backlane.jit import inner_kernel, kernel


class OrderKind(IntEnum):
    """What an order waits for. Numbers are stored in checkpoints: never reuse one."""

    MARKET = 0
    LIMIT = 1
    STOP = 2
    STOP_LIMIT = 3
    STOP_LOSS = 4  # exits that rest with a position, made when they are reached
    TAKE_PROFIT = 5
    TRAILING_STOP = 6
    DELISTING = 7  # the final price of an instrument that is no longer traded


_LIMIT, _STOP = int(OrderKind.LIMIT), int(OrderKind.STOP)
_STOP_LIMIT = int(OrderKind.STOP_LIMIT)


@kernel
def limit_price_in_bar(
    side: int, limit: float, open_price: float, high: float, low: float
) -> float:
    """Returns the price at which a limit order fills within a bar; NaN when it is not reached.

    `side` is +1 for a buy. A buy at 99 fills at 98 where the bar opens there, at 99 where its low
    is at most that. With an open of NaN it is never better than the limit.
    """
    if side * (open_price - limit) <= 0.0:
        return open_price
    extreme = low if side > 0 else high
    if side * (extreme - limit) <= 0.0:
        return limit
    return math.nan


@inner_kernel
def stop_price_in_bar(side: int, stop: float, open_price: float, high: float, low: float) -> float:
    """Returns the price at which a stop order fills within a bar; NaN when it is not reached.

    A buy with a stop of 101 fills at 103 where the bar opens there, at 101 where its high is at
    least that.
    """
    if side * (open_price - stop) >= 0.0:
        return open_price
    extreme = high if side > 0 else low
    if side * (extreme - stop) >= 0.0:
        return stop
    return math.nan


@inner_kernel
def price_at_open(
    kind: int, side: int, limit: float, stop: float, is_triggered: bool, open_price: float
) -> tuple[float, bool]:
    """Returns (price at the open or NaN, whether a stop-limit order is triggered by now)."""
    if kind == _LIMIT:
        return open_price if side * (open_price - limit) <= 0.0 else math.nan, False
    if kind == _STOP:
        return open_price if side * (open_price - stop) >= 0.0 else math.nan, False
    if kind == _STOP_LIMIT:
        triggered = is_triggered or side * (open_price - stop) >= 0.0
        if triggered and side * (open_price - limit) <= 0.0:
            return open_price, True
        return math.nan, triggered
    return open_price, False


@inner_kernel
def price_within_bar(
    kind: int,
    side: int,
    limit: float,
    stop: float,
    is_triggered: bool,
    open_price: float,
    high: float,
    low: float,
) -> tuple[float, bool, bool]:
    """Returns (price after the open or NaN, whether it waited at its limit, whether triggered)."""
    if kind == _LIMIT or (kind == _STOP_LIMIT and is_triggered):
        return limit_price_in_bar(side, limit, open_price, high, low), True, is_triggered
    if kind == _STOP:
        return stop_price_in_bar(side, stop, open_price, high, low), False, False
    if kind == _STOP_LIMIT:
        price = stop_price_in_bar(side, stop, open_price, high, low)
        is_reached = price == price  # not NaN
        if is_reached and side * (price - limit) <= 0.0:
            return price, False, True
        return math.nan, False, is_reached
    return math.nan, False, False


@kernel
def fillable_units(wanted: float, available: float, min_quantity: float) -> float:
    """Returns the units that fill of those wanted, all >= 0; fewer than `min_quantity` are none."""
    filled = min(wanted, available)
    if filled < min_quantity:
        return 0.0
    return filled


@inner_kernel
def whole_lots(units: float, lot_size: float) -> float:
    """Returns the units >= 0 in whole lots, rounded down; all of them without a lot size.

    7.9 units in lots of 2 are 6. A billionth of a lot that rounding took is given back.
    """
    if lot_size <= 0.0:
        return units
    return math.floor(units / lot_size + 1e-9) * lot_size
