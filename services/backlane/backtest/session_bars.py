"""The bars of a panel one at a time, as a session is fed with them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from backlane.backtest.session_records import BarRow, EventRow, SessionSetup
from backlane.panel.events import Events
from backlane.panel.panel import Panel


def setup_of(config: Mapping[str, Any], panel: Panel, events: Mapping[str, Events]) -> SessionSetup:
    """Returns the setup of a session that is fed with a recorded panel."""
    spacing_ns = None
    if len(panel) > 1:
        spacing_ns = int(np.median(np.diff(panel.time_ns)))
    columns = {source: tuple(each.values) for source, each in events.items()}
    has_volume = panel.volume is not None
    return SessionSetup(config, panel.symbols, has_volume, columns, spacing_ns)


def rows_of(panel: Panel, events: Mapping[str, Events], first: int = 0) -> Iterator[BarRow]:
    """Yields the bars of a panel from the one of index `first` on, numbered from 1 at index 0.

    Each comes with the events that were disclosed since the bar before, up to it; what was
    disclosed after the last bar is never sent.
    """
    for index in range(first, len(panel)):
        found: list[EventRow] = []
        for source, each in events.items():
            start = 0
            if index:
                start = int(np.searchsorted(each.known_ns, panel.known_ns[index - 1], "right"))
            stop = int(np.searchsorted(each.known_ns, panel.known_ns[index], "right"))
            found += [_event(source, each, place) for place in range(start, stop)]
        prices = {
            name: tuple(getattr(panel, name)[index].tolist())
            for name in ("open", "high", "low", "close")
        }
        volume = () if panel.volume is None else tuple(panel.volume[index].tolist())
        yield BarRow(
            index + 1, int(panel.time_ns[index]), **prices, volume=volume, events=tuple(found)
        )


def _event(source: str, events: Events, place: int) -> EventRow:
    return EventRow(
        source,
        events.symbols[int(events.symbol_index[place])],
        int(events.event_ns[place]),
        int(events.known_ns[place]),
        {name: float(column[place]) for name, column in events.values.items()},
    )
