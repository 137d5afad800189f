"""Orders that turn the positions held into the targets decided."""

from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.jit import kernel

MIN_ORDER_QUANTITY = 1e-6
"""Units; a difference that is not larger is no order. Rounding leaves such differences."""


class BookOrderOutcome(IntEnum):
    """What became of an order of a portfolio. Numbers are stored in checkpoints: never reuse one.

    Some units may have filled before: see `OrderStatus`.
    """

    PENDING = 0  # it is open
    FILLED = 1
    # expired
    NO_PRICE = 2  # the instrument had no bar when the order was to fill
    END_OF_DATA = 3  # the data ended before the bar at which it would have filled
    NOT_REACHED = 4  # its limit or stop was not reached in time
    NO_VOLUME = 5  # the volume was too small for all of it
    SESSION_CLOSED = 6  # the exchange was closed
    # cancelled
    REPLACED = 7  # by a later decision about the instrument
    POSITION_CLOSED = 8  # a protective exit closed the position
    DELISTED = 9  # the instrument is no longer traded
    CUT_BY_MARGIN = 10  # some units filled; for the others the money did not do
    CANCELLED = 11  # by its owner
    # denied
    DENIED_MARGIN = 12  # the money does not do for one unit, or one lot
    DENIED_LOT = 13  # less than one lot
    DENIED_DELISTED = 14  # the instrument is no longer traded


class OrderStatus(StrEnum):
    """Where an order is in its life; its outcome says why."""

    PLACED = "placed"
    PARTIAL = "partial"  # open, and filled in part
    FILLED = "filled"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DENIED = "denied"


def order_status(outcome: BookOrderOutcome, *, has_filled: bool = False) -> OrderStatus:
    """Returns the status of an order; `has_filled` says whether any of its units did."""
    if outcome is BookOrderOutcome.PENDING:
        return OrderStatus.PARTIAL if has_filled else OrderStatus.PLACED
    if outcome is BookOrderOutcome.FILLED:
        return OrderStatus.FILLED
    if outcome <= BookOrderOutcome.SESSION_CLOSED:
        return OrderStatus.EXPIRED
    if outcome <= BookOrderOutcome.CANCELLED:
        return OrderStatus.CANCELLED
    return OrderStatus.DENIED


class OrderSide(StrEnum):
    """The side of an order as files name it; its quantity is always positive."""

    BUY = "BUY"
    SELL = "SELL"


@kernel
def target_quantity(weight: float, base: float, price: float) -> float:
    """Returns the units of a target: weight * base / price (SPEC B9; Q5 of its part C).

    `weight` is a signed share of `base`, money; `price` is money per unit. 30 % of 100,000 at 60
    are 500 units. A base at or below 0 has nothing to invest: 0 units.
    """
    if base <= 0.0:
        return 0.0
    return weight * base / price


@kernel
def order_quantity(target: float, held: float) -> float:
    """Returns the signed units to trade from `held` to `target`; 0 when too few to order."""
    delta = target - held
    if abs(delta) > MIN_ORDER_QUANTITY:
        return delta
    return 0.0


def orders_from_targets(
    targets: NDArray[np.float64] | None, positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the signed units to trade of each instrument, shape (symbols,); 0 is no order.

    `targets` are signed units, one for each instrument: an instrument that is not wanted has 0,
    so that going flat closes everything (SPEC C2, Q6). None is no decision, and NaN no decision
    about one instrument: neither makes an order.
    """
    if targets is None:
        return np.zeros(len(positions))
    delta = targets - positions
    return np.where(np.abs(delta) > MIN_ORDER_QUANTITY, delta, 0.0)
