"""Who is told what happens in a run, and how a run is stopped."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.loop import Slot
from backlane.errors import CancelledRunError


class RunObserver(Protocol):
    """Is told what happens in a run, in order. May raise to stop it."""

    def entered(self, phase: str, total_units: int) -> None:
        """A phase begins: features, inference, simulation, metrics; its units are bars."""
        ...

    def advanced(self, completed_units: int) -> None:
        """So many units of the phase are done (inference; the loop itself writes the slot)."""
        ...

    def simulated(
        self, bar_index: int, time_ns: int, equity: float, trades: NDArray[np.void]
    ) -> None:
        """A slice of the simulation is done, up to this bar; `trades` are those closed in it."""
        ...


class SilentObserver:
    """An observer that does nothing."""

    def entered(self, phase: str, total_units: int) -> None:
        """Ignores that a phase begins."""

    def advanced(self, completed_units: int) -> None:
        """Ignores that units are done."""

    def simulated(
        self, bar_index: int, time_ns: int, equity: float, trades: NDArray[np.void]
    ) -> None:
        """Ignores that a slice is done."""


def raise_if_cancelled(slot: NDArray[np.float64]) -> None:
    """Raises CancelledRunError when whoever holds the slot asked for it."""
    if slot[Slot.CANCEL] != 0.0:
        raise CancelledRunError("The run was cancelled.")
