"""How far a run is, as a display needs it: from a service's progress or from the engine here."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

SAMPLES_MAX = 64
"""How many readings the rate is taken over; at ten a second, the last six seconds."""

PACE_S_MIN = 0.05
"""Readings closer together than this say nothing about the pace."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One reading. `phase` is that of the engine; times are UTC nanoseconds; equity is money.

    `completed` and `total` count bars of the phase; `total` is 0 when it is unknown.
    """

    phase: str
    completed: int = 0
    total: int = 0
    time_ns: int | None = None
    equity: float | None = None
    trade_count: int = 0


class Pace:
    """Bars per second of the phase under way, and the seconds until it ends."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._phase = ""
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)

    def observe(self, status: RunStatus) -> None:
        """Takes a reading into account; a new phase, or a new attempt, starts anew."""
        went_back = bool(self._samples) and status.completed < self._samples[-1][1]
        if status.phase != self._phase or went_back:
            self._phase = status.phase
            self._samples.clear()
        self._samples.append((self._monotonic_s(), status.completed))

    @property
    def bars_per_s(self) -> float | None:
        """Over the last readings; None before there are two that differ."""
        if len(self._samples) < 2:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        passed_s = last_s - first_s
        return (last - first) / passed_s if passed_s >= PACE_S_MIN and last > first else None

    def left_s(self, status: RunStatus) -> float | None:
        """Seconds until the phase ends at this pace; None while that cannot be said."""
        pace = self.bars_per_s
        if pace is None or status.total <= 0:
            return None
        return max(0.0, (status.total - status.completed) / pace)


def describe(status: RunStatus, pace: Pace) -> str:
    """Returns the reading as one line of plain text."""
    parts = [status.phase or "waiting"]
    if status.total:
        parts.append(f"{status.completed:,}/{status.total:,} bars")
    if pace.bars_per_s is not None:
        parts.append(f"{pace.bars_per_s:,.0f} bars/s")
    if status.time_ns is not None:
        parts.append(short_time(status.time_ns))
    if status.equity is not None and status.time_ns is not None:
        parts += [f"equity {status.equity:,.2f}", plural(status.trade_count, "trade")]
    left_s = pace.left_s(status)
    if left_s is not None:
        parts.append(f"ETA {duration(left_s)}")
    return "  ".join(parts)


def short_time(time_ns: int) -> str:
    """Returns a simulated time to the minute, UTC."""
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """Returns m:ss, or h:mm:ss from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def plural(count: int, noun: str) -> str:
    """Returns `1 trade` or `1,234 trades`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
