"""Pre-trade checks by hand, and their law: exits are never touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.errors import InvalidRequestError
from backlane.execution.target_orders import OrderSide
from backlane.risk.pretrade import (
    InstrumentGroups,
    PretradeBook,
    PretradeCode,
    PretradeLimits,
    PretradeOrder,
    check_orders,
)

BUY, SELL = OrderSide.BUY, OrderSide.SELL
PRICES = {"A": 100.0, "B": 50.0}


def _book(positions=None, current=10_000.0):
    groups = {
        "A": InstrumentGroups("tech", "US", "USD"),
        "B": InstrumentGroups("tech", "EU", "EUR"),
    }
    return PretradeBook(positions or {}, PRICES, 10_000.0, current, 10_000.0, groups)


def _orders(a=20.0, b=40.0):
    return [PretradeOrder("A", BUY, a, 100.0), PretradeOrder("B", BUY, b, 50.0)]


@pytest.mark.parametrize(
    ("limits", "code", "quantities"),
    [
        # A and B are 2,000 each of an equity of 10,000.
        ({"notional_per_symbol_max": 1999.0}, PretradeCode.MAX_NOTIONAL, []),
        ({"weight_per_symbol_max": 0.1}, PretradeCode.MAX_WEIGHT, [10.0, 20.0]),
        ({"sector_exposure_max": 0.3}, PretradeCode.MAX_SECTOR, [15.0, 30.0]),  # 3,000 / 4,000
        ({"region_exposure_max": 0.1}, PretradeCode.MAX_REGION, [10.0, 20.0]),  # each its own
        ({"currency_exposure_max": 0.1}, PretradeCode.MAX_CURRENCY, [20.0, 20.0]),  # dollars free
        ({"turnover_max": 0.1}, PretradeCode.TURNOVER, [5.0, 10.0]),  # 1,000 / 4,000
        ({"gross_notional_max": 3999.0}, PretradeCode.MAX_GROSS, []),
    ],
)
def test_each_limit_by_hand(limits, code, quantities):
    result = check_orders(_orders(), _book(), PretradeLimits(**limits))
    assert [order.quantity for order in result.orders] == pytest.approx(quantities)
    assert {cut.code for cut in result.cuts} == {code}


def test_a_drawdown_scales_what_increases_from_its_threshold_on():
    limits = PretradeLimits(drawdown_threshold=0.1, de_risk_scale=0.25)
    assert check_orders(_orders(), _book(current=9_001.0), limits).cuts == ()
    cut = check_orders(_orders(), _book(current=9_000.0), limits)
    assert [order.quantity for order in cut.orders] == [5.0, 10.0]


def test_a_short_keeps_its_side_when_it_is_cut():
    orders = [PretradeOrder("A", SELL, 20.0, 100.0)]
    result = check_orders(orders, _book(), PretradeLimits(weight_per_symbol_max=0.1))
    assert result.orders == (PretradeOrder("A", SELL, 10.0, 100.0),)


def test_what_reduces_leaves_less_turnover_for_the_others():
    orders = [PretradeOrder("A", SELL, 5.0, 100.0), PretradeOrder("B", BUY, 40.0, 50.0)]
    result = check_orders(orders, _book({"A": 30.0}), PretradeLimits(turnover_max=0.1))
    # 1,000 may be traded: 500 close, so 500 of the 2,000 are bought.
    assert [order.quantity for order in result.orders] == [5.0, 10.0]


def test_a_quality_block_drops_everything():
    result = check_orders(_orders(), _book(), PretradeLimits(), is_blocked=True)
    assert result.orders == ()
    assert {cut.code for cut in result.cuts} == {PretradeCode.QUALITY_BLOCK}


def test_every_mistake_in_the_limits_is_listed():
    with pytest.raises(InvalidRequestError) as caught:
        PretradeLimits(turnover_max=-1.0, de_risk_scale=2.0, gross_notional_max=float("nan"))
    assert {mistake.field for mistake in caught.value.violations} == {
        "turnover_max",
        "de_risk_scale",
        "gross_notional_max",
    }


QUANTITIES = st.floats(0.1, 500.0)
SIDES = st.sampled_from(OrderSide)
SHARES = st.none() | st.floats(0.0, 1.0)


@given(
    st.tuples(SIDES, QUANTITIES),
    st.tuples(SIDES, QUANTITIES),
    st.floats(-300.0, 300.0),
    st.builds(
        PretradeLimits,
        notional_per_symbol_max=SHARES.map(lambda share: share and share * 1e4),
        weight_per_symbol_max=SHARES,
        sector_exposure_max=SHARES,
        turnover_max=SHARES,
        drawdown_threshold=SHARES,
        gross_notional_max=SHARES.map(lambda share: share and share * 1e4),
    ),
)
def test_orders_only_shrink_and_exits_stay_whole(a, b, held, limits):
    orders = [PretradeOrder("A", *a, 100.0), PretradeOrder("B", *b, 50.0)]
    book = _book({"A": held, "B": -held}, current=5_000.0)
    result = check_orders(orders, book, limits)
    kept = {order.symbol: order for order in result.orders}
    for order in orders:
        if book.is_reducing(order):
            assert kept[order.symbol] == order
        elif order.symbol in kept:
            assert kept[order.symbol].side is order.side
            assert 0.0 < kept[order.symbol].quantity <= order.quantity
    if limits.weight_per_symbol_max is not None:
        for order in result.orders:
            if not book.is_reducing(order):
                after = abs(book.positions[order.symbol] + order.signed_quantity) * order.price
                assert after <= limits.weight_per_symbol_max * 10_000.0 * (1 + 1e-9) + 1e-6
