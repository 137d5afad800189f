"""The bars of a panel as a book takes them, with sessions and delistings."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.execution.nyse_calendar import has_session, is_in_session
from backlane.panel.panel import Panel
from backlane.portfolio.book_details import NO_BAR
from backlane.portfolio.book_full_loop import BookBars
from backlane.portfolio.book_rules import BookRules
from backlane.portfolio.portfolio_book import PortfolioBook

_DAY_NS = 86_400_000_000_000


class ExchangeSession(StrEnum):
    """When orders can fill."""

    ALWAYS = "always"
    NYSE = "nyse"  # within a session; bars of a day or more on the days of one


@dataclass(frozen=True, slots=True)
class Delisting:
    """An instrument is no longer traded from `time_ns` on; NaN is no final price."""

    symbol: str
    time_ns: int
    final_price: float


def book_bars(
    panel: Panel,
    rules: BookRules,
    session: ExchangeSession = ExchangeSession.ALWAYS,
    delistings: Sequence[Delisting] = (),
) -> BookBars:
    """Returns the bars of a panel for a book with these rules.

    A delisting counts from the first bar that is stamped at its time or later. Raises
    InvalidRequestError for one of an instrument that the panel does not have.
    """
    delisted_bar = np.full(len(panel.symbols), NO_BAR, np.int64)
    final_price = np.full(len(panel.symbols), np.nan)
    for place, each in enumerate(delistings):
        if each.symbol not in panel.symbols:
            field = f"execution.delistings.{place}.symbol"
            said = f"{each.symbol[:80]!r} is no instrument of the panel"
            violation = FieldViolation(field, said)
            raise InvalidRequestError(f"{field}: {said}.", violations=(violation,))
        column = panel.symbols.index(each.symbol)
        delisted_bar[column] = np.searchsorted(panel.time_ns, each.time_ns)
        final_price[column] = each.final_price
    opens, closes = _rows(panel.open), _rows(panel.close)
    high = low = volume = opens  # a plain book looks at none of them
    if not rules.is_plain:
        high, low = _rows(panel.high), _rows(panel.low)
        known = np.full(opens.shape, np.nan) if panel.volume is None else panel.volume
        volume = _rows(known)
    return BookBars(
        np.array(panel.time_ns, np.int64), open_bars(panel.time_ns, session),
        opens, high, low, closes, volume, delisted_bar, final_price,
    )  # fmt: skip


def open_bars(time_ns: NDArray[np.int64], session: ExchangeSession) -> NDArray[np.bool_]:
    """Says at which bars (times,) the exchange is open.

    Bars that are a day apart or more stand for their day, whatever its hour: the reference rejects
    daily bars stamped at midnight, and with them every order (SPEC B5, fill pipeline).
    """
    if session is ExchangeSession.ALWAYS:
        return np.ones(len(time_ns), bool)
    is_daily = len(time_ns) < 2 or float(np.median(np.diff(time_ns))) >= _DAY_NS
    return has_session(time_ns) if is_daily else is_in_session(time_ns)


def open_and_mark(book: PortfolioBook, bars: BookBars, bar: int) -> float:
    """Takes a book through a bar up to its close, and returns the equity there."""
    for symbol in np.flatnonzero(bars.delisted_bar == bar).tolist():
        book.delist(symbol, float(bars.final_price[symbol]))
    book.open_bar(
        bar, bars.open[bar], bars.high[bar], bars.low[bar], bars.volume[bar],
        time_ns=int(bars.time_ns[bar]), is_open=bool(bars.is_open[bar]),
    )  # fmt: skip
    return book.mark_bar(bar, bars.close[bar])


def _rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns values as kernels take them: the same array where it can be, as none writes to it."""
    return np.require(values, np.float64, ["C", "W"])
