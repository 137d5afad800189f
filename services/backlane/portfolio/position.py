"""The side of a position, and why one is closed."""

from enum import IntEnum


class PositionSide(IntEnum):
    """Which way a position points; the value is its sign."""

    SHORT = -1
    FLAT = 0
    LONG = 1


class ExitReason(IntEnum):
    """Why a trade was closed. Numbers are stored in results: never reuse one."""

    DECISION = 1
    END_OF_DATA = 2
