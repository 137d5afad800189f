"""Events: facts about an instrument that happen at one time and become known at another."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Events of one source, in the order of `known_ns`; every array has shape (events,).

    `symbol_index` points into `symbols`, those of a panel. `event_ns` is when it happened,
    `known_ns` when it was disclosed, never before. `values` holds float64 columns by name.
    """

    symbols: tuple[str, ...]
    symbol_index: NDArray[np.int64]
    event_ns: NDArray[np.int64]
    known_ns: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]

    def until(self, as_of_ns: int) -> "Events":
        """Returns what was known at a time: the events disclosed at or before it, as views."""
        stop = int(np.searchsorted(self.known_ns, as_of_ns, side="right"))
        values = {name: column[:stop] for name, column in self.values.items()}
        return Events(
            self.symbols,
            self.symbol_index[:stop],
            self.event_ns[:stop],
            self.known_ns[:stop],
            values,
        )
