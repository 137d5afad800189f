from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.risk.sizing import size


def test_a_quarter_of_the_cash_in_whole_units() -> None:
    # 100,000 x 0.25 / 1.001 / 1.25 = 24,975.02 / 1.25 = 19,980.01 -> 19,980
    assert size(100_000, 0.25, 1.25, 1.25, 0.001) == 19_980


def test_less_than_one_unit_is_nothing() -> None:
    assert size(3.0, 0.25, 1.1, 1.1, 0.0) == 0


def test_slippage_that_the_cash_cannot_pay_shrinks_the_order() -> None:
    # reference 10: 100 / 10 = 10 units; at 12 after slippage that is 120 > 100, so 100 / 12 = 8
    assert size(100.0, 1.0, 10.0, 12.0, 0.0) == 8


def test_negative_cash_buys_nothing() -> None:
    assert size(-5.0, 1.0, 1.0, 1.0, 0.0) == 0


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    cash=st.floats(0, 1e9),
    fraction=st.floats(0.01, 1),
    price=st.floats(1e-4, 1e5),
    slippage=st.floats(0, 0.5),
    rate=st.floats(0, 0.5),
)
def test_an_order_never_costs_more_than_the_cash(cash, fraction, price, slippage, rate) -> None:
    filled = price * (1 + slippage)
    quantity = size(cash, fraction, price, filled, rate)
    assert quantity == int(quantity) >= 0
    assert quantity * filled * (1 + rate) <= cash
