"""A session fed bar by bar is the backtest, to the bit: with limits, over a cut, on any bars."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.backtest.portfolio_session import PortfolioSession
from backlane.backtest.session_bars import rows_of, setup_of
from backlane.backtest.session_records import BarReport, SessionSetup
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import TargetStrategy
from backlane.execution.target_orders import BookOrderOutcome
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from tests.property.cycle_worlds import world_of
from tests.property.portfolio_panels import panel_of
from tests.property.test_portfolio_laws import STRATEGY_PARAMETERS, events_of

LAW = settings(
    deadline=None,
    derandomize=True,
    max_examples=10,
    suppress_health_check=[HealthCheck.too_slow],
)
pytestmark = pytest.mark.slow
cases = st.tuples(
    st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4), st.sampled_from((0.0, 0.15))
)
TARGETS = [
    (name, each)
    for name, choices in STRATEGY_PARAMETERS.items()
    for each in choices
    if isinstance(BUILT_IN[name], TargetStrategy)
]
every_strategy = pytest.mark.parametrize(
    ("name", "parameters"), TARGETS, ids=[f"{name}-{at}" for at, (name, _) in enumerate(TARGETS)]
)
LIMITS = {
    "stops": {"daily_loss_max": 0.02, "weekly_loss_max": 0.04, "drawdown_max": 0.06},
    "orders": {"weight_per_symbol_max": 0.4, "turnover_max": 0.8},
}
MORE: list[dict[str, Any]] = [
    {},
    {"fill": "this_close", "compounding": False},
    {"risk": LIMITS},
    {"execution": {"participation_max": 0.01, "expires_bars": 3}},
    {"execution": {"lot_size": 0.5, "bracket": {"stop_loss": 0.02}}, "margin": {"leverage": 0.8}},
    {
        "execution": {
            "session": "nyse",
            "delistings": [{"symbol": "S0", "time": "1970-01-09T00:00:00Z", "price": 40.0}],
        }
    },
]


def content_of(name: str, parameters: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "strategy": {"name": name, "parameters": dict(parameters)},
        "data": {"panel": "panel.csv", "events": {"insider": "i.csv", "shipping": "s.csv"}},
        "initial_cash": 10_000,
        "costs": {"commission_bps": 1.0, "half_spread_bps": 2.5, "impact_bps": 5.0},
        **more,
    }


def followed(
    setup: SessionSetup, panel: Panel, events: Mapping[str, Events], cut: int
) -> tuple[PortfolioRun, list[BarReport]]:
    """What a session gave that is put away after `cut` bars, and goes on from its state."""
    session, reports = PortfolioSession(setup), []
    for bar in rows_of(panel, events):
        if bar.number == cut + 1:
            state = session.state()
            session = PortfolioSession(setup)
            session.restore(state)
        reports.append(session.feed(bar))
    return session.finish(), reports


def assert_told(run: PortfolioRun, reports: list[BarReport]) -> None:
    """Everything in the run was told, once, at its bar."""
    symbols = run.panel.symbols
    orders = [
        (at, each.number, each.symbol, each.quantity)
        for at, report in enumerate(reports)
        for each in report.orders
    ]
    assert orders == [
        (int(each["time_index"]), at + 1, symbols[each["symbol"]], each["quantity"])
        for at, each in enumerate(run.orders)
    ]
    fills = [
        (at, each.order, each.quantity, each.price, each.cost, each.cash_after)
        for at, report in enumerate(reports)
        for each in report.fills
    ]
    names = ("quantity", "price", "cost", "cash_after")
    assert fills == [
        (int(each["time_index"]), int(each["order"]) + 1, *(float(each[name]) for name in names))
        for each in run.fills
    ]
    assert [each.equity for each in reports] == run.equity.tolist()
    assert [each.cash for each in reports] == run.cash.tolist()
    held = {each.symbol: each.quantity for each in reports[-1].positions}
    assert held == {
        symbols[column]: run.quantity[column] for column in np.flatnonzero(run.quantity).tolist()
    }
    ended = [each for report in reports for each in report.ended]
    assert len({each.number for each in ended}) == len(ended)
    outcomes = {each.number: each.outcome for each in ended}
    for at, order in enumerate(run.orders):
        expected = BookOrderOutcome(int(order["outcome"])).name.lower()
        # Only at its end does a session know that there is no further bar.
        assert outcomes.get(at + 1, "end_of_data") == expected


def assert_same(one: PortfolioRun, other: PortfolioRun) -> None:
    for name in ("orders", "fills", "trades", "equity", "cash", "base", "quantity", "last_close"):
        left, right = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert left.tobytes() == right.tobytes(), name
    assert one.cycles == other.cycles


@every_strategy
@LAW
@given(case=cases, more=st.sampled_from(MORE), share=st.floats(0, 1))
def test_a_session_is_the_backtest(
    name: str,
    parameters: Mapping[str, Any],
    case: tuple[int, int, int, float],
    more: dict[str, Any],
    share: float,
) -> None:
    panel = panel_of(*case)
    events = events_of(case[0], panel)
    content = content_of(name, parameters, more)
    run = run_portfolio(parse_portfolio_config(content), panel, events)
    told, reports = followed(setup_of(content, panel, events), panel, events, int(share * case[1]))
    assert_same(run, told)
    assert_told(run, reports)


@settings(LAW, max_examples=6)
@given(
    seed=st.integers(0, 10_000),
    share=st.floats(0, 1),
    limits=st.sampled_from(({}, {"open_positions_max": 1, "daily_loss_max": 0.005})),
)
def test_so_it_is_where_trades_are_proposed(
    seed: int, share: float, limits: dict[str, Any]
) -> None:
    world = world_of("trigger_rules", seed, 70, 0.0)
    content = {**world.content, "risk": {"trades": {**world.content["risk"]["trades"], **limits}}}
    panel, events = world.panel, world.events
    run = run_portfolio(parse_portfolio_config(content), panel, events)
    told, reports = followed(setup_of(content, panel, events), panel, events, int(share * 70))
    assert_same(run, told)
    assert_told(run, reports)


def test_trades_are_proposed_at_all() -> None:
    world = world_of("trigger_rules", 1, 70, 0.0)
    run = run_portfolio(parse_portfolio_config(world.content), world.panel, world.events)
    assert len(run.fills) > 0
