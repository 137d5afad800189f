"""Volume, lots, costs, margin and delistings of a book, with figures that can be redone by hand."""

import math

import numpy as np
import pytest

from backlane.execution.cost_model import CommissionModel, CostModel, ImpactModel, SpreadModel
from backlane.execution.order_prices import OrderKind
from backlane.execution.target_orders import BookOrderOutcome, OrderStatus, order_status
from backlane.portfolio.book_rules import BookRules, VolumeRules
from backlane.portfolio.portfolio_book import PortfolioBook
from backlane.portfolio.round_trips import round_trips
from tests.unit.portfolio.books import (
    LIMIT,
    MARKET,
    NAN,
    STOP,
    YEAR_NS,
    ask,
    book_of,
    flat,
    outcome,
    step,
)

# --- volume and lots ----------------------------------------------------------------------------


def test_what_the_volume_leaves_stays_open_until_it_expires():
    book = book_of(expires_bars=2, volume=VolumeRules(0.1))
    step(book, flat(10.0, 100.0))
    ask(book, 25.0, MARKET)
    step(book, flat(10.0, 100.0))
    assert book.quantity.tolist() == [10.0]
    status = order_status(outcome(book), has_filled=True)
    assert status is OrderStatus.PARTIAL
    step(book, flat(11.0, 50.0))
    assert book.fills["quantity"].tolist() == [10.0, 5.0]
    assert outcome(book) is BookOrderOutcome.NO_VOLUME
    assert book.terms[0]["filled_quantity"] == 15.0


def test_orders_of_a_bar_share_its_volume():
    book = book_of(volume=VolumeRules(0.1))
    step(book, flat(10.0, 100.0))
    ask(book, 8.0, MARKET)
    ask(book, 8.0, MARKET)
    step(book, flat(10.0, 100.0))
    assert book.fills["quantity"].tolist() == [8.0, 2.0]


def test_the_average_volume_is_money_of_the_bars_before():
    book = book_of(volume=VolumeRules(0.1, of_average=True), liquidity_window=2)
    step(book, flat(10.0, 100.0))
    step(book, flat(20.0, 100.0))
    ask(book, 40.0, MARKET)
    step(book, flat(25.0, 9_999.0))
    # mean of 1,000 and 2,000; a tenth of 1,500 at 25 are 6 units
    assert book.fills["quantity"].tolist() == [6.0]


@pytest.mark.parametrize(("fraction", "filled"), [(1.0, [40.0]), (0.5, [20.0]), (0.0, [])])
def test_a_volume_that_is_not_known(fraction, filled):
    book = book_of(volume=VolumeRules(0.1, unknown_fraction=fraction))
    step(book, flat(10.0))
    ask(book, 40.0, MARKET)
    step(book, flat(10.0))
    assert book.fills["quantity"].tolist() == filled


def test_less_than_the_least_fill_is_none():
    book = book_of(volume=VolumeRules(0.1, min_quantity=20.0))
    step(book, flat(10.0, 100.0))
    ask(book, 40.0, MARKET)
    step(book, flat(10.0, 100.0))  # a tenth are 10
    assert len(book.fills) == 0
    assert outcome(book) is BookOrderOutcome.NO_VOLUME


def test_orders_come_in_lots_and_exits_whole():
    book = book_of(lot_size=3.0)
    step(book, flat(10.0))
    book.place_weights(0, np.array([0.5]))  # 50 units
    step(book, flat(10.0))
    assert book.quantity.tolist() == [48.0]
    ask(book, 2.0, MARKET)
    assert outcome(book) is BookOrderOutcome.DENIED_LOT
    book.place(1, np.array([-48.0]))
    step(book, flat(10.0))
    assert book.quantity.tolist() == [0.0]


# --- money --------------------------------------------------------------------------------------


def test_an_order_is_cut_to_what_the_cash_pays_for_with_its_costs():
    book = book_of(costs=CostModel.linear(100.0), leverage=1.0)
    step(book, flat(10.0))
    ask(book, 200.0, MARKET)
    step(book, flat(10.0))
    # 1,000 / (10 * 1.01) units; all of the cash is gone
    assert book.quantity.tolist() == pytest.approx([1_000.0 / 10.1])
    assert book.cash == pytest.approx(0.0, abs=1e-5)
    assert outcome(book) is BookOrderOutcome.CUT_BY_MARGIN


def test_a_cut_order_comes_in_lots():
    book = book_of(costs=CostModel.linear(100.0), leverage=1.0, lot_size=10.0)
    step(book, flat(10.0))
    ask(book, 200.0, MARKET)
    step(book, flat(10.0))
    assert book.quantity.tolist() == [90.0]


def test_without_money_an_order_is_denied_and_an_exit_is_not():
    book = book_of(leverage=1.0)
    step(book, flat(10.0))
    ask(book, 100.0, MARKET)
    step(book, flat(10.0))
    ask(book, 1.0, MARKET)
    step(book, flat(10.0))
    assert outcome(book) is BookOrderOutcome.DENIED_MARGIN
    ask(book, -100.0, MARKET)
    step(book, flat(0.01))
    assert book.quantity.tolist() == [0.0]


def test_leverage_bounds_both_sides_together():
    book = book_of(symbols=2, leverage=2.0)
    one = np.full(2, 10.0)
    book.open_bar(0, one, one, one)
    book.mark_bar(0, one)
    book.place(0, np.array([150.0, -150.0]))
    book.open_bar(1, one, one, one)
    # 1,000 of equity twice: 1,500 long leave 500 short
    assert book.quantity == pytest.approx([150.0, -50.0])


def test_exits_fill_before_entries_when_money_is_counted():
    book = book_of(symbols=2, leverage=1.0)
    one = np.full(2, 10.0)
    for bar, weights in enumerate(([0.0, 1.0], [1.0, 0.0], [NAN, NAN])):
        book.open_bar(bar, one, one, one)
        book.mark_bar(bar, one)
        book.place_weights(bar, np.array(weights))
    assert book.quantity.tolist() == [100.0, 0.0]


def test_costs_by_component():
    model = CostModel(
        CommissionModel(1.0, 2.0, 0.01, 3.0),
        SpreadModel(((500.0, 10.0), (5_000.0, 4.0)), 50.0),
        ImpactModel(0.5, 0.0, 1_000.0, 1.0, 7.0),
    )
    book = book_of(costs=model, liquidity_window=2)
    step(book, flat(10.0, 100.0))
    step(book, flat(10.0 * math.exp(0.1), 100.0))
    step(book, flat(10.0, 100.0))
    ask(book, 5.0, MARKET)
    step(book, flat(10.0, 100.0))
    part, average = book.fill_parts[0], (1_000.0 * math.exp(0.1) + 1_000.0) / 2.0
    # returns 0.1 and -0.1 deviate by sqrt(0.02)
    assert part["commission"] == pytest.approx(50.0 * 1e-4 + 2.0 + 5.0 * 0.01 + 0.945)
    assert part["half_spread"] == pytest.approx(50.0 * 10e-4 / 2.0)
    assert part["impact"] == pytest.approx(50.0 * 0.5 * math.sqrt(0.02 * 50.0 / average))
    paid = part["commission"] + part["half_spread"] + part["impact"]
    assert book.cash == pytest.approx(950.0 - paid)


def test_who_waits_at_a_limit_pays_commission_alone():
    book = book_of(costs=CostModel.linear(10.0, 20.0, 30.0))
    step(book, flat(100.0))
    ask(book, 1.0, LIMIT, limit_price=99.0)
    ask(book, 1.0, STOP, stop_price=101.0)
    step(book, (100.0, 102.0, 98.0, 100.0))
    assert book.fills["cost"] == pytest.approx([99.0 * 10e-4, 101.0 * 60e-4])


def test_a_short_pays_for_what_it_borrows():
    book = book_of(borrow_rate=0.1)
    step(book, flat(10.0), time_ns=0)
    ask(book, -50.0, MARKET)
    step(book, flat(10.0), time_ns=YEAR_NS)  # sold here: nothing yet
    assert book.cash == 1_500.0
    step(book, flat(12.0), time_ns=2 * YEAR_NS)  # 50 at the close before, 10
    assert book.cash == pytest.approx(1_450.0)
    ask(book, 50.0, MARKET)
    step(book, flat(12.0), time_ns=3 * YEAR_NS)  # 50 at 12
    assert book.cash == pytest.approx(1_450.0 - 60.0 - 600.0)
    assert book.fill_parts["borrow"].tolist() == pytest.approx([0.0, 110.0])
    trades = round_trips(
        book.fills, book.last_close, 3, borrow=book.fill_parts["borrow"],
        unpaid_borrow=book.unpaid_borrow,
    )  # fmt: skip
    assert trades["net_pnl"].tolist() == pytest.approx([-100.0 - 110.0])


def test_borrowed_cash_pays_interest():
    book = book_of(financing_rate=0.05)
    step(book, flat(10.0), time_ns=0)
    ask(book, 300.0, MARKET)
    step(book, flat(10.0), time_ns=YEAR_NS)
    assert book.cash == -2_000.0
    step(book, flat(10.0), time_ns=2 * YEAR_NS)
    assert book.cash == pytest.approx(-2_100.0)
    assert book.interest == pytest.approx(100.0)


# --- delistings ---------------------------------------------------------------------------------


def test_a_delisting_pays_out_its_final_price():
    book = book_of(costs=CostModel.linear(100.0))
    step(book, flat(10.0))
    ask(book, 50.0, MARKET)
    step(book, flat(10.0))
    index = ask(book, 50.0, LIMIT, limit_price=5.0, expires_bars=-1)
    book.delist(0, 4.0)
    assert outcome(book, index) is BookOrderOutcome.DELISTED
    assert book.cash == pytest.approx(495.0 + 200.0)  # at no cost
    assert OrderKind(int(book.terms[-1]["kind"])) is OrderKind.DELISTING
    step(book, flat(NAN))
    ask(book, 1.0, MARKET)
    assert outcome(book) is BookOrderOutcome.DENIED_DELISTED


def test_without_a_final_price_the_last_close_stays_and_is_flagged():
    book = book_of()
    step(book, flat(10.0))
    ask(book, 50.0, MARKET)
    step(book, flat(10.0))
    book.delist(0)
    assert step(book, flat(NAN)) == 1_000.0
    assert book.quantity.tolist() == [50.0]
    assert book.is_delisted.tolist() == [True]


def test_an_instrument_that_is_listed_late_has_no_price_before():
    book = book_of()
    step(book, flat(NAN))
    book.place_weights(0, np.array([0.5]))  # nothing to size it at
    assert len(book.orders) == 0
    step(book, flat(10.0))
    book.place_weights(1, np.array([0.5]))
    step(book, flat(10.0))
    assert book.quantity.tolist() == [50.0]


def test_a_state_of_other_rules_is_refused():
    state = PortfolioBook.new(1, 1_000.0).state()
    with pytest.raises(ValueError, match="a state of other rules"):
        PortfolioBook.restore(state, BookRules(lot_size=1.0))


def test_turning_around_without_money_closes_at_least():
    book = book_of(leverage=1.0, lot_size=3.0)
    step(book, flat(10.0))
    book.place(0, np.array([90.0]))
    step(book, flat(10.0))
    ask(book, -300.0, MARKET)
    step(book, flat(10.0))
    # 1,000 of equity: 90 are sold, and 99 short
    assert book.quantity.tolist() == [-99.0]
    assert outcome(book) is BookOrderOutcome.CUT_BY_MARGIN
