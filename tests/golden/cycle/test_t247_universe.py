"""Universe, regime and cost kernels of the reference (SPEC A3, A4, A8).

Deviation, SPEC A3 [Q]: a regime multiplier of 0 drops instruments of every tier; the reference goes
on listing those of tier 1 with nothing allocated.
"""

import numpy as np
import pytest

from backlane.execution.target_orders import OrderSide
from backlane.execution.tier_costs import (
    Liquidity,
    OrderStyle,
    TierCosts,
    TierSlippage,
)
from backlane.signals.price_regime import classify_regime, price_regime
from backlane.signals.universe import Quote, Tier, UniverseRules, build_universe
from tests.golden.cycle.t247 import RELATIVE, cases, needs_vectors, read, regime_of

pytestmark = needs_vectors


def _tiers(recorded):
    """The core instruments are those that any snapshot lists as such; the others rotate."""
    core = {row[0] for snapshot in recorded["snapshots"].values() for row in snapshot["tier1"]}
    symbols = recorded["quotes"]
    return {symbol: Tier.CORE if symbol in core else Tier.ROTATIONAL for symbol in symbols}, core


@pytest.mark.parametrize("regime", sorted(read("universe.json").get("snapshots", {})))
def test_the_universe_of_each_regime(regime):
    recorded = read("universe.json")
    tiers, core = _tiers(recorded)
    forced = {
        row[0]
        for snapshot in recorded["snapshots"].values()
        for row in snapshot["tier1"]
        if row[2] == "force_eligible_core_asset"
    }
    quotes = {
        symbol: Quote(quote["spread_bps"], quote["volume_24h"], quote["depth_usd"])
        for symbol, quote in recorded["quotes"].items()
    }
    rules = UniverseRules(forced=frozenset(forced))
    universe = build_universe(tiers, quotes, regime_of(regime), rules)
    snapshot = recorded["snapshots"][regime]
    rows = [
        (row[0], row[1] / 100, row[2])
        for row in snapshot["tier1"] + snapshot["tier2"]
        if row[1] > 0  # SPEC A3 [Q]: nothing allocated is not in the universe
    ]
    ours = [(member.symbol, member.allocation_max, member.note) for member in universe.members]
    assert [(symbol, note) for symbol, _, note in ours] == [(row[0], row[2]) for row in rows]
    assert [row[1] for row in ours] == pytest.approx([row[1] for row in rows], rel=RELATIVE)
    assert set(universe.ineligible) == set(tiers) - {row[0] for row in rows}
    assert core


@pytest.mark.parametrize("case", cases("regime.json", "detect"))
def test_the_regime_of_closes(case):
    reading = price_regime(np.array(case["closes"]))
    assert reading.regime == case["regime"]
    assert reading.confidence == pytest.approx(case["confidence"], rel=RELATIVE)
    assert reading.trend * 100 == pytest.approx(case["btc_trend_pct"], rel=RELATIVE)
    assert reading.volatility * 100 == pytest.approx(case["volatility_pct"], rel=RELATIVE)


@pytest.mark.parametrize("case", cases("regime.json", "classify_grid"))
def test_the_regime_of_a_trend_and_a_volatility(case):
    regime, confidence = classify_regime(case["trend"] / 100, case["vol"] / 100)
    assert regime == case["regime"]
    assert confidence == pytest.approx(case["confidence"], rel=RELATIVE)


@pytest.mark.parametrize("case", cases("costs.json", "trade_cost"))
def test_the_cost_of_a_trade(case):
    given, out = case["args"], case["out"]
    cost = TierCosts().trade_cost(
        given["size_usd"],
        Liquidity.MAKER if given["is_maker"] else Liquidity.TAKER,
        Tier(given["tier"]),
        OrderStyle(given["order_type"]),
        spread_bps=given["spread_bps"],
    )
    assert cost.commission == pytest.approx(out["fee_usd"], rel=RELATIVE)
    assert cost.slippage == pytest.approx(out["slippage_usd"], rel=RELATIVE)
    assert cost.slippage_bps == pytest.approx(out["slippage_bps"], rel=RELATIVE)
    assert cost.total == pytest.approx(out["total_cost_usd"], rel=RELATIVE)


@pytest.mark.parametrize("case", cases("costs.json", "fill_price"))
def test_the_price_of_a_fill(case):
    given = case["args"]
    price = TierSlippage().fill_price(
        given["mid_price"],
        OrderSide(given["side"].upper()),
        Tier(int(given["tier"].removeprefix("tier"))),
        notional=given["notional_usd"],
        volatility=None if given["volatility_pct"] is None else given["volatility_pct"] / 100,
    )
    assert price == pytest.approx(case["fill_price"], rel=RELATIVE)


@pytest.mark.parametrize("case", cases("costs.json", "round_trip_pnl"))
def test_the_profit_of_a_round_trip(case):
    given, out = case["args"], case["out"]
    trip = TierCosts().round_trip(
        given["entry_price"],
        given["exit_price"],
        given["quantity"],
        Liquidity(given["entry_order_type"]),
        Liquidity(given["exit_order_type"]),
    )
    assert trip.net_pnl == pytest.approx(out["pnl_usd"], rel=RELATIVE)
    assert trip.net_return * 100 == pytest.approx(out["pnl_pct"], rel=RELATIVE)
    assert trip.commission == pytest.approx(out["total_fees_usd"], rel=RELATIVE)


@pytest.mark.parametrize("case", cases("costs.json", "fill_probability"))
def test_how_likely_an_order_fills(case):
    style = OrderStyle(case["order_type"])
    probability = TierCosts().fill_probability(style, Tier(case["tier"]))
    assert probability == case["fill_probability"]


@pytest.mark.parametrize("case", cases("costs.json", "min_profitable_move"))
def test_the_smallest_move_that_pays(case):
    liquidity = Liquidity.MAKER if case["is_maker"] else Liquidity.TAKER
    move = TierCosts().break_even_move(
        liquidity, Tier(case["tier"]), is_round_trip=case["round_trip"]
    )
    assert move == pytest.approx(case["min_move"], rel=RELATIVE)


@pytest.mark.parametrize("case", cases("costs.json", "fee_size_bump"))
def test_the_size_that_leaves_the_minimum_after_commission(case):
    liquidity = Liquidity.MAKER if case["is_maker"] else Liquidity.TAKER
    size = TierCosts().size_for_minimum(case["target"], case["minimum"], liquidity)
    assert size == pytest.approx(case["out"], rel=RELATIVE)
