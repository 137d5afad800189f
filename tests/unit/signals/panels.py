"""Small panels and events for tests of signals."""

import numpy as np

from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.signals.event_windows import DAY_NS


def daily_panel(close, *, spread: float = 1.0, volume=None, days=None) -> Panel:
    """Returns a panel of daily bars, known at their stamps; high and low `spread` off the close."""
    close = np.asarray(close, float)
    days = np.arange(1, len(close) + 1) if days is None else np.asarray(days)
    symbols = tuple(f"S{place}" for place in range(close.shape[1]))
    stamps = days.astype(np.int64) * DAY_NS
    traded = None if volume is None else np.asarray(volume, float)
    return Panel(symbols, stamps, stamps, close, close + spread, close - spread, close, traded)


def daily_events(symbols: tuple[str, ...], rows, column: str = "net_shares") -> Events:
    """Returns events of rows (place of the symbol, day, day of disclosure, value)."""
    rows = sorted(rows, key=lambda row: (row[2], row[1]))
    place, day, disclosed, value = (
        np.array([row[at] for row in rows], kind)
        for at, kind in ((0, np.int64), (1, np.int64), (2, np.int64), (3, float))
    )
    return Events(symbols, place, day * DAY_NS, disclosed * DAY_NS, {column: value})
