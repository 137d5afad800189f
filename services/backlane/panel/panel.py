"""The panel: bars of many instruments on one grid of times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Bars of many instruments; every array of prices has shape (times, symbols), float64.

    `time_ns` (times,) is the stamp of the bars, growing strictly; `known_ns` (times,) is when they
    are known, at their close. Where an instrument has no bar, all of its values are NaN. `volume`
    is None where the data has none; it is in units of the instrument.
    """

    symbols: tuple[str, ...]
    time_ns: NDArray[np.int64]
    known_ns: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.time_ns)

    def until(self, as_of_ns: int) -> "Panel":
        """Returns what was known at a time: the bars with `known_ns` <= `as_of_ns`, as views."""
        stop = int(np.searchsorted(self.known_ns, as_of_ns, side="right"))
        volume = None if self.volume is None else self.volume[:stop]
        return Panel(
            self.symbols,
            self.time_ns[:stop],
            self.known_ns[:stop],
            self.open[:stop],
            self.high[:stop],
            self.low[:stop],
            self.close[:stop],
            volume,
        )
