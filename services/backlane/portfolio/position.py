"""The side of a position."""

from enum import IntEnum


class PositionSide(IntEnum):
    """Which way a position points; the value is its sign."""

    SHORT = -1
    FLAT = 0
    LONG = 1
