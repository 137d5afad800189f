"""Panels and events whose future is gone, or another one."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backlane.panel.events import Events
from backlane.panel.panel import Panel


def known_events(events: Mapping[str, Events], as_of_ns: int) -> dict[str, Events]:
    """Returns the events of each source that were disclosed by a time."""
    return {source: each.until(as_of_ns) for source, each in events.items()}


def shuffled_panel(panel: Panel, as_of_ns: int, random: np.random.Generator) -> Panel:
    """Returns the panel with the bars that were not known at a time in another order.

    Times stay; each later row gets the bars of another later row, missing ones included.
    """
    known = int(np.searchsorted(panel.known_ns, as_of_ns, side="right"))
    taken = _turned(len(panel), known, random)
    volume = None if panel.volume is None else panel.volume[taken]
    return Panel(
        panel.symbols, panel.time_ns, panel.known_ns, panel.open[taken], panel.high[taken],
        panel.low[taken], panel.close[taken], volume,
    )  # fmt: skip


def panel_since(panel: Panel, start: int) -> Panel:
    """Returns the bars from a row on, as views."""
    volume = None if panel.volume is None else panel.volume[start:]
    return Panel(
        panel.symbols, panel.time_ns[start:], panel.known_ns[start:], panel.open[start:],
        panel.high[start:], panel.low[start:], panel.close[start:], volume,
    )  # fmt: skip


def shuffled_events(
    events: Mapping[str, Events], as_of_ns: int, random: np.random.Generator
) -> dict[str, Events]:
    """Returns the events with those that were not disclosed at a time changed.

    Each later disclosure has the instrument and the values of another later one, and happened when
    a third one did, but never after it is told. Were the three kept together, whoever ignores
    disclosures would see the same events as before.
    """
    return {source: _retold(each, as_of_ns, random) for source, each in events.items()}


def _retold(events: Events, as_of_ns: int, random: np.random.Generator) -> Events:
    known = int(np.searchsorted(events.known_ns, as_of_ns, side="right"))
    taken, happened = (_turned(len(events.known_ns), known, random) for _ in range(2))
    return replace(
        events,
        symbol_index=events.symbol_index[taken],
        event_ns=np.minimum(events.event_ns[happened], events.known_ns),
        values={name: values[taken] for name, values in events.values.items()},
    )


def _turned(count: int, known: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Returns the places from which to take: the first `known` stay, no later one does."""
    taken: NDArray[np.intp] = np.arange(count)
    later = count - known
    if later >= 2:
        # One cycle through all of them: none keeps its own place.
        cycle = random.permutation(later)
        taken[known + cycle] = known + np.roll(cycle, 1)
    return taken
