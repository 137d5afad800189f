"""The recorded pre-trade checks (SPEC B5), exact but where SPEC C2 "pre-trade" corrects them.

Corrected: the sign stays in the side (the reference answers with negative SELL quantities), an
order that reduces a position is neither cut nor dropped, quantities are not truncated to integers.
"""

import json

import pytest

from backlane.execution.target_orders import OrderSide
from backlane.risk.pretrade import (
    InstrumentGroups,
    PretradeBook,
    PretradeCode,
    PretradeLimits,
    PretradeOrder,
    check_orders,
)
from tests.golden.cycle.t247 import CYCLE, RELATIVE, needs_vectors

pytestmark = needs_vectors
PATH = CYCLE / "assembled" / "pretrade_checks.json"
CASES = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else []
NAMES = {
    "max_notional_per_symbol": "notional_per_symbol_max",
    "max_weight_per_symbol": "weight_per_symbol_max",
    "max_sector_exposure": "sector_exposure_max",
    "max_region_exposure": "region_exposure_max",
    "max_fx_exposure": "currency_exposure_max",
    "turnover_cap": "turnover_max",
    "drawdown_threshold": "drawdown_threshold",
    "de_risk_scale": "de_risk_scale",
    "max_gross_exposure": "gross_notional_max",
}


def _inputs(case):
    orders = [
        PretradeOrder(row["symbol"], OrderSide(row["side"]), row["qty"], row["price"])
        for row in case["orders"]
    ]
    groups = {
        row["symbol"]: InstrumentGroups(row["sector"], row["region"], row["currency"])
        for row in case["security_meta"]
    }
    money = (case["equity"], case["current_equity"], case["peak_equity"])
    book = PretradeBook(case["positions"], case["prices"], *money, groups)
    return orders, book, PretradeLimits(**{NAMES[k]: v for k, v in case["config"].items()})


@pytest.mark.parametrize("case", CASES)
def test_orders_are_cut_and_dropped_as_recorded(case):
    orders, book, limits = _inputs(case)
    result = check_orders(orders, book, limits)
    ours = {order.symbol: order for order in result.orders}
    recorded = {row["symbol"]: row for row in case["upstream"]["orders_out"]}
    cut = {row["symbol"] for row in case["upstream"]["reduced"]}
    has_reducing = any(book.is_reducing(order) for order in orders)
    for order in orders:
        symbol = order.symbol
        if book.is_reducing(order):  # C2: never touched
            assert ours[symbol] == order
        elif symbol not in recorded:
            assert symbol not in ours
        elif symbol not in cut:
            assert ours[symbol] == order
        elif has_reducing and limits.turnover_max is not None:
            # C2: reducing orders are not cut, so that the others share what those leave.
            assert ours[symbol].quantity <= abs(recorded[symbol]["qty"]) + 1
        else:
            # C2: the recorded quantity is truncated to an integer, and negative for a SELL.
            below = ours[symbol].quantity - abs(recorded[symbol]["qty"])
            assert -RELATIVE <= below < 1
    assert {order.side for order in ours.values()} <= set(OrderSide)
    assert all(order.quantity > 0 for order in ours.values())


@pytest.mark.parametrize("case", CASES)
def test_the_codes_are_those_recorded_for_orders_that_may_be_cut(case):
    orders, book, limits = _inputs(case)
    cuts = check_orders(orders, book, limits).cuts
    reducing = {order.symbol for order in orders if book.is_reducing(order)}
    recorded = [
        (row["reason"], row["symbol"])
        for row in case["upstream"]["reduced"]
        if row["symbol"] not in reducing
    ]
    dropping = {PretradeCode.MAX_NOTIONAL, PretradeCode.MAX_GROSS}
    assert [(str(c.code), c.symbol) for c in cuts if c.code not in dropping] == recorded
    dropped = {str(cut.code) for cut in cuts if cut.code in dropping}
    blocked = set(case["upstream"]["blocked_codes"])
    assert dropped <= blocked
    if len(orders) > len(reducing) and PretradeCode.MAX_GROSS in blocked:
        assert PretradeCode.MAX_GROSS in dropped
