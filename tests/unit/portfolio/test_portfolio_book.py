"""Orders of every kind through a book, bar by bar, with figures that can be redone by hand."""

import numpy as np
import pytest

from backlane.execution.order_prices import OrderKind
from backlane.execution.target_orders import BookOrderOutcome, OrderStatus, order_status
from backlane.portfolio.book_rules import Bracket, VolumeRules
from backlane.portfolio.portfolio_book import PortfolioBook, order_request
from tests.unit.portfolio.books import (
    LIMIT,
    MARKET,
    NAN,
    STOP,
    STOP_LIMIT,
    ask,
    book_of,
    flat,
    outcome,
    prices,
    step,
)

# --- kinds of orders ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "terms", "quantity", "bar", "price"),
    [
        (MARKET, {}, 5.0, (101.0, 105.0, 98.0, 100.0), 101.0),
        (LIMIT, {"limit_price": 99.0}, 5.0, (101.0, 105.0, 98.0, 100.0), 99.0),
        (LIMIT, {"limit_price": 99.0}, 5.0, (97.0, 105.0, 96.0, 100.0), 97.0),
        (LIMIT, {"limit_price": 99.0}, 5.0, (101.0, 105.0, 99.5, 100.0), None),
        (LIMIT, {"limit_price": 103.0}, -5.0, (101.0, 105.0, 98.0, 100.0), 103.0),
        (LIMIT, {"limit_price": 103.0}, -5.0, (104.0, 105.0, 98.0, 100.0), 104.0),
        (STOP, {"stop_price": 103.0}, 5.0, (101.0, 105.0, 98.0, 100.0), 103.0),
        (STOP, {"stop_price": 103.0}, 5.0, (104.0, 105.0, 98.0, 100.0), 104.0),
        (STOP, {"stop_price": 103.0}, 5.0, (101.0, 102.0, 98.0, 100.0), None),
        (STOP, {"stop_price": 99.0}, -5.0, (101.0, 105.0, 98.0, 100.0), 99.0),
        (STOP, {"stop_price": 99.0}, -5.0, (95.0, 105.0, 94.0, 100.0), 95.0),
        # triggered at 103 on the way up, where a limit of 104 takes what is there
        (STOP_LIMIT, {"stop_price": 103.0, "limit_price": 104.0}, 5.0, (101, 105, 98, 100), 103.0),
        # opens beyond the stop and beyond the limit, and comes back to the limit
        (STOP_LIMIT, {"stop_price": 103.0, "limit_price": 104.0}, 5.0, (106, 107, 98, 100), 104.0),
        # a limit below the stop: what came after the trigger is not known within the bar
        (STOP_LIMIT, {"stop_price": 103.0, "limit_price": 102.0}, 5.0, (101, 105, 98, 100), None),
        (STOP_LIMIT, {"stop_price": 103.0, "limit_price": 104.0}, 5.0, (101, 102, 98, 100), None),
    ],
)
def test_where_an_order_fills(kind, terms, quantity, bar, price):
    book = book_of()
    step(book, flat(100.0))
    ask(book, quantity, kind, **terms)
    step(book, bar)
    assert prices(book) == ([] if price is None else [price])
    assert outcome(book) is (
        BookOrderOutcome.NOT_REACHED if price is None else BookOrderOutcome.FILLED
    )


def test_a_triggered_stop_limit_waits_as_a_limit():
    book = book_of(expires_bars=3)
    step(book, flat(100.0))
    ask(book, 5.0, STOP_LIMIT, stop_price=103.0, limit_price=102.0)
    step(book, (101.0, 105.0, 98.0, 104.0))
    assert (outcome(book), book.terms[0]["is_triggered"]) == (BookOrderOutcome.PENDING, 1)
    step(book, (104.0, 105.0, 101.0, 104.0))
    assert prices(book) == [102.0]


@pytest.mark.parametrize(("expires_bars", "last"), [(1, 1), (3, 3), (-1, 9)])
def test_orders_wait_for_as_many_bars_as_they_say(expires_bars, last):
    book = book_of()
    step(book, flat(100.0))
    ask(book, 5.0, LIMIT, limit_price=50.0, expires_bars=expires_bars)
    for _ in range(9):
        step(book, flat(100.0))
    expired = expires_bars > 0
    expected = BookOrderOutcome.NOT_REACHED if expired else BookOrderOutcome.PENDING
    assert outcome(book) is expected
    assert book.terms[0]["closed_bar"] == (last if expired else -1)
    assert len(book.pending) == (0 if expired else 1)


def test_an_order_can_be_cancelled_once():
    book = book_of()
    step(book, flat(100.0))
    index = ask(book, 5.0, LIMIT, limit_price=50.0, expires_bars=-1)
    assert book.cancel(index)
    assert not book.cancel(index)
    assert outcome(book) is BookOrderOutcome.CANCELLED
    step(book, flat(40.0))
    assert len(book.fills) == 0


def test_the_end_of_the_data_ends_what_is_open():
    book = book_of()
    step(book, flat(100.0))
    ask(book, 5.0, LIMIT, limit_price=50.0, expires_bars=-1)
    book.end_of_data()
    assert outcome(book) is BookOrderOutcome.END_OF_DATA


def test_a_closed_exchange_fills_nothing():
    book = book_of(expires_bars=2)
    step(book, flat(100.0))
    ask(book, 5.0, MARKET)
    step(book, flat(101.0), is_open=False)
    assert outcome(book) is BookOrderOutcome.PENDING
    step(book, flat(102.0), is_open=False)
    assert outcome(book) is BookOrderOutcome.SESSION_CLOSED
    assert book.cash == 1_000.0


@pytest.mark.parametrize(("expires_bars", "filled"), [(1, []), (2, [12.0])])
def test_at_this_close_a_closed_exchange_fills_later_or_not_at_all(expires_bars, filled):
    book = book_of(fills_this_close=True, expires_bars=expires_bars)
    step(book, flat(10.0), is_open=False)
    book.place_weights(0, np.array([0.5]))
    assert len(book.fills) == 0
    step(book, flat(12.0))
    assert prices(book) == filled
    ended = BookOrderOutcome.FILLED if filled else BookOrderOutcome.SESSION_CLOSED
    assert outcome(book) is ended


def test_at_this_close_the_volume_of_the_bar_counts():
    book = book_of(fills_this_close=True, expires_bars=2, volume=VolumeRules(0.1))
    step(book, flat(10.0, 100.0))
    book.place_weights(0, np.array([0.5]))
    assert book.quantity.tolist() == [10.0]
    step(book, flat(12.0, 200.0))
    assert prices(book) == [10.0, 12.0]
    assert book.quantity.tolist() == [30.0]


def test_a_later_decision_replaces_what_is_open():
    book = book_of(expires_bars=0, volume=VolumeRules(0.1))
    step(book, flat(10.0, 100.0))
    book.place_weights(0, np.array([0.5]))  # 50 units, of which 10 fill at a bar
    step(book, flat(10.0, 100.0))
    assert book.quantity.tolist() == [10.0]
    book.place_weights(1, np.array([NAN]))  # no decision: it stays
    assert len(book.pending) == 1
    book.place_weights(1, np.array([0.1]))  # 10 units are there
    assert len(book.pending) == 0
    assert outcome(book) is BookOrderOutcome.REPLACED


@pytest.mark.parametrize(
    ("kind", "terms", "message"),
    [
        (OrderKind.LIMIT, {}, "a LIMIT order has a limit of nan"),
        (OrderKind.STOP_LIMIT, {"limit_price": 1.0}, "a stop of nan"),
        (OrderKind.STOP_LOSS, {}, "STOP_LOSS is no order to place"),
    ],
)
def test_orders_without_their_prices_are_refused(kind, terms, message):
    with pytest.raises(ValueError, match=message):
        order_request(0, 1.0, kind, **terms)


def test_a_plain_book_takes_no_requests():
    book = PortfolioBook.new(1, 1_000.0)
    book.open_bar(0, np.array([1.0]))
    book.mark_bar(0, np.array([1.0]))
    with pytest.raises(ValueError, match="rules of this book are plain"):
        book.place_requests(0, [order_request(0, 1.0)])


def test_steps_have_an_order():
    book = PortfolioBook.new(1, 1_000.0)
    with pytest.raises(ValueError, match="marked before it is opened"):
        book.mark_bar(0, np.array([1.0]))
    book.open_bar(0, np.array([1.0]))
    with pytest.raises(ValueError, match="bar 1 is opened; the next is 0"):
        book.open_bar(1, np.array([1.0]))
    with pytest.raises(ValueError, match="its close is still to come"):
        book.state()
    with pytest.raises(ValueError, match="marked is -1"):
        book.place(0, np.array([1.0]))
    with pytest.raises(ValueError, match="shape"):
        book.mark_bar(0, np.array([1.0, 2.0]))


@pytest.mark.parametrize(
    ("outcome", "has_filled", "status"),
    [
        (BookOrderOutcome.PENDING, False, OrderStatus.PLACED),
        (BookOrderOutcome.PENDING, True, OrderStatus.PARTIAL),
        (BookOrderOutcome.FILLED, True, OrderStatus.FILLED),
        (BookOrderOutcome.NO_PRICE, False, OrderStatus.EXPIRED),
        (BookOrderOutcome.END_OF_DATA, False, OrderStatus.EXPIRED),
        (BookOrderOutcome.NOT_REACHED, False, OrderStatus.EXPIRED),
        (BookOrderOutcome.NO_VOLUME, True, OrderStatus.EXPIRED),
        (BookOrderOutcome.SESSION_CLOSED, False, OrderStatus.EXPIRED),
        (BookOrderOutcome.REPLACED, False, OrderStatus.CANCELLED),
        (BookOrderOutcome.POSITION_CLOSED, False, OrderStatus.CANCELLED),
        (BookOrderOutcome.DELISTED, False, OrderStatus.CANCELLED),
        (BookOrderOutcome.CUT_BY_MARGIN, True, OrderStatus.CANCELLED),
        (BookOrderOutcome.CANCELLED, False, OrderStatus.CANCELLED),
        (BookOrderOutcome.DENIED_MARGIN, False, OrderStatus.DENIED),
        (BookOrderOutcome.DENIED_LOT, False, OrderStatus.DENIED),
        (BookOrderOutcome.DENIED_DELISTED, False, OrderStatus.DENIED),
    ],
)
def test_every_outcome_has_a_status(outcome, has_filled, status):
    assert order_status(outcome, has_filled=has_filled) is status


# --- brackets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bracket", "bar", "kind", "price"),
    [
        # as docs/fill-assumptions.md has them: LONG from 100, stop 90, target 110
        (Bracket(0.1, 0.1), (100.0, 105.0, 95.0, 100.0), None, None),
        (Bracket(0.1, 0.1), (100.0, 105.0, 90.0, 100.0), OrderKind.STOP_LOSS, 90.0),
        (Bracket(0.1, 0.1), (100.0, 115.0, 85.0, 100.0), OrderKind.STOP_LOSS, 90.0),
        (Bracket(0.1, 0.1), (85.0, 88.0, 80.0, 86.0), OrderKind.STOP_LOSS, 85.0),
        (Bracket(0.1, 0.1), (100.0, 112.0, 95.0, 100.0), OrderKind.TAKE_PROFIT, 110.0),
        (Bracket(0.1, 0.1), (112.0, 115.0, 85.0, 100.0), OrderKind.TAKE_PROFIT, 112.0),
        # the entry bar went up to 120: 5 % below it
        (Bracket(0.0, 0.0, 0.05), (118.0, 119.0, 113.0, 115.0), OrderKind.TRAILING_STOP, 114.0),
        (Bracket(0.0, 0.0, 0.05), (118.0, 130.0, 115.0, 120.0), None, None),
    ],
)
def test_exits_that_rest_with_a_position(bracket, bar, kind, price):
    book = book_of(bracket=bracket)
    step(book, flat(100.0))
    ask(book, 5.0, MARKET)
    high = 120.0 if bracket.trailing_stop else 105.0
    step(book, (100.0, high, 96.0, 100.0))
    step(book, bar)
    if kind is None:
        assert book.quantity.tolist() == [5.0]
        return
    assert book.quantity.tolist() == [0.0]
    assert prices(book)[-1] == pytest.approx(price)
    assert OrderKind(int(book.terms[-1]["kind"])) is kind


def test_a_short_is_protected_from_above():
    book = book_of(bracket=Bracket(0.1, 0.2))
    step(book, flat(100.0))
    ask(book, -5.0, MARKET)
    step(book, (100.0, 105.0, 96.0, 100.0))
    step(book, (100.0, 112.0, 70.0, 100.0))  # both: the stop was first
    assert prices(book) == pytest.approx([100.0, 110.0])


def test_the_bar_of_an_entry_at_its_open_counts():
    book = book_of(bracket=Bracket(0.1))
    step(book, flat(100.0))
    ask(book, 5.0, MARKET)
    step(book, (100.0, 101.0, 89.0, 95.0))
    assert prices(book) == [100.0, 90.0]


def test_of_an_entry_within_a_bar_only_the_stop_counts():
    book = book_of(bracket=Bracket(0.1, 0.1))
    step(book, flat(100.0))
    ask(book, 5.0, LIMIT, limit_price=95.0)
    step(book, (100.0, 120.0, 94.0, 118.0))  # the high may have been before
    assert book.quantity.tolist() == [5.0]
    other = book_of(bracket=Bracket(0.1, 0.1))
    step(other, flat(100.0))
    ask(other, 5.0, LIMIT, limit_price=95.0)
    step(other, (100.0, 120.0, 85.0, 118.0))  # 95 on the way down to 85.50
    assert prices(other) == [95.0, 85.5]


def test_a_bracket_of_its_own_goes_before_that_of_the_rules():
    book = book_of(bracket=Bracket(0.5))
    step(book, flat(100.0))
    book.place_requests(0, [order_request(0, 5.0, bracket=Bracket(0.1))])
    step(book, flat(100.0))
    step(book, (100.0, 101.0, 89.0, 95.0))
    assert prices(book) == [100.0, 90.0]


def test_an_exit_cancels_what_is_open_in_the_instrument():
    book = book_of(bracket=Bracket(0.1))
    step(book, flat(100.0))
    ask(book, 5.0, MARKET)
    index = ask(book, -5.0, LIMIT, limit_price=130.0, expires_bars=-1)
    step(book, flat(100.0))
    step(book, (100.0, 140.0, 80.0, 95.0))  # the stop is first: the target must not sell short
    assert outcome(book, index) is BookOrderOutcome.POSITION_CLOSED
    assert book.quantity.tolist() == [0.0]


def test_what_is_pending_is_what_has_not_filled():
    book = book_of(expires_bars=3, volume=VolumeRules(0.1))
    step(book, flat(10.0, 100.0))
    ask(book, 25.0, MARKET)
    ask(book, -5.0, LIMIT, limit_price=50.0)
    assert book.pending_quantity.tolist() == [20.0]
    step(book, flat(10.0, 100.0))
    assert book.pending_quantity.tolist() == [10.0]
