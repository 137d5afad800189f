"""What goes into a portfolio session, and what comes out of it: plain records, light."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backlane.backtest.cycle_outcome import CycleOutcome

SYMBOLS_MAX = 2_000
"""Instruments of one session: a report of all of them fits one message."""
EVENTS_PER_BAR_MAX = 10_000
"""Events that one bar may bring."""
EVENT_SOURCES_MAX = 100
EVENT_COLUMNS_MAX = 100


@dataclass(frozen=True, slots=True)
class SessionSetup:
    """What a session is about: a configuration as its YAML file holds it, and what will be fed.

    `symbols` has each once; a backtest has them sorted by name. `event_columns` names the columns
    of numbers of each source of events. `bar_spacing_ns` is the usual distance of two bars; it is
    asked for where orders fill in the sessions of an exchange alone.
    """

    config: Mapping[str, Any]
    symbols: tuple[str, ...]
    has_volume: bool = True
    event_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bar_spacing_ns: int | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event of one instrument; times are UTC nanoseconds, a column left out is NaN."""

    source: str
    symbol: str
    event_ns: int
    known_ns: int
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bar of every instrument, at its close, and the events disclosed since the bar before.

    `number` counts 1, 2, 3, ...; `time_ns` is the stamp of the close, UTC nanoseconds. The prices
    and the volume have one number for each instrument, in the order of the setup, NaN where it has
    no bar; `volume` is empty where the session has none. An event belongs to the first bar that is
    not before its disclosure.
    """

    number: int
    time_ns: int
    open: tuple[float, ...]
    high: tuple[float, ...]
    low: tuple[float, ...]
    close: tuple[float, ...]
    volume: tuple[float, ...] = ()
    events: tuple[EventRow, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    """An order that was placed at a bar: its number, 1, 2, 3, ..., and signed units.

    `price` is the last close known, None where there is none.
    """

    number: int
    symbol: str
    quantity: float
    price: float | None


@dataclass(frozen=True, slots=True)
class OrderEnded:
    """What became of an order: `outcome` is the word of orders.csv."""

    number: int
    outcome: str


@dataclass(frozen=True, slots=True)
class FillMade:
    """A fill: the number of its order, signed units, and money."""

    order: int
    symbol: str
    quantity: float
    price: float
    cost: float
    cash_after: float


@dataclass(frozen=True, slots=True)
class PositionHeld:
    """What is held of an instrument: signed units, and the last close known."""

    symbol: str
    quantity: float
    price: float | None


@dataclass(frozen=True, slots=True)
class BarReport:
    """What a session made of one bar; `number` is that of the bar.

    Money is in the currency of the prices. `positions` are those that are not zero, after all fills
    of the bar; so are `equity` and `cash`.
    """

    number: int
    time_ns: int
    decision: CycleOutcome
    orders: tuple[OrderPlaced, ...]
    ended: tuple[OrderEnded, ...]
    fills: tuple[FillMade, ...]
    positions: tuple[PositionHeld, ...]
    equity: float
    cash: float
