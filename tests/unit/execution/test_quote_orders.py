"""Orders at a venue that quotes: what a reader can redo by hand."""

import pytest

from backlane.execution.quote_orders import (
    PriceQuote,
    QuoteOrderStatus,
    QuoteRejection,
    QuoteRules,
    QuoteVenue,
    advance,
    cancel,
    place_market,
    place_post_only,
)
from backlane.execution.target_orders import OrderSide
from backlane.execution.tier_costs import TierCosts

RULES = QuoteRules(TierCosts(maker_rate=0.001, taker_rate=0.002), time_to_live_s=60.0)
QUOTE = PriceQuote(99.0, 101.0)
SECOND_NS = 1_000_000_000


def _always(order):
    return True


def test_a_quote_lies_half_a_spread_around_its_close():
    quote = PriceQuote.around(100.0, 10.0)
    assert (quote.bid, quote.ask) == pytest.approx((99.95, 100.05))


def test_a_market_order_crosses_the_spread_and_pays_the_taker():
    venue, order = place_market(QuoteVenue(1000.0), "A", "X", OrderSide.BUY, 505.0, QUOTE, 0, RULES)
    assert order.fill_price == 101.0
    assert venue.cash == pytest.approx(1000.0 - 505.0 * 1.002)
    assert venue.units["X"] == pytest.approx(5.0)
    venue, order = place_market(venue, "B", "X", OrderSide.SELL, 495.0, QUOTE, 0, RULES)
    assert order.fill_price == 99.0
    assert venue.units["X"] == pytest.approx(0.0)


def test_a_buy_must_be_covered_with_its_commission():
    cash = QuoteVenue(1000.0)
    venue, order = place_market(cash, "A", "X", OrderSide.BUY, 999.0, QUOTE, 0, RULES)
    assert order.rejection is QuoteRejection.NO_CASH  # 999 + 1.998
    assert (venue.cash, venue.ended, venue.rejected_count) == (1000.0, (), 1)


def test_nothing_is_sold_that_is_not_held():
    empty = QuoteVenue(1000.0)
    for place in (place_market, place_post_only):
        _, order = place(empty, "A", "X", OrderSide.SELL, 10.0, QUOTE, 0, RULES)
        assert order.rejection is QuoteRejection.NOT_HELD


def test_a_post_only_order_that_would_trade_is_rejected():
    _, order = place_post_only(
        QuoteVenue(1000.0), "A", "X", OrderSide.BUY, 100.0, QUOTE, 0, RULES, cushion_bps=-300.0
    )
    assert order.limit_price == pytest.approx(99.0 * 1.03)
    assert order.rejection is QuoteRejection.WOULD_TRADE


def _waiting():
    return place_post_only(QuoteVenue(1000.0), "A", "X", OrderSide.BUY, 99.0, QUOTE, 0, RULES)[0]


def test_a_post_only_order_fills_at_its_limit_when_the_other_side_comes():
    venue = advance(_waiting(), {"X": PriceQuote(97.9, 99.1)}, 1, RULES, _always)
    assert len(venue.open_orders) == 1
    venue = advance(venue, {"X": PriceQuote(97.0, 98.0)}, 2, RULES, _always)
    (order,) = venue.ended
    assert (order.status, order.fill_price) == (QuoteOrderStatus.FILLED, 99.0)
    assert venue.cash == pytest.approx(1000.0 - 99.0 * 1.001)
    assert venue.units == {"X": pytest.approx(1.0)}


def test_an_order_without_luck_or_a_quote_waits_until_it_is_too_old():
    quotes = {"X": PriceQuote(97.0, 98.0)}
    venue = advance(_waiting(), quotes, 1, RULES, lambda order: False)
    venue = advance(venue, {}, 59 * SECOND_NS, RULES, _always)
    assert len(venue.open_orders) == 1
    venue = advance(venue, quotes, 60 * SECOND_NS, RULES, _always)
    assert [order.status for order in venue.ended] == [QuoteOrderStatus.EXPIRED]
    assert venue.cash == 1000.0


def test_an_open_order_can_be_cancelled_once():
    venue, order = cancel(_waiting(), "A")
    assert order.status is QuoteOrderStatus.CANCELLED
    assert cancel(venue, "A") == (venue, None)


def test_the_same_identifier_is_the_same_order():
    venue = _waiting()
    again, order = place_post_only(venue, "A", "X", OrderSide.BUY, 50.0, QUOTE, 9, RULES)
    assert again is venue
    assert order is venue.open_orders[0]


def test_what_the_account_can_no_longer_pay_ends_as_rejected():
    venue = _waiting()
    venue, _ = place_market(venue, "B", "X", OrderSide.BUY, 950.0, QUOTE, 0, RULES)
    venue = advance(venue, {"X": PriceQuote(97.0, 98.0)}, 1, RULES, _always)
    assert venue.ended[-1].rejection is QuoteRejection.NO_CASH
