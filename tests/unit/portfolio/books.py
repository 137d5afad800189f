"""A book of one instrument on the full path, driven bar by bar, for tests."""

import math
from collections.abc import Sequence

import numpy as np

from backlane.execution.order_prices import OrderKind
from backlane.execution.target_orders import BookOrderOutcome
from backlane.portfolio.book_rules import BookRules
from backlane.portfolio.portfolio_book import PortfolioBook, order_request

NAN = math.nan
YEAR_NS = 365 * 86_400 * 10**9
Bar = Sequence[float]
MARKET, LIMIT, STOP = OrderKind.MARKET, OrderKind.LIMIT, OrderKind.STOP
STOP_LIMIT = OrderKind.STOP_LIMIT


def book_of(cash: float = 1_000.0, *, symbols: int = 1, **rules: object) -> PortfolioBook:
    """A book on the full path."""
    told = BookRules(takes_requests=True, **rules)  # type: ignore[arg-type]
    return PortfolioBook.new(symbols, cash, told)


def step(book: PortfolioBook, bar: Bar, *, time_ns: int = 0, is_open: bool = True) -> float:
    """Takes a book of one instrument through a bar of open, high, low, close and volume."""
    opened, high, low, close, volume = (np.array([each]) for each in (*bar, NAN)[:5])
    at = book.next_bar
    book.open_bar(at, opened, high, low, volume, time_ns=time_ns, is_open=is_open)
    return book.mark_bar(at, close)


def flat(price: float, volume: float = NAN) -> Bar:
    return (price, price, price, price, volume)


def ask(book: PortfolioBook, quantity: float, kind: OrderKind, **terms: float) -> int:
    request = order_request(0, quantity, kind, **terms)  # type: ignore[arg-type]
    return book.place_requests(book.next_bar - 1, [request])[0]


def outcome(book: PortfolioBook, index: int = -1) -> BookOrderOutcome:
    return BookOrderOutcome(int(book.orders[index]["outcome"]))


def prices(book: PortfolioBook) -> list[float]:
    return [float(each) for each in book.fills["price"]]
