"""What a book with every detail of execution remembers besides `BookArrays`."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backlane.portfolio.book_rules import BookRules

NO_BAR = -1
"""Stands for the bar of what has not happened."""

ORDER_TERMS_DTYPE = np.dtype(
    (
        np.record,
        [
            ("kind", "<i8"),  # OrderKind
            ("limit_price", "<f8"),  # NaN for none
            ("stop_price", "<f8"),
            ("expires_bar", "<i8"),  # the last bar at which it may fill
            ("is_triggered", "<i8"),  # of a stop-limit order
            ("filled_quantity", "<f8"),  # signed units
            ("reason", "<i8"),  # BookOrderOutcome, should it expire now
            ("closed_bar", "<i8"),  # the bar at which it ended, NO_BAR while it is open
            ("stop_loss", "<f8"),  # the bracket of the position that it enters
            ("take_profit", "<f8"),
            ("trailing_stop", "<f8"),
        ],
    )
)
"""What an order asks for and how far it is; one for each of `orders`."""

ORDER_REQUEST_DTYPE = np.dtype(
    (
        np.record,
        [
            ("symbol", "<i8"),
            ("quantity", "<f8"),  # signed units
            ("kind", "<i8"),  # OrderKind up to STOP_LIMIT
            ("limit_price", "<f8"),
            ("stop_price", "<f8"),
            ("expires_bars", "<i8"),  # 0: those of the rules; below 0: it does not expire
            ("stop_loss", "<f8"),
            ("take_profit", "<f8"),
            ("trailing_stop", "<f8"),
        ],
    )
)
"""An order as it is asked for."""

FILL_PARTS_DTYPE = np.dtype(
    (
        np.record,
        [
            ("commission", "<f8"),
            ("half_spread", "<f8"),
            ("impact", "<f8"),
            ("borrow", "<f8"),  # paid since the fill before, for what was sold short
            ("kind", "<i8"),  # OrderKind of its order
        ],
    )
)
"""The components of a fill's cost, money; one for each of `fills`."""

GUARD_DTYPE = np.dtype(
    (
        np.record,
        [
            ("entry_price", "<f8"),  # mean of what is held, by quantity; 0 when flat
            ("best_price", "<f8"),  # highest since the entry, for a short the lowest
            ("stop_loss", "<f8"),
            ("take_profit", "<f8"),
            ("trailing_stop", "<f8"),
            ("entered_bar", "<i8"),  # the bar within which, after its open, it was entered
            ("traded_bar", "<i8"),  # the bar of `traded_units`
            ("traded_units", "<f8"),
            ("borrow", "<f8"),  # paid since the last fill
            ("bar_count", "<i8"),  # bars so far
            ("is_delisted", "<i8"),
        ],
    )
)
"""What is known about each instrument's position and liquidity."""

DETAIL_TOTALS_DTYPE = np.dtype(
    (
        np.record,
        [
            ("margin_equity", "<f8"),  # at the prices of the moment, while orders fill
            ("margin_gross", "<f8"),
            ("interest", "<f8"),  # paid so far on borrowed cash
            ("borrow", "<f8"),  # paid so far for what was sold short
            ("last_time_ns", "<i8"),
            ("has_time", "<i8"),
        ],
    )
)


class BookDetails(NamedTuple):
    """The arrays of the full path; `rules` and `costs` are told, the others change.

    `terms` and `parts` (room,) belong to the orders and fills; `guards` (symbols,);
    `turnovers` and `returns` (window, symbols) hold close * volume, money, and log returns of the
    last bars of each instrument, in a ring; `totals` (1,).
    """

    rules: NDArray[np.void]
    costs: NDArray[np.void]
    terms: NDArray[np.void]
    parts: NDArray[np.void]
    guards: NDArray[np.void]
    turnovers: NDArray[np.float64]
    returns: NDArray[np.float64]
    totals: NDArray[np.void]


def new_details(symbol_count: int, rules: BookRules, room: int) -> BookDetails:
    """Returns the details of a book that holds nothing but cash."""
    guards = np.zeros(symbol_count, GUARD_DTYPE)
    guards["entered_bar"] = guards["traded_bar"] = NO_BAR
    window = (rules.liquidity_window, symbol_count)
    return BookDetails(
        rules.record(),
        rules.costs.record(),
        np.zeros(room, ORDER_TERMS_DTYPE),
        np.zeros(room, FILL_PARTS_DTYPE),
        guards,
        np.full(window, np.nan),
        np.full(window, np.nan),
        np.zeros(1, DETAIL_TOTALS_DTYPE),
    )


def with_room_of(details: BookDetails, room: int) -> BookDetails:
    """Returns the same details with room for `room` orders and fills."""
    return details._replace(terms=_grown(details.terms, room), parts=_grown(details.parts, room))


def _grown(records: NDArray[Any], room: int) -> NDArray[Any]:
    grown = np.zeros(room, records.dtype)
    grown[: len(records)] = records
    return grown
