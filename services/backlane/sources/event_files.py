"""Events from a CSV or Parquet file with one row for each event of an instrument."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from backlane.market.finding import Finding, FindingCode, QualityReport
from backlane.market.spacing import stamp_text
from backlane.panel.events import Events
from backlane.sources.row_tables import SYMBOL_NAMES, TIME_NAMES, RowTable, read_rows
from backlane.sources.unusable import UnusableFileError

DISCLOSURE_DELAY_DAYS: Mapping[str, int] = MappingProxyType(
    {"insider": 2, "congress": 10, "shipping": 1, "earnings": 0, "news": 0}
)
"""Days from event to disclosure where a file does not say it (SPEC B3, B6), by source."""
_DAY_NS = 86_400_000_000_000
_EVENT_NAMES = ("event_date", *TIME_NAMES)
_DISCLOSURE_NAMES = ("disclosure_date", "known_at", "disclosed")


def read_events(path: Path, source: str, symbols: tuple[str, ...]) -> Events:
    """Returns the events of the instruments `symbols`; those of others are left out.

    The file has a symbol, when each event happened (event_date or timestamp) and when it was
    disclosed (disclosure_date); every column of numbers becomes one of `values`. Where the column
    of disclosures is missing, each event counts as disclosed DISCLOSURE_DELAY_DAYS of the source
    after it; a source that is not listed there must have it. Raises DataRefusedError for rows that
    are wrong, as for one disclosed before it happened, and InvalidRequestError, naming
    `data.events.<source>`, when there is no such file.
    """
    try:
        rows = read_rows(path, f"data.events.{source}")
        event_name = rows.need(_EVENT_NAMES)
        event_ns = rows.times(event_name)
        symbol = rows.texts(rows.need(SYMBOL_NAMES))
        known_ns = _known(rows, source, event_ns)
        values = _values(rows)
    except UnusableFileError as unusable:
        QualityReport.of(0, [unusable.finding]).raise_if_refused(str(path))
        raise
    early = known_ns < event_ns
    if early.any():
        first = int(early.argmax())
        example = f"row {first + 1}: {symbol[first]} at {stamp_text(int(event_ns[first]))}"
        message = "An event was disclosed before it happened."
        finding = Finding(FindingCode.DISORDER, int(early.sum()), example, message)
        QualityReport.of(len(rows), [finding]).raise_if_refused(str(path))
    places = {name: at for at, name in enumerate(symbols)}
    symbol_index = np.array([places.get(name, -1) for name in symbol], dtype=np.int64)
    kept = np.flatnonzero(symbol_index >= 0)
    order = kept[np.lexsort((event_ns[kept], known_ns[kept]))]
    return Events(
        symbols,
        symbol_index[order],
        event_ns[order],
        known_ns[order],
        {name: column[order] for name, column in values.items()},
    )


def _known(rows: RowTable, source: str, event_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    name = rows.find(_DISCLOSURE_NAMES)
    if name is not None:
        return rows.times(name)
    if source not in DISCLOSURE_DELAY_DAYS:
        listed = ", ".join(DISCLOSURE_DELAY_DAYS)
        raise UnusableFileError(
            FindingCode.MISSING_COLUMN,
            f"There is no column disclosure_date, and nothing says how long after the event "
            f"{source} is disclosed (known sources: {listed}): add the column.",
        )
    return event_ns + DISCLOSURE_DELAY_DAYS[source] * _DAY_NS


def _values(rows: RowTable) -> dict[str, NDArray[np.float64]]:
    """Returns the columns of numbers; stamps, symbols and words are none."""
    taken = {*_EVENT_NAMES, *_DISCLOSURE_NAMES, *SYMBOL_NAMES, "effective_date"}
    return {
        name: rows.numbers(name)
        for name in rows.names
        if name not in taken and rows.is_numeric(name)
    }
