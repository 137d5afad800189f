"""The bars and events of a session as they come: checked, kept, and shown as a panel."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_bars import Delisting, ExchangeSession
from backlane.backtest.session_records import (
    EVENTS_PER_BAR_MAX,
    BarRow,
    EventRow,
    SessionSetup,
)
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.execution.nyse_calendar import has_session, is_in_session
from backlane.market.spacing import stamp_text
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.portfolio.book_details import NO_BAR
from backlane.portfolio.book_full_loop import BookBars

PRICES = ("open", "high", "low", "close")
FIRST_ROWS = 256
"""Rows that a tape has room for at first; the room doubles when it is full."""
_DAY_NS = 86_400_000_000_000


class GrowingRows:
    """Rows of one dtype and width, appended one by one; what was shown before does not move."""

    def __init__(self, dtype: Any, width: int | None = None) -> None:
        shape = (FIRST_ROWS,) if width is None else (FIRST_ROWS, width)
        self._room = np.zeros(shape, dtype)
        self._count = 0

    @property
    def rows(self) -> NDArray[Any]:
        """The rows so far, as a view."""
        return self._room[: self._count]

    def append(self, row: Any) -> None:
        """Appends one row at the end."""
        if self._count == len(self._room):
            self._room = np.concatenate([self._room, np.zeros_like(self._room)])
        self._room[self._count] = row
        self._count += 1

    def restore(self, rows: NDArray[Any]) -> None:
        """Holds copies of these rows, and nothing else."""
        self._room = np.concatenate([rows, np.zeros((FIRST_ROWS, *rows.shape[1:]), rows.dtype)])
        self._count = len(rows)


class _EventTape:
    """The events of one source so far."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.fixed = {name: GrowingRows(np.int64) for name in ("symbol", "event_ns", "known_ns")}
        self.values = {name: GrowingRows(np.float64) for name in columns}

    def append(self, column: int, event: EventRow) -> None:
        for name, number in (
            ("symbol", column),
            ("event_ns", event.event_ns),
            ("known_ns", event.known_ns),
        ):
            self.fixed[name].append(number)
        for name, rows in self.values.items():
            rows.append(event.values.get(name, math.nan))


class SessionTape:
    """Everything that a session was fed, cut at nothing: its last bar is now."""

    def __init__(
        self,
        setup: SessionSetup,
        session: ExchangeSession,
        delistings: tuple[Delisting, ...],
    ) -> None:
        """Holds no bar; raises InvalidRequestError for a setup that cannot be followed."""
        check_setup(setup, session)
        count = len(setup.symbols)
        self._setup, self._session, self._delistings = setup, session, delistings
        self._columns = {symbol: column for column, symbol in enumerate(setup.symbols)}
        self._time_ns = GrowingRows(np.int64)
        self._is_open = GrowingRows(np.bool_)
        self._grids = {name: GrowingRows(np.float64, count) for name in (*PRICES, "volume")}
        self._events = {name: _EventTape(each) for name, each in setup.event_columns.items()}
        self._delisted_bar = np.full(count, NO_BAR, np.int64)
        self._final_price = np.full(count, np.nan)

    def __len__(self) -> int:
        return len(self._time_ns.rows)

    def check(self, bar: BarRow) -> None:
        """Raises InvalidRequestError, naming every field at fault, for a bar that cannot follow."""
        found = list(self._mistakes(bar))
        if found:
            lines = "; ".join(f"{each.field}: {each.description}" for each in found)
            raise InvalidRequestError(
                f"Bar {bar.number} cannot be taken. {lines}", violations=tuple(found[:20])
            )

    def _mistakes(self, bar: BarRow) -> list[FieldViolation]:
        found = []
        times, expected = self._time_ns.rows, len(self) + 1
        if bar.number != expected:
            found.append(FieldViolation("number", f"is {bar.number}; the next bar is {expected}"))
        if len(times) and bar.time_ns <= times[-1]:
            said = f"is {stamp_text(bar.time_ns)}; the bar before is of {stamp_text(times[-1])}"
            found.append(FieldViolation("time", said))
        found += _price_mistakes(self._setup, bar)
        if len(bar.events) > EVENTS_PER_BAR_MAX:
            said = f"holds {len(bar.events)}; at most {EVENTS_PER_BAR_MAX}"
            return [*found, FieldViolation("events", said)]
        last_ns = int(times[-1]) if len(times) else None
        for place, event in enumerate(bar.events):
            said = self._event_mistake(event, bar.time_ns, last_ns)
            if said:
                found.append(FieldViolation(f"events[{place}]", said))
        return found

    def _event_mistake(self, event: EventRow, time_ns: int, last_ns: int | None) -> str:
        columns = self._setup.event_columns
        if event.source not in columns:
            return f"is of {event.source[:80]!r}, no source of the session"
        if event.symbol not in self._columns:
            return f"is of {event.symbol[:80]!r}, no instrument of the session"
        unknown = sorted(set(event.values) - set(columns[event.source]))
        if unknown:
            return f"has {unknown[0][:80]!r}, no column of {event.source}"
        if event.known_ns < event.event_ns:
            return "was disclosed before it happened"
        if event.known_ns > time_ns:
            return f"is disclosed at {stamp_text(event.known_ns)}, after the bar: send it later"
        if last_ns is not None and event.known_ns <= last_ns:
            return (
                f"was disclosed at {stamp_text(event.known_ns)}, before the bar before: what comes "
                "late is known when it comes, so give that time"
            )
        return ""

    def append(self, bar: BarRow) -> None:
        """Takes a bar that `check` has let through."""
        index, times = len(self), self._time_ns.rows
        last_ns = int(times[-1]) if index else None
        for each in self._delistings:
            if each.time_ns <= bar.time_ns and (last_ns is None or each.time_ns > last_ns):
                column = self._columns[each.symbol]
                self._delisted_bar[column], self._final_price[column] = index, each.final_price
        self._time_ns.append(bar.time_ns)
        self._is_open.append(self._is_session_open(bar.time_ns))
        for name in PRICES:
            self._grids[name].append(getattr(bar, name))
        self._grids["volume"].append(bar.volume if self._setup.has_volume else math.nan)
        # Events are in the order of their disclosure, and of one time in that of arrival.
        for event in sorted(bar.events, key=lambda each: each.known_ns):
            self._events[event.source].append(self._columns[event.symbol], event)

    def _is_session_open(self, time_ns: int) -> bool:
        if self._session is ExchangeSession.ALWAYS:
            return True
        stamp = np.array([time_ns])
        is_daily = (self._setup.bar_spacing_ns or 0) >= _DAY_NS
        return bool((has_session(stamp) if is_daily else is_in_session(stamp))[0])

    @property
    def panel(self) -> Panel:
        """The bars so far, as views."""
        time_ns = self._time_ns.rows
        grids = {name: self._grids[name].rows for name in PRICES}
        volume = self._grids["volume"].rows if self._setup.has_volume else None
        return Panel(self._setup.symbols, time_ns, time_ns, **grids, volume=volume)

    @property
    def events(self) -> dict[str, Events]:
        """The events so far, by source, as views."""
        return {
            source: Events(
                self._setup.symbols,
                tape.fixed["symbol"].rows,
                tape.fixed["event_ns"].rows,
                tape.fixed["known_ns"].rows,
                {name: rows.rows for name, rows in tape.values.items()},
            )
            for source, tape in self._events.items()
        }

    @property
    def bars(self) -> BookBars:
        """The bars so far as the book takes them, as views."""
        grids = {name: self._grids[name].rows for name in (*PRICES, "volume")}
        return BookBars(
            time_ns=self._time_ns.rows,
            is_open=self._is_open.rows,
            **grids,
            delisted_bar=self._delisted_bar,
            final_price=self._final_price,
        )

    # --- to go on from ------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns everything by name, as copies."""
        rows = {name: each.rows.copy() for name, each in self._rows().items()}
        return rows | {
            "delisted_bar": self._delisted_bar.copy(),
            "final_price": self._final_price.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Holds what a `state` of a session of the same setup holds."""
        for name, each in self._rows().items():
            each.restore(state[name])
        self._delisted_bar = state["delisted_bar"].copy()
        self._final_price = state["final_price"].copy()

    def _rows(self) -> dict[str, GrowingRows]:
        found = {"time_ns": self._time_ns, "is_open": self._is_open, **self._grids}
        for source, tape in self._events.items():
            found |= {f"events.{source}.{name}": each for name, each in tape.fixed.items()}
            found |= {f"events.{source}.values.{name}": each for name, each in tape.values.items()}
        return found


def check_setup(setup: SessionSetup, session: ExchangeSession) -> None:
    """Raises InvalidRequestError for no instruments, one twice, or a spacing that is missing."""
    symbols = setup.symbols
    found = []
    if not symbols or len(set(symbols)) != len(symbols):
        found.append(FieldViolation("symbols", "give at least one instrument, and each once"))
    if session is not ExchangeSession.ALWAYS and not (setup.bar_spacing_ns or 0) > 0:
        said = f"is missing: execution.session is {session}, and days differ from hours"
        found.append(FieldViolation("bar_spacing", said))
    if found:
        lines = "; ".join(f"{each.field}: {each.description}" for each in found)
        raise InvalidRequestError(f"The session is not valid. {lines}", violations=tuple(found))


def _price_mistakes(setup: SessionSetup, bar: BarRow) -> list[FieldViolation]:
    """Returns what the reader of a panel file would refuse, field by field."""
    expected = {name: len(setup.symbols) for name in PRICES}
    expected["volume"] = len(setup.symbols) if setup.has_volume else 0
    found = [
        FieldViolation(name, f"has {len(getattr(bar, name))} numbers; the session has {count}")
        for name, count in expected.items()
        if len(getattr(bar, name)) != count
    ]
    if found:
        return found
    opened, high, low, close = (np.array(getattr(bar, name), np.float64) for name in PRICES)
    matrix = np.stack([opened, high, low, close])
    is_there = ~np.isnan(matrix).all(axis=0)
    is_valid = (np.isfinite(matrix) & (matrix > 0)).all(axis=0)
    with np.errstate(invalid="ignore"):
        is_inside = (np.maximum(opened, close) <= high) & (np.minimum(opened, close) >= low)
    volume = np.zeros(len(opened))
    if setup.has_volume:
        volume = np.array(bar.volume, np.float64)
    for name, wrong, said in (
        ("close", is_there & ~is_valid, "a price is missing, infinite, zero or below"),
        ("close", is_there & is_valid & ~is_inside, "open or close lies outside of low and high"),
        ("volume", is_there & ~(np.isfinite(volume) & (volume >= 0)), "a volume is missing or < 0"),
        ("volume", ~is_there & ~np.isnan(volume) & setup.has_volume, "there is one without a bar"),
    ):
        if wrong.any():
            symbol = setup.symbols[int(wrong.argmax())]
            found.append(FieldViolation(name, f"{symbol}: {said}"))
    return found
