"""Events counted and summed over a moving window of time, as they were known at each bar.

The windows are (t - length, t], t being the stamp of a bar; an event counts from the first bar at
which it was known, `known_ns` of the event against `known_ns` of the bar. So a late disclosure
shows late, also in a window over the times at which the events happened (SPEC B6, Q10).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.jit import compiled
from backlane.panel.events import Events

DAY_NS = 86_400_000_000_000


class EventTime(StrEnum):
    """Which time of an event has to lie in the window."""

    HAPPENED = "happened"  # event_ns
    DISCLOSED = "disclosed"  # known_ns


@dataclass(frozen=True, slots=True, eq=False)
class EventWindows:
    """What the windows of all bars hold; every array has shape (times, symbols).

    `count` is int64, `total` the sum of one column, 0 where there is no event.
    """

    count: NDArray[np.int64]
    total: NDArray[np.float64]

    def mean(self) -> NDArray[np.float64]:
        """Returns total / count, NaN where there is no event."""
        means = np.full(self.total.shape, np.nan)
        np.divide(self.total, self.count, out=means, where=self.count > 0)
        return means


def event_windows(
    events: Events,
    column: str,
    time_ns: NDArray[np.int64],
    known_ns: NDArray[np.int64],
    length_ns: int,
    clock: EventTime = EventTime.HAPPENED,
) -> EventWindows:
    """Returns the windows of `length_ns` over one column of the events, at the bars of a panel.

    `time_ns` and `known_ns` are those of the panel, shape (times,). An event of day 1, disclosed on
    day 3, is in the two-day windows of none of days 1 to 5 by the time it happened, and in those of
    days 3 and 4 by its disclosure. Raises KeyError for an unknown column.
    """
    count = np.zeros((len(time_ns), len(events.symbols)), np.int64)
    total = np.zeros(count.shape)
    clock_ns = events.known_ns if clock is EventTime.DISCLOSED else events.event_ns
    first = np.maximum(
        np.searchsorted(time_ns, clock_ns, side="left"),
        np.searchsorted(known_ns, events.known_ns, side="left"),
    )
    stop = np.searchsorted(time_ns, clock_ns + length_ns, side="left")
    _add(events.symbol_index, first, stop, events.values[column], count, total)
    return EventWindows(count, total)


def distinct_events(events: Events) -> Events:
    """Returns the events, of those alike in instrument and both times the first alone (SPEC B6).

    For sources that send the same event again. Two trades of one day that are disclosed together
    look the same: where those are meant, count all events.
    """
    keys = np.stack([events.symbol_index, events.event_ns, events.known_ns])
    _, first = np.unique(keys, axis=1, return_index=True)
    kept = np.sort(first)
    return Events(
        events.symbols,
        events.symbol_index[kept],
        events.event_ns[kept],
        events.known_ns[kept],
        {name: column[kept] for name, column in events.values.items()},
    )


@compiled
def _add(
    symbol_index: NDArray[np.int64],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    values: NDArray[np.float64],
    count: NDArray[np.int64],
    total: NDArray[np.float64],
) -> None:
    """Adds each event to the bars from `first` up to `stop`, in the order of the events."""
    for event in range(len(values)):
        symbol = symbol_index[event]
        for bar in range(first[event], stop[event]):
            count[bar, symbol] += 1
            total[bar, symbol] += values[event]
