"""Every key of the `risk` section changes what a cycle orders (SPEC C4, 9), and is checked."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from backlane.backtest.portfolio_run import parse_portfolio_config
from backlane.cycle.context import BookFacts, Surroundings
from backlane.cycle.cycle_result import CycleResult
from backlane.cycle.risk_config import GroupConfig, RiskConfig, StopsConfig, risk_plan
from backlane.cycle.run_cycle import run_cycle
from backlane.errors import InvalidRequestError
from backlane.execution.target_orders import OrderSide
from backlane.panel.panel import Panel
from backlane.risk.facts import MINUTE_NS, TradeTimes, VenueFacts
from backlane.risk.limits import RiskLimits
from backlane.risk.pretrade import PretradeLimits
from backlane.risk.proposal import TradeProposal
from tests.unit.cycle.cycles import context_of, panel_of, planned, proposing, stages_of, weighing
from tests.unit.signals.panels import daily_panel

NOW_NS = int(panel_of().known_ns[-1])
SECOND_NS = 1_000_000_000


def buy(symbol: str = "S0", size: float = 0.02, confidence: float = 0.5) -> TradeProposal:
    return TradeProposal(symbol, OrderSide.BUY, size, confidence)


def outcome(result: CycleResult) -> tuple[Any, ...]:
    assert result.is_success, result.detail
    return (
        result.orders.quantity.round(9).tolist(),
        result.refused_by_symbol,
        result.verdict and [(each.symbol, each.code) for each in result.verdict.cuts],
    )


def book_with(**values: Any) -> Callable[[BookFacts], BookFacts]:
    return lambda book: replace(book, **values)


def times(**values: Any) -> dict[str, Any]:
    return {"change": book_with(times=TradeTimes(**values))}


def held(units: float, column: int = 0) -> dict[str, Any]:
    row = [0.0, 0.0, 0.0]
    row[column] = units
    return {"held": row}


def pending(units: float, column: int) -> dict[str, Any]:
    row = np.zeros(3)
    row[column] = units
    return {"change": book_with(pending_quantity=row)}


def leading(step: float) -> Panel:
    """169 days on which S0 changes by `step`, up and down in turn: 365 * ln(1 + step)^2 a year."""
    close = np.ones((170, 3)) * 100.0
    close[1::2, 0] *= 1.0 + step
    return daily_panel(close, volume=np.ones((170, 3)))


VENUE = {"is_reachable": True}
TWO = (buy(), buy("S1", confidence=0.9))
# For each key: a value that differs from what `base` has of it, and where it matters: arguments of
# the context, the proposals, and the rest of the section.
TRADES: dict[str, tuple[Any, dict[str, Any], tuple[TradeProposal, ...], dict[str, Any]]] = {
    "daily_loss_max": (0.05, {"change": book_with(daily_return=-0.04)}, TWO, {}),
    "weekly_loss_max": (0.1, {"change": book_with(weekly_return=-0.08)}, TWO, {}),
    "drawdown_max": (0.2, {"change": book_with(peak_equity=12_000.0)}, TWO, {}),
    "total_at_risk_max": (0.01, {}, TWO, {}),
    "counts_external_positions": (
        True,
        {**held(150.0), "change": book_with(external=frozenset({"S0"}))},
        (buy("S1"),),
        {},
    ),
    "external_buffer": (
        0.1,
        {**held(150.0), "change": book_with(external=frozenset({"S0"}))},
        (buy("S1"),),
        {"counts_external_positions": True},
    ),
    "position_size_max": (0.01, {}, TWO, {}),
    "position_size_min": (0.03, {}, TWO, {}),
    "theme_size_max": ({"L1": 0.01}, {}, TWO, {}),
    "regime_multipliers": ({"chop": 0.1}, {}, TWO, {}),
    "open_positions_max": (1, {}, TWO, {}),
    "new_positions_per_cycle_max": (1, {}, TWO, {}),
    "prefers_confidence": (False, {}, TWO, {"new_positions_per_cycle_max": 1}),
    "allows_adds_when_full": (False, held(10.0), TWO, {"open_positions_max": 1}),
    "counts_pending_positions": (False, pending(5.0, 2), TWO, {"open_positions_max": 2}),
    "dust_notional": (50.0, held(4.0), (buy("S1"),), {"open_positions_max": 1}),
    "trade_notional_min": (300.0, {}, TWO, {}),
    "raises_to_minimum": (False, {}, TWO, {"trade_notional_min": 300.0}),
    "trades_per_day_max": (10, {"change": book_with(trades_today=10)}, TWO, {}),
    "trades_per_hour_max": (2, {"change": book_with(trades_this_hour=2)}, TWO, {}),
    "trade_spacing_s": (10.0, times(last_trade_ns=NOW_NS - 60 * SECOND_NS), TWO, {}),
    "symbol_spacing_s": (
        10.0,
        times(last_trade_ns_by_symbol={"S0": NOW_NS - 60 * SECOND_NS}),
        TWO,
        {},
    ),
    "loss_streak_max": (
        4,
        {"change": book_with(consecutive_losses=3, times=TradeTimes(last_loss_ns=NOW_NS))},
        TWO,
        {},
    ),
    "loss_cooldown_minutes": (
        1.0,
        {
            "change": book_with(
                consecutive_losses=3, times=TradeTimes(last_loss_ns=NOW_NS - 2 * MINUTE_NS)
            )
        },
        TWO,
        {},
    ),
    "has_symbol_cooldown": (
        False,
        times(cooldown_until_ns_by_symbol={"S0": NOW_NS + 1}),
        TWO,
        {},
    ),
    "allows_pyramiding": (True, pending(5.0, 0), (buy(),), {}),
    "pyramid_cooldown_s": (
        10.0,
        {**held(10.0), **times(buy_fills_ns_by_symbol={"S0": (NOW_NS - 60 * SECOND_NS,)})},
        (buy(),),
        {"allows_pyramiding": True, "adds_per_day_max": 5},
    ),
    "adds_per_day_max": (
        5,
        {**held(10.0), **times(buy_fills_ns_by_symbol={"S0": (NOW_NS,)})},
        (buy(),),
        {"allows_pyramiding": True, "pyramid_cooldown_s": 0.0},
    ),
    "rate_limit_cooldown_s": (
        10.0,
        {"around": Surroundings(venue=VenueFacts(last_rate_limit_ns=NOW_NS - 30 * SECOND_NS))},
        TWO,
        {},
    ),
    "api_errors_max": (4, {"around": Surroundings(venue=VenueFacts(api_error_count=3))}, TWO, {}),
    "api_error_window_s": (
        10.0,
        {
            "around": Surroundings(
                venue=VenueFacts(api_error_count=3, last_success_ns=NOW_NS - 60 * SECOND_NS)
            )
        },
        TWO,
        {},
    ),
    "realized_volatility_max": (None, {"around": Surroundings(volatility=2.0)}, TWO, {}),
    "eligible_min": (4, {}, TWO, {}),
}
LEDGER_KEYS = {"cooldown_win_minutes", "cooldown_loss_minutes", "cooldown_stop_minutes"}
"""How long an instrument rests is written by the ledger: tests/unit/cycle/test_ledger.py."""


def test_every_limit_of_trades_is_here():
    assert set(TRADES) | LEDGER_KEYS == {each.name for each in fields(RiskLimits)}


@pytest.mark.parametrize("key", TRADES)
def test_a_limit_of_trades_is_alive(key: str):
    value, arguments, proposals, base = TRADES[key]
    section = {"themes": {"S0": "L1"}}
    results = [
        run_cycle(
            context_of(**arguments),
            stages_of(planned(proposing(*proposals)), risk={**section, "trades": trades}),
        )
        for trades in (base, {**base, key: value})
    ]
    assert outcome(results[0]) != outcome(results[1])


HALF = weighing([0.5, 0.25, -0.25])
ORDERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "notional_per_symbol_max": (3_000.0, {}),
    "weight_per_symbol_max": (0.3, {}),
    "sector_exposure_max": (0.5, {}),
    "region_exposure_max": (0.5, {}),
    "currency_exposure_max": (0.2, {}),
    "turnover_max": (0.5, {}),
    "drawdown_threshold": (0.1, {}),
    "de_risk_scale": (0.5, {"drawdown_threshold": 0.1}),
    "gross_notional_max": (1_000.0, {}),
    "base_currency": ("EUR", {"currency_exposure_max": 0.2}),
}
GROUPS = {
    "S0": {"sector": "IT", "region": "US", "currency": "EUR"},
    "S1": {"sector": "IT", "region": "US", "currency": "USD"},
}


def test_every_limit_of_orders_is_here():
    assert set(ORDERS) == {each.name for each in fields(PretradeLimits)}


def targets_under(risk: Mapping[str, Any], **arguments: Any) -> tuple[Any, ...]:
    arguments = {"change": book_with(peak_equity=12_000.0), **arguments}
    return outcome(run_cycle(context_of(**arguments), stages_of(planned(HALF), risk=risk)))


@pytest.mark.parametrize("key", ORDERS)
def test_a_limit_of_orders_is_alive(key: str):
    value, base = ORDERS[key]
    found = [
        targets_under({"groups": GROUPS, "orders": orders})
        for orders in (base, {**base, key: value})
    ]
    assert found[0] != found[1]


STOPS: dict[str, tuple[float, float, dict[str, Any]]] = {
    "daily_loss_max": (0.03, 0.05, {"change": book_with(daily_return=-0.04)}),
    "weekly_loss_max": (0.03, 0.05, {"change": book_with(weekly_return=-0.04)}),
    "drawdown_max": (0.1, 0.2, {}),
    "realized_volatility_max": (1.0, 3.0, {"around": Surroundings(volatility=2.0)}),
}


def test_every_stop_is_here():
    assert set(STOPS) == set(StopsConfig.model_fields)


@pytest.mark.parametrize("key", STOPS)
def test_a_stop_is_alive(key: str):
    tight, loose, arguments = STOPS[key]
    found = [targets_under({"stops": {key: value}}, **arguments) for value in (tight, loose, None)]
    assert found[0] != found[1] == found[2]


REST: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stops": ({}, {"stops": {"drawdown_max": 0.1}}),
    "orders": ({}, {"orders": {"gross_notional_max": 1.0}}),
    "halt": ({}, {"halt": True}),
    "groups": (
        {"orders": {"sector_exposure_max": 0.1}},
        {"orders": {"sector_exposure_max": 0.1}, "groups": GROUPS},
    ),
}
TESTED_BELOW = {"trades", "themes", "leader"}


def test_every_part_of_the_section_is_here():
    assert set(REST) | TESTED_BELOW == set(RiskConfig.model_fields)


@pytest.mark.parametrize("key", REST)
def test_the_rest_of_the_section_is_alive(key: str):
    one, other = REST[key]
    assert targets_under(one) != targets_under(other)


@pytest.mark.parametrize("field", GroupConfig.model_fields)
def test_every_kind_of_group_is_alive(field: str):
    risk = {"orders": {f"{field}_exposure_max": 0.1}}
    grouped = {**risk, "groups": {"S0": {field: "X"}}}
    assert targets_under(risk) != targets_under(grouped)


def test_themes_are_alive():
    risk: dict[str, Any] = {"trades": {"theme_size_max": {"L1": 0.01}}}
    found = [
        outcome(
            run_cycle(context_of(), stages_of(planned(proposing(buy())), risk={**risk, **more}))
        )
        for more in ({}, {"themes": {"S0": "L1"}})
    ]
    assert found[0] != found[1]


def test_the_leader_tells_volatility_and_regime():
    """A change of 20 % each day is 0.18 * sqrt(365.25) = 3.5 a year; 1.05 ^ n would be a bull."""
    panel = leading(0.2)
    risk: dict[str, Any] = {"stops": {"realized_volatility_max": 3.0}}
    found = [
        outcome(run_cycle(context_of(panel), stages_of(planned(HALF), risk={**risk, **more})))
        for more in ({}, {"leader": "S1"}, {"leader": "S0"})
    ]
    assert found[0] == found[1] != found[2]
    falling = daily_panel(np.geomspace(100.0, 80.0, 170)[:, None] * np.ones(3))
    crash = run_cycle(
        context_of(falling), stages_of(planned(proposing(buy())), risk={"leader": "S0"})
    )
    assert crash.detail == "volatility_crash"


def test_every_mistake_is_named_at_once():
    content = {
        "strategy": {"name": "trend_baseline"},
        "data": {"panel": "p.csv"},
        "universe": {"history_bars_min": -1},
        "risk": {
            "stops": {"daily_loss": 0.1},
            "trades": {
                "position_size_mx": 0.1,
                "drawdown_max": 7.0,
                "allows_pyramiding": "yes",
                "regime_multipliers": {"bul": 1.0},
                "open_positions_max": "8",
            },
            "orders": {"de_risk_scale": 2.0, "turnover_max": True, "base_currency": 3},
            "halt": 1,
        },
        "failed_cycles_max": -1,
    }
    with pytest.raises(InvalidRequestError) as refused:
        parse_portfolio_config(content)
    found = {each.field: each.description for each in refused.value.violations}
    assert set(found) == {
        "universe.history_bars_min",
        "risk.stops.daily_loss",
        "risk.trades.position_size_mx",
        "risk.trades.drawdown_max",
        "risk.trades.allows_pyramiding",
        "risk.trades.regime_multipliers.bul",
        "risk.trades.open_positions_max",
        "risk.trades",  # which trend_baseline does not read
        "risk.orders.de_risk_scale",
        "risk.orders.turnover_max",
        "risk.orders.base_currency",
        "risk.halt",
        "failed_cycles_max",
    }
    assert "did you mean position_size_max?" in found["risk.trades.position_size_mx"]
    assert "did you mean daily_loss_max?" in found["risk.stops.daily_loss"]


def test_without_a_section_nothing_stops_targets():
    assert risk_plan(RiskConfig()).passes_all_targets
    for section in (
        {"halt": True},
        {"stops": {"drawdown_max": 0.5}},
        {"orders": {"turnover_max": 1}},
    ):
        assert not risk_plan(RiskConfig.model_validate(section)).passes_all_targets
