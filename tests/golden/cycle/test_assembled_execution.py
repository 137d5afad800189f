"""Orders, fills, cash and equity of many instruments against the `assembled` vectors.

Matched: `shares_*`, `ref_*` and unprefixed columns, at rtol 1e-8 for equity and exact counts and
sides. Deviations, each with its paragraph of SPEC part C:

- Q6: an empty target frame closes everything; `upstream_orders` of such cases are not matched.
- Q11, flags: where all scores are equal, upstream marks every symbol long and short and sends both
  orders; ours nets the weights of an instrument. `trailing_W_cost_mtm` differs by their cost.
- Q14: `upstream_equity` of the gaps values a missing close at 0; `ref_last_price` is matched.
- metrics: 10 % rescaling, drawdown by the global peak, a leading return of 0 and returns relative
  to the start capital are not imitated; the fields that this does not touch are matched.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from backlane.backtest.portfolio_metrics import portfolio_metrics
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_simulator import FillTime, replay_orders, simulate_portfolio
from backlane.execution.cost_model import CostModel
from backlane.execution.target_orders import MIN_ORDER_QUANTITY, orders_from_targets
from tests.golden.cycle.assembled import (
    ASSEMBLED,
    capital,
    costs,
    crossing_costs,
    load_json,
    load_panel,
    load_rows,
    needs_assembled,
    order_records,
    symbol_indices,
    targets_of,
    time_indices,
    weight_grid,
)

pytestmark = needs_assembled

EQUITY_RTOL = 1e-8  # the README's own
FEATURE_RTOL = 1e-9
NO_COSTS = CostModel()
IS_THERE = ASSEMBLED.is_dir()


def assert_equity(run: PortfolioRun, column: pd.Series) -> None:
    np.testing.assert_allclose(run.equity, column.to_numpy(), rtol=EQUITY_RTOL, atol=0)


# --- orders from targets ------------------------------------------------------------------------


def order_cases() -> list[Any]:
    cases = load_json("orders_from_targets.json") if IS_THERE else []
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", order_cases())
def test_orders_from_targets(case: dict[str, Any]) -> None:
    symbols = sorted({*case["targets"], *case["positions"]})
    targets = np.array([float(case["targets"].get(name, 0.0)) for name in symbols])
    positions = np.array([float(case["positions"].get(name, 0.0)) for name in symbols])
    delta = orders_from_targets(targets, positions)
    orders = [
        (name, "BUY" if units > 0 else "SELL", abs(units))
        for name, units in zip(symbols, delta, strict=True)
        if units != 0
    ]
    expected = [(o["symbol"], o["side"], o["qty"]) for o in case["reference_orders"]]
    assert [order[:2] for order in orders] == [order[:2] for order in expected]
    assert [order[2] for order in orders] == pytest.approx(
        [order[2] for order in expected], rel=1e-12
    )
    if case["agrees"]:
        after = dict(zip(symbols, positions + delta, strict=True))
        held = {name: q for name, q in after.items() if abs(q) > MIN_ORDER_QUANTITY}
        assert held == pytest.approx(case["upstream_positions_after"], rel=1e-12)


# --- recorded orders ----------------------------------------------------------------------------


def test_recorded_orders_without_costs() -> None:
    panel = load_panel()
    orders = order_records(panel, load_rows("sim_orders.csv"))
    run = replay_orders(panel, orders, initial_cash=capital())
    assert_equity(run, load_rows("sim_equity.csv")["nocost_mtm"])
    assert len(run.fills) == load_json("sim_metrics.json")["nocost_all"]["total_trades"]


def test_recorded_orders_with_costs() -> None:
    panel, expected = load_panel(), load_rows("sim_equity.csv")
    orders = order_records(panel, load_rows("sim_orders.csv"))
    run = replay_orders(panel, orders, initial_cash=capital(), costs=costs())
    assert_equity(run, expected["cost_mtm"])
    np.testing.assert_allclose(run.cash, expected["cost_cash"], rtol=EQUITY_RTOL, atol=1e-6)


def test_gaps_late_listings_and_delistings_are_valued_at_the_last_price() -> None:
    panel = load_panel("gap_panel.csv")
    orders = order_records(panel, load_rows("gap_orders.csv"))
    run = replay_orders(panel, orders, initial_cash=10_000.0)  # the README's capital of this case
    assert_equity(run, load_rows("gap_equity.csv")["ref_last_price"])


@pytest.mark.parametrize("name", ["trend", "event"])
@pytest.mark.parametrize(
    ("column", "with_costs"),
    [("shares_nocost_flatsafe", False), ("shares_cost_mtm_flatsafe", True)],
)
def test_recorded_orders_of_strategies(name: str, column: str, with_costs: bool) -> None:
    panel = load_panel()
    orders = order_records(panel, load_rows(f"{name}_orders_shares.parquet"))
    run = replay_orders(
        panel, orders, initial_cash=capital(), costs=costs() if with_costs else NO_COSTS
    )
    assert_equity(run, load_rows(f"{name}_equity.csv")[column])


# --- targets ------------------------------------------------------------------------------------

TREND_VARIANTS = {
    "shares_nocost_flatsafe": (False, FillTime.THIS_CLOSE, False),
    "shares_cost_mtm_flatsafe": (True, FillTime.THIS_CLOSE, False),
    "ref_close_nocost": (False, FillTime.THIS_CLOSE, False),
    "ref_close_cost": (True, FillTime.THIS_CLOSE, False),
    "ref_nextopen_cost": (True, FillTime.NEXT_OPEN, False),
    "ref_nextopen_cost_compound": (True, FillTime.NEXT_OPEN, True),
}


def trend_run(column: str) -> PortfolioRun:
    panel = load_panel()
    with_costs, fill, compounding = TREND_VARIANTS[column]
    weights = weight_grid(panel, load_rows("trend_targets_shares.parquet"), every_bar=True)
    return simulate_portfolio(
        panel,
        targets_of(weights),
        initial_cash=capital(),
        costs=costs() if with_costs else NO_COSTS,
        fill=fill,
        compounding=compounding,
    )


@pytest.mark.parametrize("column", TREND_VARIANTS)
def test_trend_targets(column: str) -> None:
    run = trend_run(column)
    assert_equity(run, load_rows("trend_equity.csv")[column])
    recorded = load_json("trend_metrics.json").get(column, {})
    if "n_trades" in recorded:
        assert len(run.fills) == recorded["n_trades"]
        assert run.total_cost == pytest.approx(recorded["total_cost"], rel=EQUITY_RTOL)
    if "reference_metrics" in recorded:
        assert_reference_metrics(
            run, recorded["reference_metrics"], load_rows("trend_equity.csv")[column]
        )


def test_trend_cash() -> None:
    run = trend_run("shares_cost_mtm_flatsafe")
    expected = load_rows("trend_equity.csv")["shares_cost_mtm_cash"]
    # Cash passes through 0, where a relative error says nothing: 1e-8 of the capital.
    np.testing.assert_allclose(run.cash, expected, rtol=EQUITY_RTOL, atol=1e-8 * capital())


def test_trend_orders() -> None:
    run = trend_run("shares_nocost_flatsafe")
    expected = order_records(run.panel, load_rows("trend_orders_shares.parquet"))
    expected = expected[np.lexsort((expected["symbol"], expected["time_index"]))]
    for name in ("time_index", "symbol"):
        assert np.array_equal(run.orders[name], expected[name])
    assert np.array_equal(np.sign(run.orders["quantity"]), np.sign(expected["quantity"]))
    # A quantity is the difference of two targets of some hundred units.
    np.testing.assert_allclose(
        run.orders["quantity"], expected["quantity"], rtol=EQUITY_RTOL, atol=1e-9
    )
    np.testing.assert_array_equal(run.orders["price"], expected["price"])


def test_trend_fills() -> None:
    run = trend_run("ref_nextopen_cost_compound")
    rows = load_rows("trend_trades_ref_nextopen_compound.parquet")
    assert len(run.fills) == len(rows)
    assert np.array_equal(run.fills["time_index"], time_indices(run.panel, rows["timestamp"]))
    assert np.array_equal(run.fills["symbol"], symbol_indices(run.panel, rows["symbol"]))
    signed = np.where(rows["side"] == "BUY", rows["qty"], -rows["qty"])
    np.testing.assert_allclose(run.fills["quantity"], signed, rtol=EQUITY_RTOL, atol=1e-9)
    np.testing.assert_array_equal(run.fills["price"], rows["price"])
    np.testing.assert_allclose(run.fills["cost"], rows["cost_cash"], rtol=EQUITY_RTOL, atol=1e-9)


def test_long_short_events() -> None:
    """Equal weights of gross 1 over both sides, constant capital, at the next open."""
    panel, rows = load_panel(), load_rows("event_features_signals.parquet")
    signs = {"LONG": 1.0, "FLAT": 0.0, "SHORT": -1.0}
    rows["sign"] = rows["ref_direction_and_rule_pit"].map(signs)
    sides = weight_grid(panel, rows, every_bar=True, column="sign")
    count = np.maximum(np.abs(sides).sum(axis=1, keepdims=True), 1.0)
    run = simulate_portfolio(
        panel,
        targets_of(sides / count),
        initial_cash=capital(),
        costs=costs(),
        compounding=False,
    )
    assert_equity(run, load_rows("event_equity.csv")["ref_ls_pit_nextopen_cost"])
    recorded = load_json("event_metrics.json")["ref_ls"]
    assert len(run.fills) == recorded["n_trades"]
    assert_reference_metrics(
        run, recorded, load_rows("event_equity.csv")["ref_ls_pit_nextopen_cost"]
    )


def mf_variants() -> list[tuple[str, str]]:
    names = sorted(ASSEMBLED.glob("mf_signals_*_*.csv")) if IS_THERE else []
    return [tuple(path.stem.removeprefix("mf_signals_").rsplit("_", 1)) for path in names]  # type: ignore[misc]


@pytest.mark.parametrize("with_costs", [False, True])
@pytest.mark.parametrize(("bundle", "frequency"), mf_variants())
def test_multifactor_targets(bundle: str, frequency: str, with_costs: bool) -> None:
    panel, rows = load_panel(), load_rows(f"mf_signals_{bundle}_{frequency}.csv")
    run = simulate_portfolio(
        panel,
        targets_of(weight_grid(panel, rows, every_bar=False)),
        initial_cash=capital(),
        costs=costs() if with_costs else NO_COSTS,
        fill=FillTime.THIS_CLOSE,
        compounding=False,
    )
    column = f"{bundle}_{frequency}_{'cost_mtm' if with_costs else 'nocost'}"
    rate = costs().linear_rate if with_costs else 0.0
    expected = load_rows("mf_equity.csv")[column] + crossing_costs(rows, rate, panel.time_ns)
    assert_equity(run, expected)


# --- metrics ------------------------------------------------------------------------------------


def numbers(values: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values])


def assert_reference_metrics(
    run: PortfolioRun, expected: dict[str, float], curve: pd.Series
) -> None:
    """A flat book whose recorded equity falls by rounding counts as a loss there: Sortino moves."""
    returns = np.diff(curve) / curve.to_numpy()[:-1]
    counts_rounding = bool(((returns < 0) & (returns > -1e-12)).any())
    metrics = portfolio_metrics(run.equity, 252.0)
    ours = {
        "total_return": metrics["total_return"],
        "mean_return": metrics["mean_return"],
        "sharpe_ann": metrics["sharpe_ratio"],
        "sortino_ann_std_of_negatives": metrics["sortino_ratio"],
        "volatility_ann": metrics["volatility"],
        "max_drawdown_frac": -float(metrics["max_drawdown"] or 0.0),
        "cagr_n_periods": metrics["annualized_return"],
        "var95_return": metrics["value_at_risk_95"],
    }
    assert expected["n_points"] == len(run.equity)
    for name, value in ours.items():
        if counts_rounding and name.startswith("sortino"):
            continue
        assert value == pytest.approx(expected[name], rel=EQUITY_RTOL), name


def metric_cases() -> list[Any]:
    cases = load_json("metrics_cases.json")["cases"] if IS_THERE else []
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", metric_cases())
def test_metrics_that_no_correction_touches(case: dict[str, Any]) -> None:
    """Money of the drawdowns, where upstream neither rescales nor starts from another capital."""
    equity = numbers(case["equity"])
    if np.isnan(equity).any():
        pytest.skip("the curve has points without a value: ours has none, it is marked at each bar")
    start, expected = case["start_capital"], case["metrics"]
    metrics = portfolio_metrics(equity, 252.0)
    if not math.isclose(equity[0], start):
        # Rescaled or relative to another capital upstream (SPEC C2, metrics): a return is one of
        # the curve itself.
        assert metrics["total_return"] == pytest.approx(equity[-1] / equity[0] - 1)
        return
    assert metrics["total_return"] == pytest.approx(expected["total_return"], abs=1e-12)
    # Upstream's money is negative below the peak; equities of 1e4 leave 1e-11 of rounding.
    assert metrics["max_drawdown_money"] == pytest.approx(-expected["max_drawdown"], abs=1e-9)
    if expected["sharpe_ratio"] is None or case["name"] == "up_only":
        assert metrics["sharpe_ratio"] is None
