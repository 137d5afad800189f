"""The board: a file in memory by which a worker says where it is, and is told to stop.

The compiled loop writes its slot here at every bar, and the supervisor reads it whenever it likes:
neither waits for the other, and a worker that hangs is seen to hang.

    float64[_PLACES]   the loop's slot, then phase, units done, units in all, number of times
    int64[...]         the open time of every bar of the run, by bar index
"""

import mmap
import os
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.observer import PHASES as RUN_PHASES
from backlane.cycle.loop import SLOT_COUNT, Slot

PHASES = ("", *RUN_PHASES)
"""What a run goes through, in this order; the first stands for "not begun"."""
SIMULATION = PHASES.index("simulation")


class _Place(IntEnum):
    PHASE = SLOT_COUNT
    COMPLETED = SLOT_COUNT + 1
    TOTAL = SLOT_COUNT + 2
    TIME_COUNT = SLOT_COUNT + 3


_PLACES = SLOT_COUNT + len(_Place)
_HEADER_BYTES = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Reading:
    """What a board says at one moment. Two that are equal mean: no progress in between.

    `simulated_time_ns` is the open time of the newest simulated bar, None before the first.
    """

    phase: str
    completed_units: int
    total_units: int
    simulated_time_ns: int | None = None
    equity: float = 0.0
    trade_count: int = 0


class Board:
    """One end of a board; `fd` is handed to the worker process, which opens the other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._memory = mmap.mmap(file.fileno(), _HEADER_BYTES)
        self._values: NDArray[np.float64] = np.frombuffer(
            self._memory, dtype=np.float64, count=_PLACES
        )

    @classmethod
    def create(cls) -> "Board":
        """Makes a new board; its file has no name, so nothing stays behind."""
        file = cast(BinaryIO, tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - kept open
        file.truncate(_HEADER_BYTES)
        return cls(file)

    @classmethod
    def attach(cls, fd: int) -> "Board":
        """Opens the board that another process made."""
        return cls(os.fdopen(fd, "r+b", buffering=0))

    @property
    def fd(self) -> int:
        """Returns the file descriptor to be inherited."""
        return self._file.fileno()

    @property
    def slot(self) -> NDArray[np.float64]:
        """Returns the part that the compiled loop writes."""
        return self._values[:SLOT_COUNT]

    def wipe(self) -> None:
        """Makes it ready for the next run; no worker may use it meanwhile."""
        self._values[:] = 0.0
        self._file.truncate(_HEADER_BYTES)

    def cancel(self) -> None:
        """Tells the worker to stop before its next bar."""
        self.slot[Slot.CANCEL] = 1.0

    def enter(self, phase: str, total_units: int) -> None:
        """Says that a phase begins."""
        self._values[_Place.COMPLETED] = 0.0
        self._values[_Place.TOTAL] = total_units
        self._values[_Place.PHASE] = PHASES.index(phase)

    def advance(self, completed_units: int) -> None:
        """Says how many units of the phase are done."""
        self._values[_Place.COMPLETED] = completed_units

    def share_times(self, open_time_ns: NDArray[np.int64]) -> None:
        """Puts down the open time of every bar, so that an index can be told as a time."""
        os.ftruncate(self.fd, _HEADER_BYTES + open_time_ns.nbytes)
        view = memoryview(open_time_ns.astype("<i8").tobytes())
        position = _HEADER_BYTES
        while view:
            written = os.pwrite(self.fd, view, position)
            view, position = view[written:], position + written
        self._values[_Place.TIME_COUNT] = len(open_time_ns)

    def read(self) -> Reading:
        """Returns what the worker says now."""
        values = self._values.copy()
        phase, total = int(values[_Place.PHASE]), int(values[_Place.TOTAL])
        next_index, bar_count = int(values[Slot.NEXT_INDEX]), int(values[_Place.TIME_COUNT])
        if next_index == 0 or bar_count == 0:
            return Reading(PHASES[phase], int(values[_Place.COMPLETED]), total)
        completed = int(values[_Place.COMPLETED])
        if phase == SIMULATION:
            completed = max(0, next_index - (bar_count - total))
        return Reading(
            phase=PHASES[phase],
            completed_units=completed,
            total_units=total,
            simulated_time_ns=self._time_ns(next_index - 1),
            equity=float(values[Slot.EQUITY]),
            trade_count=int(values[Slot.TRADE_COUNT]),
        )

    def _time_ns(self, index: int) -> int:
        return int.from_bytes(os.pread(self.fd, 8, _HEADER_BYTES + 8 * index), "little")

    def close(self) -> None:
        """Lets go of the memory and the file."""
        del self._values
        self._memory.close()
        self._file.close()
