"""`pipeline.json`: how a cycle of trades ends, case by case, with our corrections.

- SPEC C1 Q1: only the approved proposals are handed back (`risk_partial_approval`).
- SPEC A2: the reason is a closed enum; `risk_blocked_<text>` is `risk_blocked` with the code of the
  check in `detail`, which is never unknown.
- SPEC C1 "errors": a stage that raises ends the cycle and keeps what was computed before it.
"""

from dataclasses import replace
from typing import Any

import pytest

from backlane.cycle.cycle_result import CycleResult, CycleStage, NoTradeReason
from backlane.cycle.run_cycle import run_cycle
from backlane.execution.target_orders import OrderSide
from backlane.risk.proposal import TradeProposal
from tests.golden.cycle.t247 import cases
from tests.unit.cycle.cycles import context_of, panel_of, planned, proposing, stages_of

SYMBOLS = ("BTC-USD", "DOGE-USD")


def fails(error: Exception) -> Any:
    def raises(*_: Any) -> Any:
        raise error

    return raises


def buy(symbol: str) -> TradeProposal:
    return TradeProposal(symbol, OrderSide.BUY, 0.02, 0.6)


def cycle(case: dict[str, Any]) -> CycleResult:
    """The situation of a case, by our own parts: what it is about is how the cycle ends."""
    name, risk = case["name"], {}
    panel = replace(panel_of((10.0, 20.0)), symbols=SYMBOLS)
    signals = ("trigger",) * case["n_triggers"]
    trades = [buy(symbol) for symbol in case["base"]]
    universe = {"history_bars_min": 100} if name == "empty_universe" else {}
    if name in {"risk_blocked", "risk_blocked_no_reason"}:
        risk = {"trades": {"trades_per_day_max": 1, "trades_per_hour_max": 1}}
    if name == "risk_partial_approval":
        risk = {"trades": {"open_positions_max": 1}}
    stages = stages_of(planned(proposing(*trades, signals=signals)), risk=risk, universe=universe)
    if case["no_trade_reason"] == "pipeline_error":
        stages = replace(stages, signals=fails(ValueError(case["error"])))
    blocked = name.startswith("risk_blocked")
    return run_cycle(context_of(panel, trades_today=1 if blocked else 0), stages)


@pytest.mark.parametrize("case", cases("pipeline.json", "cases"))
def test_a_cycle_ends_as_recorded(case: dict[str, Any]) -> None:
    result = cycle(case)
    reason = case["no_trade_reason"] or ""
    if reason.startswith("risk_blocked"):
        assert result.no_trade is NoTradeReason.RISK_BLOCKED
        assert result.detail == "trade_frequency_daily"
        assert set(result.refused_by_symbol) == set(case["base"])
    else:
        assert (result.no_trade or "") == reason
    approved = [each.symbol for each in result.approved]
    if case["name"] == "risk_partial_approval":
        assert case["risk_approved"] == case["base"]  # Q1: theirs hands back every proposal
        assert approved == case["base"][:1]
        assert set(result.refused_by_symbol) == set(case["base"][1:])
    else:
        assert approved == case["risk_approved"]
    if case["error"]:
        assert result.failure.stage is CycleStage.SIGNALS
        assert case["error"] in result.failure.message
        assert result.universe is not None  # theirs drops everything
    else:
        assert result.is_success
        assert len(result.proposals.trades if result.proposals else ()) == len(case["base"])
