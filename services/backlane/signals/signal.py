"""Signals: what a strategy makes of each instrument at each bar."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Direction(IntEnum):
    """What a signal wants to hold."""

    SHORT = -1
    FLAT = 0
    LONG = 1


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """Signals on the grid of a panel; both arrays have shape (times, symbols).

    `direction` is int8, a Direction. `score` tells how strong the signal is; it is NaN where the
    instrument has no bar, and the direction there FLAT.
    """

    direction: NDArray[np.int8]
    score: NDArray[np.float64]
