"""A session as lines of JSON: first what it is about, then one line for each bar. Light: no numpy.

{"symbols": ["ASH", "OAK"], "events": {"insider": ["net_shares"]}, "bar_spacing_s": 86400}
{"time": "2024-01-02T21:00:00Z", "bars": {"ASH": {"open": 9, "high": 9.5, "low": 9, "close": 9.2,
 "volume": 800}}, "events": [{"source": "insider", "symbol": "OAK", "event_time":
 "2024-01-01T00:00:00Z", "known_time": "2024-01-02T00:00:00Z", "values": {"net_shares": 50}}]}

A time is ISO 8601, or UTC nanoseconds as a whole number. An instrument that is left out of `bars`
has no bar. `has_volume` is true unless the first line says otherwise.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from backlane.backtest.session_records import BarRow, EventRow, SessionSetup
from backlane.errors import FieldViolation, InvalidRequestError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_S = 1_000_000_000
_SETUP_FIELDS = {"symbols", "has_volume", "events", "bar_spacing_s"}
_BAR_FIELDS = {"number", "time", "bars", "events"}
_PRICES = ("open", "high", "low", "close")


def setup_from_line(line: Any, config: Mapping[str, Any]) -> SessionSetup:
    """Returns the setup that the first line describes; raises InvalidRequestError."""
    _check_fields(line, _SETUP_FIELDS, "the first line")
    symbols, sources = line.get("symbols"), line.get("events", {})
    is_list = isinstance(symbols, list) and all(isinstance(each, str) for each in symbols)
    if not is_list or not isinstance(sources, dict):
        _refuse("symbols", "the first line has no list of symbols, or its events are no mapping")
    spacing_s = line.get("bar_spacing_s")
    return SessionSetup(
        config,
        tuple(sorted(symbols)),
        bool(line.get("has_volume", True)),
        {str(name): tuple(map(str, columns)) for name, columns in sources.items()},
        None if spacing_s is None else round(_number(spacing_s, "bar_spacing_s") * _NS_PER_S),
    )


def bar_from_line(line: Any, next_number: int, setup: SessionSetup) -> BarRow:
    """Returns the bar of a line; without a number it is the next one. Raises InvalidRequestError.

    Whether it can follow is for the session to say.
    """
    _check_fields(line, _BAR_FIELDS, f"the line of bar {next_number}")
    bars, events = line.get("bars"), line.get("events", [])
    if not isinstance(bars, dict) or not isinstance(events, list):
        _refuse("bars", "is missing, or no mapping from a symbol to its bar")
    unknown = sorted(set(bars) - set(setup.symbols))
    if unknown:
        _refuse(f"bars.{unknown[0][:80]}", "is no instrument of the session")
    names = (*_PRICES, "volume") if setup.has_volume else _PRICES
    grids = {
        name: tuple(_cell(bars.get(symbol), name, symbol) for symbol in setup.symbols)
        for name in names
    }
    number = line.get("number", next_number)
    if not isinstance(number, int):
        _refuse("number", f"{number!r} is no whole number")
    return BarRow(
        number,
        time_ns_of(line.get("time"), "time"),
        **grids,
        events=tuple(_event(each, place) for place, each in enumerate(events)),
    )


def time_ns_of(value: Any, field: str) -> int:
    """Returns UTC nanoseconds of an ISO 8601 text, or of a whole number of them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        _refuse(field, f"{value!r} is no time: write 2024-01-31T21:00:00Z")
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _NS_PER_S + since.microseconds * 1_000


def _cell(bar: Any, name: str, symbol: str) -> float:
    if bar is None:
        return math.nan
    if not isinstance(bar, dict) or name not in bar:
        _refuse(f"bars.{symbol}.{name}", "is missing")
    return _number(bar[name], f"bars.{symbol}.{name}")


def _event(content: Any, place: int) -> EventRow:
    field = f"events[{place}]"
    if not isinstance(content, dict) or not isinstance(content.get("values", {}), dict):
        _refuse(field, "is no mapping, or its values are none")
    return EventRow(
        str(content.get("source", "")),
        str(content.get("symbol", "")),
        time_ns_of(content.get("event_time"), f"{field}.event_time"),
        time_ns_of(content.get("known_time"), f"{field}.known_time"),
        {
            str(name): _number(value, f"{field}.values.{name}")
            for name, value in content.get("values", {}).items()
        },
    )


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(field, f"{value!r} is no number")
    return float(value)


def _check_fields(line: Any, known: set[str], what: str) -> None:
    if not isinstance(line, dict):
        _refuse("line", f"{what} is no JSON object")
    unknown = sorted(set(line) - known)
    if unknown:
        said = f"is no field of {what}; the fields are {', '.join(sorted(known))}"
        _refuse(unknown[0][:80], said)


def _refuse(field: str, said: str) -> Any:
    raise InvalidRequestError(f"{field}: {said}.", violations=(FieldViolation(field, said),))
