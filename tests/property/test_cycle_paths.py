"""Batch and cycle are one (SPEC C4, 1 to 5): computed at once, or afresh out of each context."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlane.backtest.portfolio_cycle import RunPlan, compute, drive_cycles, run_plan
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import TargetStrategy
from tests.property.portfolio_panels import panel_of
from tests.property.test_portfolio_laws import STRATEGY_PARAMETERS, events_of

PATHS = settings(
    deadline=None,
    derandomize=True,
    max_examples=12,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
cases = st.tuples(
    st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4), st.sampled_from((0.0, 0.15))
)
sections = st.fixed_dictionaries(
    {
        "fill": st.sampled_from(("next_open", "this_close")),
        "compounding": st.booleans(),
        "universe": st.sampled_from(
            (
                {},
                {"excluded": ["s0"]},
                {"history_bars_min": 8},
                {"traded_value_min": 250_000.0, "traded_value_bars": 3},
            )
        ),
    }
)
EVERY = [(name, each) for name, choices in STRATEGY_PARAMETERS.items() for each in choices]
# What a book with details compiles takes most of it, once for each state of the sources.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
every_strategy = pytest.mark.parametrize(
    ("name", "parameters"), EVERY, ids=[f"{name}-{at}" for at, (name, _) in enumerate(EVERY)]
)


def plan_of(strategies: list[tuple[str, Mapping[str, Any], float]], **more: Any) -> RunPlan:
    if len(strategies) == 1:
        name, parameters, _ = strategies[0]
        named: dict[str, Any] = {"strategy": {"name": name, "parameters": dict(parameters)}}
    else:
        named = {
            "strategies": [
                {"name": name, "parameters": dict(parameters), "weight": weight}
                for name, parameters, weight in strategies
            ]
        }
    content = {
        **named,
        "data": {"panel": "panel.csv", "events": {"insider": "i.csv", "shipping": "s.csv"}},
        "initial_cash": 10_000,
        "costs": {"commission_bps": 1.0, "half_spread_bps": 2.5, "impact_bps": 5.0},
        **more,
    }
    return plan_run(parse_portfolio_config(content), ("insider", "shipping"))


def assert_same(one: PortfolioRun, other: PortfolioRun) -> None:
    for name in ("orders", "fills", "trades", "equity", "cash", "base", "quantity", "last_close"):
        left, right = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert left.tobytes() == right.tobytes(), name


@every_strategy
@PATHS
@given(case=cases, more=sections)
def test_a_cycle_on_each_truncated_context_is_the_batch(
    name: str,
    parameters: Mapping[str, Any],
    case: tuple[int, int, int, float],
    more: dict[str, Any],
) -> None:
    plan, panel = plan_of([(name, parameters, 1.0)], **more), panel_of(*case)
    events = events_of(case[0], panel)
    batch = run_plan(plan, panel, events)
    assert_same(batch, drive_cycles(plan, panel, events, compute(plan, panel, events).stages))
    assert_same(batch, drive_cycles(plan, panel, events, plan.stages()))


TARGETS = [each for each in EVERY if isinstance(BUILT_IN[each[0]], TargetStrategy)]
DETAILS: list[dict[str, Any]] = [
    {"execution": {"participation_max": 0.01, "expires_bars": 3}},
    {"execution": {"lot_size": 5, "bracket": {"stop_loss": 0.02, "take_profit": 0.03}}},
    {"margin": {"leverage": 0.8}, "execution": {"lot_size": 0.1}},
]


@pytest.mark.parametrize("details", DETAILS, ids=["participation", "bracket", "margin"])
@settings(PATHS, max_examples=4)
@given(case=cases, compounding=st.booleans())
def test_so_it_is_for_a_book_with_details(
    details: dict[str, Any], case: tuple[int, int, int, float], compounding: bool
) -> None:
    named = [(*TARGETS[0], 1.0)]
    plan, panel = plan_of(named, compounding=compounding, **details), panel_of(*case)
    events = events_of(case[0], panel)
    assert_same(run_plan(plan, panel, events), drive_cycles(plan, panel, events, plan.stages()))


@PATHS
@given(
    case=cases,
    more=sections,
    chosen=st.lists(st.sampled_from(range(len(TARGETS))), min_size=2, max_size=3),
    weights=st.lists(st.floats(0.1, 0.6), min_size=3, max_size=3),
)
def test_so_it_is_for_several_strategies(
    case: tuple[int, int, int, float],
    more: dict[str, Any],
    chosen: list[int],
    weights: list[float],
) -> None:
    named = [(*TARGETS[at], weight) for at, weight in zip(chosen, weights, strict=False)]
    plan, panel = plan_of(named, **more), panel_of(*case)
    events = events_of(case[0], panel)
    assert plan.is_compiled
    assert_same(run_plan(plan, panel, events), drive_cycles(plan, panel, events, plan.stages()))


@every_strategy
@PATHS
@given(case=cases, more=sections, share=st.floats(0, 1))
def test_with_limits_the_future_changes_nothing(
    name: str,
    parameters: Mapping[str, Any],
    case: tuple[int, int, int, float],
    more: dict[str, Any],
    share: float,
) -> None:
    """SPEC C4, 1 and 3: a run with every kind of limit, cut at a bar, is the run up to there."""
    losses = {"daily_loss_max": 0.02, "weekly_loss_max": 0.04, "drawdown_max": 0.06}
    risk = {
        "stops" if isinstance(BUILT_IN[name], TargetStrategy) else "trades": losses,
        "orders": {
            "weight_per_symbol_max": 0.4,
            "turnover_max": 0.8,
            "drawdown_threshold": 0.03,
            "de_risk_scale": 0.5,
        },
    }
    plan, panel = plan_of([(name, parameters, 1.0)], risk=risk, **more), panel_of(*case)
    assert not plan.is_compiled
    events = events_of(case[0], panel)
    stop = max(1, int(share * len(panel)))
    as_of_ns = int(panel.known_ns[stop - 1])
    known = {source: each.until(as_of_ns) for source, each in events.items()}
    whole, cut = run_plan(plan, panel, events), run_plan(plan, panel.until(as_of_ns), known)
    assert whole.equity[:stop].tobytes() == cut.equity.tobytes()
    is_before = whole.orders["time_index"] < stop
    for field in ("time_index", "symbol", "quantity", "price"):
        np.testing.assert_array_equal(whole.orders[field][is_before], cut.orders[field])
