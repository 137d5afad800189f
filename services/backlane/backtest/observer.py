"""Who is told what happens in a run, how long it took, and how a run is stopped."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backlane.clock import Clock
from backlane.cycle.loop import Slot
from backlane.errors import CancelledRunError

PHASES = ("load", "features", "inference", "simulation", "metrics", "result")
"""What a run goes through, in this order."""


class RunObserver(Protocol):
    """Is told what happens in a run, in order. May raise to stop it."""

    def entered(self, phase: str, total_units: int) -> None:
        """A phase begins, one of PHASES; its units are bars.

        The engine enters features, inference, simulation and metrics; whoever loads the bars and
        writes the result enters load and result.
        """
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


class PhaseTimer:
    """Passes on what it is told, and keeps how long each phase took: until the next one began."""

    def __init__(self, clock: Clock, observer: RunObserver | None = None) -> None:
        self._clock = clock
        self._observer = observer or SilentObserver()
        self._phase = ""
        self._since_s = 0.0
        self._timings: dict[str, float] = {}

    @property
    def timings(self) -> Mapping[str, float]:
        """Returns the seconds of each phase that has ended, in the order in which they began."""
        return MappingProxyType(dict(self._timings))

    def entered(self, phase: str, total_units: int) -> None:
        """Ends the phase before, and begins this one; entered again, it goes on counting."""
        self.stop()
        self._phase = phase
        self._observer.entered(phase, total_units)

    def stop(self) -> None:
        """Ends the phase that is under way."""
        now_s = self._clock.monotonic_s()
        if self._phase:
            spent_s = now_s - self._since_s
            self._timings[self._phase] = self._timings.get(self._phase, 0.0) + spent_s
        self._phase, self._since_s = "", now_s

    def advanced(self, completed_units: int) -> None:
        """Passes on how far the phase is."""
        self._observer.advanced(completed_units)

    def simulated(
        self, bar_index: int, time_ns: int, equity: float, trades: NDArray[np.void]
    ) -> None:
        """Passes on that a slice is done."""
        self._observer.simulated(bar_index, time_ns, equity, trades)


def raise_if_cancelled(slot: NDArray[np.float64]) -> None:
    """Raises CancelledRunError when whoever holds the slot asked for it."""
    if slot[Slot.CANCEL] != 0.0:
        raise CancelledRunError("The run was cancelled.")
