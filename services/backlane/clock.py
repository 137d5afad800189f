"""Time as an argument: everything that needs "now" is handed a Clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. All times are UTC, in nanoseconds since 1970."""

    def now_ns(self) -> int:
        """Returns the wall-clock time: what people see, and what may jump."""
        ...

    def monotonic_s(self) -> float:
        """Returns seconds that only grow: for durations and deadlines."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Returns the wall-clock time."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Returns seconds that only grow."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to go on; for tests and replays."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns
        self._monotonic_s = 0.0

    def now_ns(self) -> int:
        """Returns the wall-clock time that was set."""
        return self._now_ns

    def monotonic_s(self) -> float:
        """Returns the seconds advanced so far."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Moves both readings forward by so many seconds (>= 0)."""
        self._now_ns += round(seconds * 1e9)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Moves the wall clock alone, as a correction of the system's time does."""
        self._now_ns += round(seconds * 1e9)
