"""Driving cycles: what fails is counted and bounded, and configurations of several strategies."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backlane.backtest.portfolio_cycle import RunPlan, compute, drive_cycles, run_plan
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run, run_portfolio
from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.strategy import StrategyInput, Targets, TargetStrategy
from backlane.errors import CycleFailedError, InvalidRequestError
from backlane.execution.target_orders import OrderSide
from backlane.risk.proposal import TradeProposal
from tests.architecture.source import ROOT
from tests.property.portfolio_panels import panel_of
from tests.unit.cycle.cycles import proposing, weighing

PANEL = panel_of(3, 12, 3, 0.0)
BUY = TradeProposal("S0", OrderSide.BUY, 0.03, 0.9, stop_loss=0.05, take_profit=0.1)
REGISTRY = {
    "hold": weighing([0.5, 0.25, 0.0]),
    "short": weighing([-0.5, 0.0, 0.0]),
    "buy": proposing(BUY),
    "both": proposing(BUY, TradeProposal("S1", OrderSide.BUY, 0.02, 0.4)),
}


def config_of(**more: Any) -> Any:
    content = {"data": {"panel": "panel.csv"}, "initial_cash": 10_000, **more}
    return parse_portfolio_config(content, REGISTRY)


def plan_of(**more: Any) -> RunPlan:
    return plan_run(config_of(**more), (), REGISTRY)


def shared(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "weight": 0.5, **more} for name in names]


def fails_at(bars: set[int], stages: Any) -> Any:
    def signals(context: Any, universe: Any, features: Any) -> Any:
        if len(context.panel) - 1 in bars:
            raise ZeroDivisionError("on purpose")
        return stages.signals(context, universe, features)

    return replace(stages, signals=signals)


def test_failed_cycles_are_counted_named_and_traded_on():
    plan = plan_of(strategy={"name": "hold"}, failed_cycles_max=2)
    stages = fails_at({0, 4}, plan.stages())
    run = drive_cycles(plan, PANEL, {}, stages)
    assert (run.cycles.cycles, run.cycles.failed) == (len(PANEL), 2)
    assert run.cycles.first_failure == (
        "1970-01-01T00:00:00Z signals: ZeroDivisionError: on purpose"
    )
    assert run.cycles.no_trade["pipeline_error"] == 2
    assert set(run.orders["time_index"].tolist()) == set(range(len(PANEL))) - {0, 4}


def test_one_failure_too_many_ends_the_run():
    plan = plan_of(strategy={"name": "hold"}, failed_cycles_max=1)
    with pytest.raises(CycleFailedError, match="2 of 5 cycles failed") as refused:
        drive_cycles(plan, PANEL, {}, fails_at({0, 4}, plan.stages()))
    assert isinstance(refused.value.__cause__, ZeroDivisionError)
    assert refused.value.metadata == {"failed": "2", "stage": "signals"}


def test_limits_show_in_the_counts_and_hold():
    risk = {"orders": {"weight_per_symbol_max": 0.1}}
    run = run_plan(plan_of(strategy={"name": "hold"}, risk=risk), PANEL, {})
    first = run.orders[:2]
    np.testing.assert_allclose(first["quantity"] * first["price"], [1_000.0, 1_000.0])
    assert run.cycles.cycles == len(PANEL)
    halted = run_plan(plan_of(strategy={"name": "hold"}, risk={"halt": True}), PANEL, {})
    assert len(halted.orders) == 0
    assert halted.cycles.document()["refusals"] == {"kill_switch": 2 * len(PANEL)}
    assert run_plan(plan_of(strategy={"name": "hold"}), PANEL, {}).cycles is None


def test_trades_are_driven_bar_by_bar():
    """3 % of 10,000, at bar 0; held, it is added to once the spacing of a symbol allows."""
    plan = plan_of(strategy={"name": "buy"})
    assert not plan.is_compiled
    run = run_plan(plan, PANEL, {})
    first = run.orders[0]
    assert first["quantity"] * first["price"] == pytest.approx(300.0)
    assert run.targets is None
    again = drive_cycles(plan, PANEL, {}, compute(plan, PANEL, {}).stages)
    assert again.orders.tobytes() == run.orders.tobytes()


def test_stops_and_targets_rest_with_a_position_in_a_book_with_details():
    plain = run_plan(plan_of(strategy={"name": "buy"}), PANEL, {})
    assert len(plain.terms) == 0
    detailed = run_plan(plan_of(strategy={"name": "buy"}, margin={"leverage": 5}), PANEL, {})
    terms = detailed.terms[0]
    assert (terms["stop_loss"], terms["take_profit"]) == (0.05, 0.1)


def test_weights_and_budgets_of_several_strategies():
    both = run_plan(plan_of(strategies=shared("hold", "short")), PANEL, {})
    # 0.5 * 0.5 - 0.5 * 0.5 of S0, 0.5 * 0.25 of S1
    first = both.orders[both.orders["time_index"] == 0]
    assert first["symbol"].tolist() == [1]
    np.testing.assert_allclose(first["quantity"] * first["price"], [1_250.0])
    np.testing.assert_array_equal(both.targets.direction[0], [0, 1, 0])
    twice = plan_of(strategies=shared("hold", "hold"))
    assert [each.label for each in twice.strategies] == ["hold_1", "hold_2"]
    one = plan_of(strategies=shared("both", "buy", trades_per_cycle_max=1))
    run = run_plan(one, PANEL, {})
    assert run.orders[run.orders["time_index"] == 0]["symbol"].tolist() == [0]
    none = run_plan(plan_of(strategies=shared("both", at_risk_max=0.01)), PANEL, {})
    assert len(none.orders) == 0
    assert none.cycles.refusals["strategy_cap"] > 0


def test_a_strategy_of_ones_own_is_a_registry_away():
    def decide(data: StrategyInput, _: ConfigRecord) -> Targets:
        rising = np.diff(data.panel.close, axis=0, prepend=data.panel.close[:1]) > 0
        weights = rising / rising.shape[1]
        return Targets(rising.astype(np.int8), weights, weights)

    registry = {"rising": TargetStrategy(ConfigRecord, decide)}
    content = {"strategy": {"name": "rising"}, "data": {"panel": "p.csv"}}
    run = run_portfolio(parse_portfolio_config(content, registry), PANEL, {}, registry)
    assert len(run.fills) > 0


def test_the_strategy_of_the_documentation_is_causal():
    page = (ROOT / "docs" / "portfolio.md").read_text(encoding="utf-8")
    module: dict[str, Any] = {}
    exec(page.split("```python\n# my_package.py\n")[1].split("```")[0], module)
    registry = {"rising": module["RISING"]}
    content = {
        "strategy": {"name": "rising", "parameters": {"bars": 3}},
        "data": {"panel": "p.csv"},
    }
    plan = plan_run(parse_portfolio_config(content, registry), (), registry)
    panel = panel_of(5, 20, 4, 0.1)
    batch = run_plan(plan, panel, {})
    assert len(batch.fills) > 0
    afresh = drive_cycles(plan, panel, {}, plan.stages())
    assert batch.equity.tobytes() == afresh.equity.tobytes()


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        ({}, "strategy", "is missing"),
        ({"strategy": {"name": "hold"}, "strategies": shared("hold")}, "strategy", "beside"),
        ({"strategies": shared("hold", "buy")}, "strategies", "some decide targets"),
        ({"strategies": [{"name": "hold"}]}, "strategies.0.weight", "missing"),
        ({"strategies": shared("hold", "hodl")}, "strategies.1.name", "did you mean hold?"),
        (
            {"strategies": shared("hold", parameters={"x": 1})},
            "strategies.0.parameters.x",
            "no field",
        ),
    ],
)
def test_what_is_no_list_of_strategies(content: dict[str, Any], field: str, said: str):
    with pytest.raises(InvalidRequestError) as refused:
        config_of(**content)
    found = {each.field: each.description for each in refused.value.violations}
    assert said in found[field]


@pytest.mark.parametrize(
    ("name", "section", "field"),
    [
        ("hold", {"risk": {"trades": {"drawdown_max": 0.1}}}, "risk.trades"),
        ("buy", {"risk": {"stops": {"drawdown_max": 0.1}}}, "risk.stops"),
        ("hold", {"risk": {"stops": {"realized_volatility_max": 1.0}}}, "risk.leader"),
    ],
)
def test_a_key_that_nothing_would_read_is_refused(name: str, section: Any, field: str):
    with pytest.raises(InvalidRequestError) as refused:
        config_of(strategy={"name": name}, **section)
    assert [each.field for each in refused.value.violations] == [field]


def test_a_budget_of_trades_is_none_of_targets():
    with pytest.raises(InvalidRequestError) as refused:
        config_of(strategies=shared("hold", "short", at_risk_max=0.1))
    found = [each.field for each in refused.value.violations]
    assert found == ["strategies.0.at_risk_max", "strategies.1.at_risk_max"]


def test_instruments_that_the_panel_does_not_have_are_named():
    plan = plan_of(
        strategy={"name": "hold"}, universe={"symbols": ["s0", "S9"]}, risk={"leader": "XX"}
    )
    with pytest.raises(InvalidRequestError) as refused:
        run_plan(plan, PANEL, {})
    found = [each.field for each in refused.value.violations]
    assert found == ["universe.symbols.1", "risk.leader"]


def test_a_strategy_that_raises_is_an_error_of_the_run():
    def decide(data: StrategyInput, _: ConfigRecord) -> Targets:
        raise KeyError("sentiment")

    registry = {"moody": TargetStrategy(ConfigRecord, decide)}
    content = {"strategy": {"name": "moody"}, "data": {"panel": "p.csv"}}
    with pytest.raises(CycleFailedError, match=r"signals of moody .* KeyError: 'sentiment'"):
        run_portfolio(parse_portfolio_config(content, registry), PANEL, {}, registry)


def test_a_plain_configuration_stays_a_plain_document():
    document = config_of(strategy={"name": "hold"}).model_dump(mode="json")
    assert set(document) == {
        *("strategy", "data", "initial_cash", "costs", "fill", "compounding", "mode"),
    }
    full = config_of(strategy={"name": "hold"}, risk={"halt": True}, failed_cycles_max=3)
    assert full.model_dump(mode="json")["failed_cycles_max"] == 3
    assert full.model_dump(mode="json")["risk"]["halt"] is True
