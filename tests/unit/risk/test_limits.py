"""The limits of risk: all mistakes at once, and no key without an effect (SPEC C4, 9)."""

from dataclasses import fields

import pytest

from backlane.errors import InvalidRequestError
from backlane.execution.target_orders import OrderSide
from backlane.risk.engine import assess
from backlane.risk.facts import TradeTimes, VenueFacts, portfolio_facts
from backlane.risk.limits import RiskLimits
from backlane.risk.proposal import TradeProposal
from backlane.risk.trade_limits import TradeEnd, after_close
from backlane.signals.price_regime import PriceRegime

NOW_NS = 1_714_998_600_000_000_000  # 2024-05-06 12:30 UTC
SECOND_NS = 1_000_000_000


def test_every_mistake_is_listed_at_once():
    with pytest.raises(InvalidRequestError) as caught:
        RiskLimits(
            daily_loss_max=-0.01,
            trades_per_hour_max=2.5,  # type: ignore[arg-type]
            loss_streak_max=True,
            theme_size_max={"DEFI": float("nan")},
            regime_multipliers={PriceRegime.BULL: -1.0},
        )
    assert [mistake.field for mistake in caught.value.violations] == [
        "daily_loss_max",
        "trades_per_hour_max",
        "loss_streak_max",
        "theme_size_max.DEFI",
        "regime_multipliers.bull",
    ]
    assert "5 limit(s)" in caught.value.message


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"trades_per_day_max": 3, "trades_per_hour_max": 5}, "trades_per_day_max"),
        ({"position_size_max": 0.01, "position_size_min": 0.02}, "position_size_max"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(values, field):
    with pytest.raises(InvalidRequestError) as caught:
        RiskLimits(**values)
    assert [mistake.field for mistake in caught.value.violations] == [field]


def _buy(symbol="ADA-USD", size=0.02, confidence=0.5):
    return TradeProposal(symbol, OrderSide.BUY, size, confidence)


def _times(**values):
    return TradeTimes(**values)


HELD = {"positions": {"ADA-USD": 100.0}}
# One scenario for each key: the facts and proposals of a cycle, and two values of the key that give
# different assessments. What is not said is as in RiskLimits().
LIVE = {
    "daily_loss_max": (0.03, 0.05, {"daily_return": -0.04}, {}),
    "weekly_loss_max": (0.07, 0.1, {"weekly_return": -0.08}, {}),
    "drawdown_max": (0.1, 0.2, {"drawdown": -0.15}, {}),
    "total_at_risk_max": (0.15, 0.01, {}, {}),
    "counts_external_positions": (False, True, {"positions": {"BTC-USD": 2000.0}}, {}),
    "external_buffer": (
        0.0,
        0.1,
        {"positions": {"BTC-USD": 2000.0}},
        {"counts_external_positions": True},
    ),
    "position_size_max": (0.05, 0.01, {}, {}),
    "position_size_min": (0.005, 0.03, {}, {}),
    "theme_size_max": ({}, {"L1": 0.01}, {"themes": {"ADA-USD": "L1"}}, {}),
    "regime_multipliers": (
        {PriceRegime.CHOP: 1.0},
        {PriceRegime.CHOP: 0.1},
        {},
        {},
    ),
    "open_positions_max": (8, 0, {}, {}),
    "new_positions_per_cycle_max": (None, 1, {}, {}),
    "prefers_confidence": (True, False, {}, {"new_positions_per_cycle_max": 1}),
    "allows_adds_when_full": (True, False, HELD, {"open_positions_max": 1}),
    "counts_pending_positions": (
        True,
        False,
        {"pending_buys": {"XRP-USD": 100.0}},
        {"open_positions_max": 1},
    ),
    "dust_notional": (
        0.0,
        50.0,
        {"positions": {"XRP-USD": 40.0}},
        {"open_positions_max": 1},
    ),
    "trade_notional_min": (10.0, 300.0, {}, {}),
    "raises_to_minimum": (True, False, {}, {"trade_notional_min": 300.0}),
    "trades_per_day_max": (40, 10, {"trades_today": 10}, {}),
    "trades_per_hour_max": (8, 2, {"trades_this_hour": 2}, {}),
    "trade_spacing_s": (
        180.0,
        10.0,
        {"times": _times(last_trade_ns=NOW_NS - 60 * SECOND_NS)},
        {},
    ),
    "symbol_spacing_s": (
        900.0,
        10.0,
        {"times": _times(last_trade_ns_by_symbol={"ADA-USD": NOW_NS - 60 * SECOND_NS})},
        {},
    ),
    "loss_streak_max": (
        3,
        4,
        {"consecutive_losses": 3, "times": _times(last_loss_ns=NOW_NS)},
        {},
    ),
    "loss_cooldown_minutes": (
        60.0,
        1.0,
        {"consecutive_losses": 3, "times": _times(last_loss_ns=NOW_NS - 120 * SECOND_NS)},
        {},
    ),
    "has_symbol_cooldown": (
        True,
        False,
        {"times": _times(cooldown_until_ns_by_symbol={"ADA-USD": NOW_NS + 1})},
        {},
    ),
    "allows_pyramiding": (False, True, {"pending_buys": {"ADA-USD": 50.0}}, {}),
    "pyramid_cooldown_s": (
        600.0,
        10.0,
        {**HELD, "times": _times(buy_fills_ns_by_symbol={"ADA": (NOW_NS - 60 * SECOND_NS,)})},
        {"allows_pyramiding": True, "adds_per_day_max": 5},
    ),
    "adds_per_day_max": (
        1,
        2,
        {**HELD, "times": _times(buy_fills_ns_by_symbol={"ADA": (NOW_NS - 3600 * SECOND_NS,)})},
        {"allows_pyramiding": True},
    ),
    "rate_limit_cooldown_s": (
        60.0,
        10.0,
        {"venue": VenueFacts(last_rate_limit_ns=NOW_NS - 30 * SECOND_NS)},
        {},
    ),
    "api_errors_max": (3, 4, {"venue": VenueFacts(api_error_count=3)}, {}),
    "api_error_window_s": (
        300.0,
        10.0,
        {"venue": VenueFacts(api_error_count=3, last_success_ns=NOW_NS - 60 * SECOND_NS)},
        {},
    ),
    "realized_volatility_max": (1.5, None, {"volatility": 1.6}, {}),
    "eligible_min": (0, 3, {"eligible_count": 2}, {}),
}
COOLDOWNS = {
    "cooldown_win_minutes": TradeEnd.WIN,
    "cooldown_loss_minutes": TradeEnd.LOSS,
    "cooldown_stop_minutes": TradeEnd.STOP_LOSS,
}


def test_every_key_has_a_scenario():
    assert {item.name for item in fields(RiskLimits)} == LIVE.keys() | COOLDOWNS.keys()


@pytest.mark.parametrize("key", LIVE)
def test_every_key_changes_a_decision(key):
    one, other, facts, fixed = LIVE[key]
    proposals = [_buy(), _buy("SOL-USD", 0.01, 0.9)]
    outcomes = [
        assess(
            proposals,
            portfolio_facts(10_000.0, **facts),
            RiskLimits(**fixed, **{key: value}),
            PriceRegime.CHOP,
            NOW_NS,
        )
        for value in (one, other)
    ]
    assert outcomes[0] != outcomes[1]


@pytest.mark.parametrize(("key", "end"), COOLDOWNS.items())
def test_every_cooldown_lasts_as_long_as_its_key_says(key, end):
    rests = after_close(TradeTimes(), "ADA", end, NOW_NS, RiskLimits(**{key: 7.0}))
    assert rests.cooldown_until_ns_by_symbol == {"ADA-USD": NOW_NS + 420 * SECOND_NS}
