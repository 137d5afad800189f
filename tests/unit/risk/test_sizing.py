import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.risk.sizing import entry_cost, size
from backlane.risk.volatility import realized_volatility


def ask(
    cash, fraction, reference, price, rate=0.0, *, units=0.0, minimum=0.0, leverage=1.0, lot=1.0
) -> float:
    return size(cash, fraction, units, reference, price, rate, minimum, leverage, lot)


def test_a_quarter_of_the_cash_in_whole_units() -> None:
    # 100,000 x 0.25 / 1.001 / 1.25 = 24,975.02 / 1.25 = 19,980.01 -> 19,980
    assert ask(100_000, 0.25, 1.25, 1.25, 0.001) == 19_980


def test_less_than_one_unit_is_nothing() -> None:
    assert ask(3.0, 0.25, 1.1, 1.1) == 0


def test_slippage_that_the_cash_cannot_pay_shrinks_the_order() -> None:
    # reference 10: 100 / 10 = 10 units; at 12 after slippage that is 120 > 100, so 100 / 12 = 8
    assert ask(100.0, 1.0, 10.0, 12.0) == 8


def test_negative_cash_buys_nothing() -> None:
    assert ask(-5.0, 1.0, 1.0, 1.0) == 0


def test_lots_are_whole() -> None:
    assert ask(1000.0, 1.0, 3.0, 3.0, lot=100.0) == 300  # 333 -> 3 lots of 100
    assert ask(1.0, 1.0, 3.0, 3.0, lot=0.25) == 0.25  # 0.333 -> 1 lot of a quarter


@pytest.mark.parametrize(("units", "lot"), [(0.3, 0.1), (0.6, 0.2), (0.7, 0.1), (1.1, 0.1)])
def test_a_whole_number_of_lots_is_not_lost_to_rounding(units, lot) -> None:
    # 0.3 / 0.1 is 2.9999999999999996 in binary, and still three lots
    assert ask(1000.0, 1.0, 10.0, 10.0, units=units, lot=lot) == pytest.approx(units, rel=1e-12)


def test_leverage_buys_more_for_the_same_collateral() -> None:
    # 1,000 / (1 / 4 + 0) / 10 = 400 units, worth 4,000, with 1,000 set aside
    assert ask(1000.0, 1.0, 10.0, 10.0, leverage=4.0) == 400


def test_fixed_units_are_all_or_nothing() -> None:
    assert ask(1000.0, 1.0, 10.0, 10.0, units=50.0) == 50
    assert ask(1000.0, 1.0, 10.0, 10.0, units=101.0) == 0


def test_the_minimum_commission_is_paid_out_of_the_cash() -> None:
    # 100 units would cost 1,000 and 30 more; (1,000 - 30) / 10 = 97
    assert ask(1000.0, 1.0, 10.0, 10.0, minimum=30.0) == 97


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    cash=st.floats(0, 1e9),
    fraction=st.floats(0.01, 1),
    price=st.floats(1e-4, 1e5),
    slippage=st.floats(0, 0.5),
    rate=st.floats(0, 0.5),
    minimum=st.sampled_from([0.0, 5.0]),
    leverage=st.sampled_from([1.0, 3.0, 30.0]),
    lot=st.sampled_from([1.0, 0.1, 1000.0]),
)
def test_an_order_never_costs_more_than_the_cash(
    cash, fraction, price, slippage, rate, minimum, leverage, lot
) -> None:
    filled = price * (1 + slippage)
    quantity = ask(cash, fraction, price, filled, rate, minimum=minimum, leverage=leverage, lot=lot)
    assert quantity >= 0
    # lots that are no power of two are rounded: a few units in the last place
    assert math.isclose(quantity / lot, round(quantity / lot), rel_tol=1e-12)
    if quantity:
        assert entry_cost(quantity, filled, rate, minimum, leverage) <= cash


def test_realized_volatility_by_hand() -> None:
    # returns ln 2, -ln 2 over two quarters of a year: sqrt(2 (ln 2)^2 / 0.5) = 2 ln 2
    quarter = round(365.25 / 4 * 86_400e9)
    found = realized_volatility(np.array([1.0, 2.0, 1.0]), np.arange(3) * quarter, 2)
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx(2 * math.log(2), rel=1e-12)
