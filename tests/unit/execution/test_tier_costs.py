"""What trades cost by tier, on numbers that a reader can redo (SPEC A8)."""

import pytest

from backlane.execution.target_orders import OrderSide
from backlane.execution.tier_costs import Liquidity, OrderStyle, TierCosts, TierSlippage
from backlane.signals.universe import Tier

COSTS = TierCosts()


def test_a_trade_pays_commission_and_its_share_of_the_spread():
    cost = COSTS.trade_cost(1000.0, Liquidity.TAKER, Tier.ROTATIONAL, OrderStyle.MARKET)
    assert (cost.commission, cost.slippage_bps) == pytest.approx(
        (6.0, 10.0)
    )  # 0.6 %; half of 20 bps
    assert cost.total == pytest.approx(7.0)
    wide = COSTS.trade_cost(1000.0, Liquidity.MAKER, Tier.CORE, OrderStyle.MARKET, 40.0)
    assert wide.total == pytest.approx(4.0 + 2.0)


def test_a_round_trip_pays_each_side_by_its_own_liquidity():
    trip = COSTS.round_trip(100.0, 110.0, 10.0, Liquidity.MAKER, Liquidity.TAKER)
    assert trip.commission == pytest.approx(4.0 + 6.6)
    assert trip.net_pnl == pytest.approx(100.0 - 10.6)
    assert trip.net_return == pytest.approx(89.4 / 1004.0)


def test_a_size_leaves_the_minimum_after_commission():
    assert COSTS.size_for_minimum(5.0, 9.96, Liquidity.MAKER) == pytest.approx(10.0)
    assert COSTS.size_for_minimum(20.0, 10.0, Liquidity.MAKER) == 20.0


@pytest.mark.parametrize(
    ("notional", "volatility", "bps"),
    [
        (None, None, 25.0),
        (10_000.0, 0.05, 25.0),
        (31_622.776601683792, None, 27.5),  # half a decade: 1 + 0.2 x 0.5
        (1e9, None, 30.0),  # at most 1.2
        (None, 0.06, 30.0),
        (None, 0.9, 37.5),  # at most 1.5
    ],
)
def test_slippage_grows_with_size_and_turmoil(notional, volatility, bps):
    slippage = TierSlippage()
    assert slippage.slippage_bps(Tier.ROTATIONAL, notional, volatility) == pytest.approx(bps)


def test_a_fill_is_worse_on_both_sides():
    slippage = TierSlippage()
    assert slippage.fill_price(1000.0, OrderSide.BUY, Tier.CORE) == pytest.approx(1001.0)
    assert slippage.fill_price(1000.0, OrderSide.SELL, Tier.CORE) == pytest.approx(999.0)
