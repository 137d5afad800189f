"""What became of orders."""

from enum import IntEnum


class OrderOutcome(IntEnum):
    """What becomes of an order. Numbers are stored in results: never reuse one."""

    FILLED = 0
    DENIED_QUANTITY_ZERO = 1  # the cash buys less than one unit
    DENIED_POSITION_OPEN = 2  # BUY while LONG, or SELL while SHORT
    DENIED_SHORTS_OFF = 3  # SELL while FLAT in a profile without short positions
    EXPIRED_LAST_BAR = 4  # decided on the last bar: there is no next open
