"""What became of orders, and why positions are closed."""

from enum import IntEnum


class OrderOutcome(IntEnum):
    """What becomes of an order. Numbers are stored in results: never reuse one."""

    FILLED = 0
    DENIED_QUANTITY_ZERO = 1  # the cash buys less than one lot, or not all of the units asked for
    DENIED_POSITION_OPEN = 2  # BUY while LONG, or SELL while SHORT
    DENIED_SHORTS_OFF = 3  # SELL while FLAT in a profile without short positions
    EXPIRED_LAST_BAR = 4  # decided on the last bar: there is no next open


class ExitReason(IntEnum):
    """Why a trade was closed. Numbers are stored in results: never reuse one."""

    DECISION = 1
    END_OF_DATA = 2
    STOP_LOSS = 3
    TAKE_PROFIT = 4
    TRAILING_STOP = 5
    TIME_EXIT = 6
    MARGIN_CALL = 7
