"""The life of orders on the reference's exchange (SPEC A8), minute by minute.

Deviations, SPEC C1 "fees": a buy must be covered with its commission, a sale by what is held; the
recorded script meets neither limit. An order that grew too old is `expired` here, `canceled` there.
"""

import pytest

from backlane.execution.quote_orders import (
    PriceQuote,
    QuoteOrderStatus,
    QuoteRules,
    QuoteVenue,
    advance,
    cancel,
    place_market,
    place_post_only,
)
from backlane.execution.target_orders import OrderSide
from backlane.execution.tier_costs import Liquidity, TierCosts
from backlane.signals.universe import Tier
from tests.golden.cycle.t247 import RELATIVE, cases, needs_vectors, read

pytestmark = needs_vectors
MINUTE_NS = 60_000_000_000
NAMES = {"expired": "canceled", "cancelled": "canceled"}


def _tier(run):
    """The exchange guesses the tier by the name; its first quote tells which it took."""
    first, close = run["log"][0], read("mock_exchange.json")["minute_closes"][0]
    spread_bps = (first["ask"] - first["bid"]) / close * 1e4
    tiers = {round(each): tier for tier, each in TierCosts().spread_bps.items()}
    return tiers[round(spread_bps)]


@pytest.mark.parametrize("run", cases("mock_exchange.json", "runs"), ids=lambda run: run["symbol"])
def test_every_order_ends_as_recorded(run):
    closes, symbol = read("mock_exchange.json")["minute_closes"], run["symbol"]
    rules = QuoteRules(time_to_live_s=read("mock_exchange.json")["ttl_seconds"])
    spread_bps = rules.costs.spread_bps[_tier(run)]
    venue, minute = QuoteVenue(10_000.0), 0
    for entry in run["log"]:
        what, *arguments = entry["op"]
        if what == "t":
            minute = arguments[0]
            venue = advance(venue, {}, minute * MINUTE_NS, rules, _fills)  # ends what is too old
        quote = PriceQuote.around(closes[minute], spread_bps)
        assert quote.bid == pytest.approx(entry["bid"], rel=RELATIVE)
        assert quote.ask == pytest.approx(entry["ask"], rel=RELATIVE)
        now_ns, order = minute * MINUTE_NS, None
        if what == "f":
            venue = advance(venue, {symbol: quote}, now_ns, rules, _fills)
        elif what == "c":
            venue, order = cancel(venue, arguments[0])
            assert (order is not None) == entry["result"]["success"]
        elif what == "o":
            name, side, notional, style, cushion_bps = arguments
            given = (venue, name, symbol, OrderSide(side), notional, quote, now_ns, rules)
            if style == "market":
                venue, order = place_market(*given)
            else:
                venue, order = place_post_only(*given, cushion_bps=cushion_bps)
            _same_order(order, entry["result"])
        assert sorted(each.id for each in venue.open_orders) == entry["open"]
        balances = {"USD": venue.cash, symbol.partition("-")[0]: venue.units.get(symbol, 0.0)}
        recorded = {key: entry["balances"].get(key, 0.0) for key in balances}
        assert balances == pytest.approx(recorded, rel=RELATIVE)
    _same_end(venue, run)


def _fills(order):
    return True  # the recorded probability of a fill is 1


def _same_order(order, recorded):
    assert NAMES.get(order.status, order.status) == recorded["status"]
    if recorded["limit_price"] is not None:
        assert order.limit_price == pytest.approx(recorded["limit_price"], rel=RELATIVE)
    if recorded["filled_price"] is not None:
        assert order.fill_price == pytest.approx(recorded["filled_price"], rel=RELATIVE)
    assert order.commission == pytest.approx(recorded["fee"], rel=RELATIVE)
    assert (order.liquidity is Liquidity.MAKER) == recorded["is_maker"]


def _same_end(venue, run):
    ended = {each.id: each for each in venue.ended}
    assert {each["id"] for each in run["history"]} == set(ended)
    for recorded in run["history"]:
        order = ended[recorded["id"]]
        assert NAMES.get(order.status, order.status) == recorded["status"]
        assert (order.fill_price is None) == (recorded["price"] is None)
        if recorded["price"] is not None:
            assert order.fill_price == pytest.approx(recorded["price"], rel=RELATIVE)
        assert order.commission == pytest.approx(recorded["fee"], rel=RELATIVE)
    stats = run["stats"]
    filled = [each for each in venue.ended if each.status is QuoteOrderStatus.FILLED]
    makers = [each for each in filled if each.liquidity is Liquidity.MAKER]
    assert (len(venue.ended), len(filled)) == (stats["total_orders"], stats["filled_orders"])
    assert venue.rejected_count == stats["rejections"]
    assert len(makers) / len(filled) == pytest.approx(stats["maker_ratio"])


def test_the_tiers_of_the_script_are_all_three():
    assert {_tier(run) for run in cases("mock_exchange.json", "runs")} <= set(Tier)
