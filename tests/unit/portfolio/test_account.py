"""Money moves in one function; every number here can be redone by hand."""

import numpy as np
import pytest

from backlane.cycle.state import new_state
from backlane.portfolio.account import (
    accrue_financing,
    apply_fill,
    mark_to_market,
    unrealized_pnl,
)


def account(cash: float = 1000.0):
    return new_state(0, cash)[0]


def test_long_round_trip() -> None:
    a = account()
    assert apply_fill(a, True, 10, 50.0, 2.0, 1.0) == 0.0
    assert (a.cash, a.side, a.quantity) == (498.0, 1, 10)  # 1000 - 500 - 2
    assert mark_to_market(a, 60.0, 0.0) == 1098.0  # 498 + 10 x 60
    assert apply_fill(a, False, 10, 60.0, 3.0, 1.0) == 100.0  # (60 - 50) x 10
    assert (a.cash, a.side, a.quantity) == (1095.0, 0, 0)  # 498 + 600 - 3


def test_short_round_trip() -> None:
    a = account()
    apply_fill(a, False, 10, 50.0, 2.0, 1.0)
    assert (a.cash, a.side) == (498.0, -1)  # 500 set aside, 2 paid
    assert mark_to_market(a, 60.0, 0.0) == 898.0  # 498 + 500 + 10 x (50 - 60)
    assert mark_to_market(a, 60.0, 2.0) == 900.0  # the 2 paid counted in again
    assert apply_fill(a, True, 10, 45.0, 3.0, 1.0) == 50.0  # (50 - 45) x 10
    assert a.cash == 1045.0  # 498 + 500 + 50 - 3


def test_equity_when_flat_is_the_cash() -> None:
    assert mark_to_market(account(123.0), 9.0, 0.0) == 123.0


@pytest.mark.parametrize(("side", "expected"), [(1, 30.0), (-1, -30.0), (0, 0.0)])
def test_unrealized_pnl_has_the_sign_of_the_side(side, expected) -> None:
    assert unrealized_pnl(side, 10.0, 50.0, 53.0) == expected


def test_a_short_loses_more_than_its_collateral_when_the_price_triples() -> None:
    a = account()
    apply_fill(a, False, 10, 50.0, 0.0, 1.0)
    assert mark_to_market(a, 150.0, 0.0) == 0.0  # 500 + 500 - 1000
    assert np.isclose(mark_to_market(a, 160.0, 0.0), -100.0)


def test_leverage_sets_less_aside() -> None:
    a = account()
    apply_fill(a, True, 40, 50.0, 0.0, 4.0)
    assert (a.cash, a.collateral) == (500.0, 500.0)  # 40 x 50 / 4
    assert mark_to_market(a, 55.0, 0.0) == 1200.0  # 500 + 500 + 40 x 5
    assert apply_fill(a, False, 40, 45.0, 0.0, 4.0) == -200.0
    assert (a.cash, a.collateral) == (800.0, 0.0)


def test_financing_is_owed_until_the_exit() -> None:
    a = account()
    apply_fill(a, False, 10, 73.0, 0.0, 1.0)
    # two days and nights at 36.5 % borrow and 73 % overnight on 730: 0.73 + 2 x 1.46 a day
    accrue_financing(a, 73.0, 2 * 86_400 * 10**9, 2, 0.365, 0.0, 0.73)
    assert a.financing == pytest.approx(2 * 0.73 + 2 * 1.46, rel=1e-12)
    assert mark_to_market(a, 73.0, 0.0) == pytest.approx(1000 - 4.38, rel=1e-12)
    apply_fill(a, True, 10, 73.0, 0.0, 1.0)
    assert a.cash == pytest.approx(1000 - 4.38, rel=1e-12)
