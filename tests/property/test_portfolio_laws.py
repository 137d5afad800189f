"""Laws of the simulator of portfolios (SPEC C4), over panels with gaps and any weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backlane.backtest.portfolio_config import PortfolioConfig
from backlane.backtest.portfolio_result import PortfolioRun, Targets
from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.backtest.portfolio_simulator import FillTime, simulate_portfolio
from backlane.cycle.strategies import BUILT_IN
from backlane.execution.cost_model import CostModel
from backlane.execution.target_orders import MIN_ORDER_QUANTITY, BookOrderOutcome
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from tests.property.portfolio_panels import DAY_NS, panel_of, weights_of

LAW = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.filter_too_much],
)
CASH = 10_000.0
COSTS = CostModel.linear(1.0, 2.5, 5.0)
# Sums of some hundred amounts of money around 1e4 round at 1e-12 of them each.
MONEY_ATOL = 1e-6


def targets_of(weights: NDArray[np.float64]) -> Targets:
    return Targets(np.sign(np.nan_to_num(weights)).astype(np.int8), weights, weights)


cases = st.tuples(
    st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4), st.sampled_from((0.0, 0.15))
)
modes = st.fixed_dictionaries({"fill": st.sampled_from(FillTime), "compounding": st.booleans()})


def simulate(case: tuple[int, int, int, float], costs: CostModel, **mode: Any) -> PortfolioRun:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    return simulate_portfolio(panel, targets_of(weights), initial_cash=CASH, costs=costs, **mode)


@LAW
@given(case=cases, mode=modes)
def test_money_is_conserved(case: tuple[int, int, int, float], mode: Mapping[str, Any]) -> None:
    run = simulate(case, COSTS, **mode)
    gross, cost = float(run.trades["gross_pnl"].sum()), float(run.trades["cost"].sum())
    assert run.final_equity == pytest.approx(CASH + gross - cost, abs=MONEY_ATOL)
    assert cost == pytest.approx(run.total_cost, abs=MONEY_ATOL)
    held = np.where(run.quantity != 0, run.quantity * run.last_close, 0.0)
    assert run.final_equity == pytest.approx(run.cash[-1] + held.sum(), abs=MONEY_ATOL)


@LAW
@given(case=cases, fill=st.sampled_from(FillTime))
def test_costs_are_charged_once_and_zero_rates_cost_nothing(
    case: tuple[int, int, int, float], fill: FillTime
) -> None:
    free = simulate(case, CostModel(), fill=fill, compounding=False)
    zero = simulate(case, CostModel.linear(0.0, 0.0, 0.0), fill=fill, compounding=False)
    paid = simulate(case, COSTS, fill=fill, compounding=False)
    assert np.array_equal(free.equity, zero.equity)
    costs = np.zeros(len(paid.equity))
    np.add.at(costs, paid.fills["time_index"], paid.fills["cost"])
    np.testing.assert_allclose(paid.equity, free.equity - np.cumsum(costs), rtol=0, atol=MONEY_ATOL)


@LAW
@given(case=cases, mode=modes, share=st.floats(0, 1))
def test_truncation_changes_nothing_before(
    case: tuple[int, int, int, float], mode: Mapping[str, Any], share: float
) -> None:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    stop = max(1, int(share * len(panel)))
    whole = simulate_portfolio(panel, targets_of(weights), initial_cash=CASH, **mode)
    cut = simulate_portfolio(
        panel.until(int(panel.known_ns[stop - 1])),
        targets_of(weights[:stop]),
        initial_cash=CASH,
        **mode,
    )
    assert_same_until(whole, cut, stop)


@LAW
@given(case=cases, mode=modes, share=st.floats(0, 1))
def test_the_future_changes_nothing_before(
    case: tuple[int, int, int, float], mode: Mapping[str, Any], share: float
) -> None:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    stop = max(1, int(share * len(panel)))
    order = np.arange(len(panel))
    order[stop:] = np.random.default_rng(case[0]).permutation(order[stop:])
    assert panel.volume is not None
    shuffled = Panel(
        panel.symbols,
        panel.time_ns,
        panel.known_ns,
        panel.open[order],
        panel.high[order],
        panel.low[order],
        panel.close[order],
        panel.volume[order],
    )
    runs = [
        simulate_portfolio(each, targets_of(weights), initial_cash=CASH, **mode)
        for each in (panel, shuffled)
    ]
    assert_same_until(*runs, stop)


def assert_same_until(one: PortfolioRun, other: PortfolioRun, stop: int) -> None:
    assert np.array_equal(one.equity[:stop], other.equity[:stop])
    assert np.array_equal(one.cash[:stop], other.cash[:stop])
    for name in ("time_index", "symbol", "quantity", "price"):
        ours, theirs = (run.orders[run.orders["time_index"] < stop][name] for run in (one, other))
        assert np.array_equal(ours, theirs)
    for name in ("time_index", "symbol", "quantity", "price", "cost", "cash_after"):
        ours, theirs = (run.fills[run.fills["time_index"] < stop][name] for run in (one, other))
        assert np.array_equal(ours, theirs)


@LAW
@given(case=cases, mode=modes)
def test_going_flat_closes_everything(
    case: tuple[int, int, int, float], mode: Mapping[str, Any]
) -> None:
    panel = panel_of(*case)
    assume(len(panel) > 3 and not np.isnan(panel.open[-1]).any())
    weights = weights_of(case[0], panel.close.shape)
    weights[-2:] = 0.0
    assume(not np.isnan(panel.close[-2:]).any())
    run = simulate_portfolio(panel, targets_of(weights), initial_cash=CASH, **mode)
    assert np.all(np.abs(run.quantity) <= MIN_ORDER_QUANTITY)


@LAW
@given(case=cases, mode=modes)
def test_expired_orders_move_nothing(
    case: tuple[int, int, int, float], mode: Mapping[str, Any]
) -> None:
    run = simulate(case, COSTS, **mode)
    filled = np.flatnonzero(run.orders["outcome"] == BookOrderOutcome.FILLED)
    assert sorted(run.fills["order"].tolist()) == filled.tolist()
    moved = np.zeros(len(run.quantity))
    np.add.at(moved, run.fills["symbol"], run.fills["quantity"])
    np.testing.assert_allclose(run.quantity, moved, rtol=1e-12, atol=1e-12)


def plain_engine(
    panel: Panel, weights: NDArray[np.float64], fill: FillTime, *, compounding: bool
) -> list[float]:
    """SPEC B9 once more, one timestamp after the other, in dicts."""
    cash, curve = CASH, []
    held: dict[int, float] = {}
    last: dict[int, float] = {}
    waiting: dict[int, float] = {}
    for bar in range(len(panel)):
        for symbol, units in waiting.items():
            price = panel.open[bar, symbol]
            if not np.isnan(price):
                cash -= units * price + abs(units) * price * COSTS.linear_rate
                held[symbol] = held.get(symbol, 0.0) + units
        waiting = {}
        closes = enumerate(panel.close[bar])
        last.update({symbol: close for symbol, close in closes if not np.isnan(close)})
        base = CASH
        if compounding:
            base = max(cash + sum(units * last[symbol] for symbol, units in held.items()), 0.0)
        for symbol, weight in enumerate(weights[bar]):
            close = panel.close[bar, symbol]
            if np.isnan(weight) or (weight != 0 and np.isnan(close)):
                continue
            target = weight * base / close if weight != 0 else 0.0
            units = target - held.get(symbol, 0.0)
            if abs(units) <= 1e-6:
                continue
            if fill is FillTime.NEXT_OPEN:
                waiting[symbol] = units
            elif not np.isnan(close):
                cash -= units * close + abs(units) * close * COSTS.linear_rate
                held[symbol] = held.get(symbol, 0.0) + units
        curve.append(cash + sum(units * last[symbol] for symbol, units in held.items()))
    return curve


@LAW
@given(case=cases, mode=modes)
def test_the_compiled_path_is_the_plain_one(
    case: tuple[int, int, int, float], mode: Mapping[str, Any]
) -> None:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    run = simulate_portfolio(panel, targets_of(weights), initial_cash=CASH, costs=COSTS, **mode)
    curve = plain_engine(panel, weights, mode["fill"], compounding=mode["compounding"])
    # SPEC C4.5: equity within 1e-9; money around 1e4.
    np.testing.assert_allclose(run.equity, curve, rtol=1e-9, atol=1e-5)


# --- through the strategies ---------------------------------------------------------------------


STRATEGY_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "trend_baseline": [
        {"fast": 2, "slow": 5, "volume_filter": filter_name}
        for filter_name in ("none", "expanding_mean")
    ],
    "event_insider_shipping": [
        {"insider_net_buy_threshold": 1, "insider_net_sell_threshold": -1, **more}
        for more in ({"rule": "both"}, {"rule": "weighted", "sides": "long_only"})
    ],
    "multifactor_long_short": [
        {
            "factors": [
                {"name": "trend_strength_20", "weight": 0.6},
                {"name": "rv_20", "weight": 0.4, "direction": "negative"},
            ],
            "rebalance": "W",
        }
    ],
    "trigger_rules": [
        {
            "leader": "S0",
            "instruments": {
                symbol: {"tier": 1, "spread_bps": 5.0, "depth": 1e6, "volume_24h": 1e9}
                for symbol in ("S0", "S1", "S2")
            },
            "triggers": {"has_atr_filter": False},
        }
    ],
}


def config_of(name: str, parameters: Mapping[str, Any]) -> PortfolioConfig:
    return parse_portfolio_config(
        {
            "strategy": {"name": name, "parameters": dict(parameters)},
            "data": {"panel": "panel.csv", "events": {"insider": "i.csv", "shipping": "s.csv"}},
        }
    )


def events_of(seed: int, panel: Panel) -> dict[str, Events]:
    """About one event for each bar, disclosed up to nine days later."""
    rng = np.random.default_rng(seed + 2)
    events = {}
    columns = (("insider", "net_shares", -50, 50), ("shipping", "congestion_score", 0, 100))
    for source, column, low, high in columns:
        count = len(panel)
        event_ns = rng.integers(0, len(panel), count) * DAY_NS
        known_ns = np.sort(event_ns + rng.integers(0, 10, count) * DAY_NS)
        symbol = rng.integers(0, len(panel.symbols), count)
        values = rng.uniform(low, high, count)
        event_ns = np.minimum(event_ns, known_ns)
        events[source] = Events(panel.symbols, symbol, event_ns, known_ns, {column: values})
    return events


every_strategy = pytest.mark.parametrize(
    ("name", "parameters"),
    [(name, each) for name, choices in STRATEGY_PARAMETERS.items() for each in choices],
)


def test_every_strategy_is_under_the_laws() -> None:
    assert set(STRATEGY_PARAMETERS) == set(BUILT_IN)


@every_strategy
@LAW
@given(case=cases, share=st.floats(0, 1))
def test_runs_do_not_see_the_future(
    name: str, parameters: Mapping[str, Any], case: tuple[int, int, int, float], share: float
) -> None:
    panel, config = panel_of(*case), config_of(name, parameters)
    events = events_of(case[0], panel)
    stop = max(1, int(share * len(panel)))
    as_of_ns = int(panel.known_ns[stop - 1])
    known = {source: each.until(as_of_ns) for source, each in events.items()}
    cut = run_portfolio(config, panel.until(as_of_ns), known)
    assert_same_until(run_portfolio(config, panel, events), cut, stop)


@every_strategy
def test_strategies_of_the_laws_do_trade(name: str, parameters: Mapping[str, Any]) -> None:
    panel = panel_of(3, 40, 4, 0.1)
    run = run_portfolio(config_of(name, parameters), panel, events_of(3, panel))
    assert len(run.fills) > 0


@LAW
@given(case=cases, share=st.floats(0, 1))
def test_a_late_disclosure_has_no_effect_before(
    case: tuple[int, int, int, float], share: float
) -> None:
    panel = panel_of(*case)
    config = config_of("event_insider_shipping", STRATEGY_PARAMETERS["event_insider_shipping"][1])
    events = events_of(case[0], panel)
    stop = max(1, int(share * len(panel)))
    as_of_ns = int(panel.known_ns[stop - 1])
    # Those disclosed in the last three days before T are withheld until after T: as if unknown.
    withheld, without = {}, {}
    for source, each in events.items():
        is_late = (each.known_ns > as_of_ns - 3 * DAY_NS) & (each.known_ns <= as_of_ns)
        known_ns = np.where(is_late, as_of_ns + 1, each.known_ns)
        order = np.argsort(known_ns, kind="stable")
        withheld[source] = Events(
            each.symbols,
            each.symbol_index[order],
            each.event_ns[order],
            known_ns[order],
            {column: values[order] for column, values in each.values.items()},
        )
        without[source] = each.until(as_of_ns - 3 * DAY_NS)
    runs = [run_portfolio(config, panel, each) for each in (withheld, without)]
    assert_same_until(*runs, stop)


def test_the_full_sample_filter_does_see_the_future() -> None:
    panel = panel_of(3, 40, 3, 0.0)
    config = config_of("trend_baseline", {"fast": 2, "slow": 5, "volume_filter": "full_sample"})
    assert panel.volume is not None
    busy_later = panel.volume.copy()
    busy_later[25:] *= 100.0
    changed = replace(panel, volume=busy_later)
    runs = [run_portfolio(config, each, {}) for each in (panel, changed)]
    assert not np.array_equal(runs[0].equity[:25], runs[1].equity[:25])
