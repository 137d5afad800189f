"""The risk engine by hand, and its laws: exits always pass, caps always hold, nothing mutates."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.execution.target_orders import OrderSide
from backlane.risk.codes import RiskCode
from backlane.risk.engine import assess
from backlane.risk.exposure_caps import position_cap, total_room
from backlane.risk.facts import TradeTimes, VenueFacts, portfolio_facts
from backlane.risk.limits import RiskLimits
from backlane.risk.proposal import TradeProposal, canonical_symbol
from backlane.signals.price_regime import PriceRegime

NOW_NS = 1_714_998_600_000_000_000
BUY, SELL = OrderSide.BUY, OrderSide.SELL


def _assess(proposals, limits=None, regime=PriceRegime.BULL, equity=10_000.0, **facts):
    given_facts = portfolio_facts(equity, **facts)
    return assess(proposals, given_facts, limits or RiskLimits(), regime, NOW_NS)


def test_room_is_given_to_the_most_confident_first():
    limits = RiskLimits(theme_size_max={"L1": 0.06}, position_size_max=0.04)
    themes = {"BTC-USD": "L1", "ETH-USD": "L1"}
    proposals = [TradeProposal("BTC-USD", BUY, 0.04, 0.3), TradeProposal("ETH-USD", BUY, 0.04, 0.9)]
    result = _assess(proposals, limits, themes=themes)
    # 6 % of the theme: 4 % to ETH, what is left, 2 %, to BTC; the order given is kept.
    assert [(one.proposal.symbol, one.notional, one.is_cut) for one in result.approved] == [
        ("BTC-USD", pytest.approx(200.0), True),
        ("ETH-USD", pytest.approx(400.0), False),
    ]


def test_the_cap_is_scaled_before_a_size_is_cut_to_it():
    # 5 % x 0.5 in a bear market: 2.5 % of 10,000.
    result = _assess([TradeProposal("BTC-USD", BUY, 0.09, 0.5)], regime=PriceRegime.BEAR)
    assert [one.notional for one in result.approved] == [pytest.approx(250.0)]


def test_two_names_of_one_symbol_share_its_cap():
    limits = RiskLimits(position_size_max=0.05)
    result = _assess(
        [TradeProposal("XBT-USD", BUY, 0.02, 0.5)],
        limits,
        PriceRegime.CHOP,
        positions={"BTC": 100.0, "WBTC-USD": 250.0},
    )
    assert [one.notional for one in result.approved] == [pytest.approx(50.0)]  # 4 % - 3.5 %
    assert result.approved[0].proposal.symbol == "XBT-USD"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("BTC", "BTC-USD"), ("xbt", "BTC-USD"), ("WBTC-EUR", "BTC-EUR"), ("ETH-USD", "ETH-USD")],
)
def test_symbols_have_one_name(name, canonical):
    assert canonical_symbol(name) == canonical == canonical_symbol(canonical)


STOPS = {
    RiskCode.DAILY_STOP_LOSS: {"daily_return": -0.5},
    RiskCode.WEEKLY_STOP_LOSS: {"weekly_return": -0.5},
    RiskCode.MAX_DRAWDOWN: {"drawdown": -0.5},
    RiskCode.TRADE_FREQUENCY_DAILY: {"trades_today": 1000},
    RiskCode.TRADE_FREQUENCY_HOURLY: {"trades_this_hour": 1000},
    RiskCode.GLOBAL_TRADE_SPACING: {"times": TradeTimes(last_trade_ns=NOW_NS)},
    RiskCode.CONSECUTIVE_LOSS_COOLDOWN: {
        "consecutive_losses": 20,
        "times": TradeTimes(last_loss_ns=NOW_NS),
    },
    RiskCode.MAX_TOTAL_AT_RISK: {"pending_buys": {"XRP-USD": 9000.0}},
    RiskCode.API_HEALTH: {"venue": VenueFacts(api_error_count=9)},
    RiskCode.EXCHANGE_CONNECTIVITY: {"venue": VenueFacts(is_reachable=False)},
    RiskCode.RATE_LIMIT_COOLDOWN: {"venue": VenueFacts(last_rate_limit_ns=NOW_NS)},
    RiskCode.REALIZED_VOLATILITY: {"volatility": 9.0},
    RiskCode.HALT: {"is_halted": True},
}


@pytest.mark.parametrize(("code", "facts"), STOPS.items())
def test_what_stops_entries_stops_no_exit_but_the_halt(code, facts):
    entry = TradeProposal("BTC-USD", BUY, 0.02, 0.5)
    exit_ = TradeProposal("ADA-USD", SELL, 0.9, 0.5)
    result = _assess([entry, exit_], positions={"ADA-USD": 9000.0}, **facts)
    assert result.halt == code
    assert result.codes_by_symbol["BTC-USD"] == (code,)
    approved = [one.proposal for one in result.approved]
    assert approved == ([] if code is RiskCode.HALT else [exit_])
    assert result.primary == (RiskCode.HALT if code is RiskCode.HALT else None)


def test_a_restricted_product_is_not_bought():
    venue = VenueFacts(restricted_symbols=frozenset({"xbt"}))
    result = _assess([TradeProposal("BTC-USD", BUY, 0.02, 0.5)], venue=venue)
    assert result.codes_by_symbol == {"BTC-USD": (RiskCode.EXCHANGE_PRODUCT_STATUS,)}
    assert result.primary is RiskCode.EXCHANGE_PRODUCT_STATUS


def test_without_proposals_there_is_nothing_to_deny():
    assert _assess([], is_halted=True).is_approved
    assert _assess([]).approved == ()


SYMBOLS = st.sampled_from(["BTC-USD", "XBT", "ETH-USD", "ADA-USD", "UNI-USD"])
PROPOSALS = st.lists(
    st.builds(
        TradeProposal,
        SYMBOLS,
        st.sampled_from(OrderSide),
        st.floats(0.0, 0.2),
        st.floats(0.0, 1.0),
    ),
    max_size=6,
)
MONEY = st.dictionaries(SYMBOLS, st.floats(0.0, 900.0), max_size=4)


@given(PROPOSALS, MONEY, MONEY, st.floats(0.0, 50_000.0), st.sampled_from(PriceRegime))
def test_every_proposal_is_approved_within_the_caps_or_denied(
    proposals, positions, pending, equity, regime
):
    limits = RiskLimits(theme_size_max={"L1": 0.1}, counts_external_positions=True)
    facts = portfolio_facts(
        equity,
        positions=positions,
        pending_buys=pending,
        themes={"BTC": "L1", "ETH": "L1"},
    )
    before = [replace(proposal) for proposal in proposals]
    result = assess(proposals, facts, limits, regime, NOW_NS)
    assert proposals == before
    assert len(result.approved) + len(result.denials) == len(proposals)
    exits = [proposal for proposal in proposals if proposal.is_exit]
    assert [one.proposal for one in result.approved if one.proposal.is_exit] == exits
    entries = [one for one in result.approved if not one.proposal.is_exit]
    cent = 1e-6 * max(equity, 1.0)  # the caps are shares of equity, and sums of them round
    assert sum(one.notional for one in entries) <= max(total_room(facts, limits), 0.0) + cent
    taken = dict.fromkeys(map(canonical_symbol, (*positions, *pending)), 0.0)
    for one in entries:
        name = canonical_symbol(one.proposal.symbol)
        taken[name] = taken.get(name, 0.0) + one.notional
        cap = position_cap(facts, limits, regime)
        assert facts.exposure(name) + taken[name] <= cap + cent
        assert one.notional == pytest.approx(one.proposal.size * equity)
    theme = sum(v for k, v in taken.items() if facts.themes.get(k) == "L1")
    assert not theme or facts.theme_exposure("L1") + theme <= 0.1 * equity + cent
