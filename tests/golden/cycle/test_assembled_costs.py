"""Costs and fill models of many instruments against the `assembled` vectors, at rtol 1e-9."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from backlane.backtest.portfolio_bars import book_bars, open_and_mark
from backlane.execution.cost_components import average_volume, bar_volatility, fill_costs
from backlane.execution.cost_model import (
    CommissionModel,
    CostModel,
    ImpactModel,
    SpreadModel,
)
from backlane.execution.cost_report import cost_report
from backlane.execution.fill_models import (
    FillStatus,
    ModelledFills,
    VolumeLimit,
    limit_fills,
    session_fills,
    volume_fills,
)
from backlane.execution.nyse_calendar import is_at_close, is_in_session
from backlane.portfolio.book_rules import BookRules
from backlane.portfolio.portfolio_book import PortfolioBook
from tests.golden.cycle.assembled import (
    capital,
    load_json,
    load_panel,
    load_rows,
    needs_assembled,
    symbol_indices,
    time_indices,
)

pytestmark = needs_assembled

FEATURE_RTOL = 1e-9  # the README's own


# --- costs --------------------------------------------------------------------------------------


def slippage_model() -> ImpactModel:
    model = load_json("fill_models.json")["slippage_model"]
    return ImpactModel(
        model["k"],
        model["min_bps"],
        model["max_bps"],
        model["participation_rate_cap"],
        model["fallback_slippage_bps"],
    )


def numbers(values: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values])


def test_commissions() -> None:
    recorded = load_json("cost_components.json")
    notional = np.array(recorded["notional"])
    for name, expected in recorded["commission"].items():
        bps, fixed = (float(part) for part in name.rsplit("_", 2)[1:])
        model = CostModel(CommissionModel(bps, fixed))
        charged = fill_costs(model, notional, np.ones(len(notional))).commission
        np.testing.assert_allclose(charged, expected, rtol=FEATURE_RTOL)


def test_spreads() -> None:
    recorded = load_json("cost_components.json")["spread"]
    spread = SpreadModel(tuple(map(tuple, recorded["buckets"])), recorded["fallback"])
    volumes = numbers(recorded["adv"])
    notional = np.full(len(volumes), 10_000.0)
    paid = fill_costs(CostModel(spread=spread), notional, notional, volumes)
    assert paid.quoted_bps.tolist() == recorded["spread_bps"]
    np.testing.assert_allclose(
        paid.half_spread, recorded["spread_cash_on_10000"], rtol=FEATURE_RTOL
    )


def test_impact() -> None:
    recorded = load_json("cost_components.json")["slippage"]
    m = recorded["model"]
    model = ImpactModel(
        m["k"],
        m["min_bps"],
        m["max_bps"],
        m["participation_rate_cap"],
        m["fallback_slippage_bps"],
    )
    notional, volumes = numbers(recorded["notional"]), numbers(recorded["adv"])
    paid = fill_costs(
        CostModel(impact=model), notional, notional, volumes, numbers(recorded["vol"])
    )
    np.testing.assert_allclose(paid.impact_bps, recorded["slippage_bps"], rtol=FEATURE_RTOL)
    np.testing.assert_allclose(paid.impact, recorded["slippage_cash"], rtol=FEATURE_RTOL)


def test_daily_volume_and_volatility() -> None:
    panel, rows = load_panel(), load_rows("adv_vol_proxy.parquet")
    assert panel.volume is not None
    window = load_json("fill_models.json")["slippage_model"]["vol_window"]
    bars, symbols = time_indices(panel, rows["timestamp"]), symbol_indices(panel, rows["symbol"])
    volumes = average_volume(panel.close, panel.volume, window, with_today=True)
    np.testing.assert_allclose(volumes[bars, symbols], rows["adv_usd"], rtol=FEATURE_RTOL)
    deviations = bar_volatility(panel.close, window, with_today=True)
    np.testing.assert_allclose(deviations[bars, symbols], rows["volatility"], rtol=FEATURE_RTOL)


def full_costs(models: dict[str, Any]) -> CostModel:
    """The models of the set, as one."""
    spread = SpreadModel(tuple(map(tuple, models["spread_buckets"])), models["spread_fallback"])
    return CostModel(CommissionModel(models["commission_bps"]), spread, slippage_model())


def test_trades_with_costs_and_their_report() -> None:
    panel, models = load_panel(), load_json("fill_models.json")
    rows = load_rows("trades_with_costs.csv")
    assert panel.volume is not None
    bars, symbols = time_indices(panel, rows["timestamp"]), symbol_indices(panel, rows["symbol"])
    window = models["slippage_model"]["vol_window"]
    volume = average_volume(panel.close, panel.volume, window, with_today=True)[bars, symbols]
    deviation = bar_volatility(panel.close, window, with_today=True)[bars, symbols]
    quantity = rows["qty"].to_numpy()
    notional = quantity * rows["price"].to_numpy()
    costs_of = fill_costs(full_costs(models), notional, quantity, volume, deviation)
    paid, crossed, moved = costs_of.commission, costs_of.half_spread, costs_of.impact
    for name, values in (("commission", paid), ("spread", crossed), ("slippage", moved)):
        np.testing.assert_allclose(values, rows[f"{name}_cash"], rtol=FEATURE_RTOL)
    np.testing.assert_allclose(costs_of.total, rows["total_cost_cash"], rtol=FEATURE_RTOL)

    report = cost_report(panel.time_ns[bars], symbols, notional, paid, crossed, moved)
    expected = load_rows("tca_report.csv").sort_values(["date", "symbol"])
    days = report.day_ns.astype("datetime64[ns]").astype("datetime64[D]").astype(str)
    assert days.tolist() == expected["date"].tolist()
    assert [panel.symbols[at] for at in report.symbol] == expected["symbol"].tolist()
    assert report.fill_count.tolist() == expected["n_trades"].tolist()
    for values, column in (
        (report.notional, "notional"),
        (report.commission, "commission_cash"),
        (report.half_spread, "spread_cash"),
        (report.impact, "slippage_cash"),
        (report.total, "total_cost_cash"),
        (report.cost_bps, "cost_bps"),
    ):
        np.testing.assert_allclose(values, expected[column], rtol=FEATURE_RTOL)


def test_the_book_charges_what_the_vectors_say() -> None:
    """The same trades through the book, at their closes: its own volume and volatility.

    Trades of one bar and instrument are a single one there, whose impact is that of their sum; they
    are left out.
    """
    panel, models = load_panel(), load_json("fill_models.json")
    rows = load_rows("trades_with_costs.csv")
    rows = rows[~rows.duplicated(["timestamp", "symbol"], keep=False)]
    bars, symbols = time_indices(panel, rows["timestamp"]), symbol_indices(panel, rows["symbol"])
    signed = np.where(rows["side"] == "BUY", rows["qty"], -rows["qty"])
    window = models["slippage_model"]["vol_window"]
    rules = BookRules(full_costs(models), fills_this_close=True, liquidity_window=window)
    book, grid = PortfolioBook.new(len(panel.symbols), capital(), rules), book_bars(panel, rules)
    orders = np.full(panel.close.shape, np.nan)
    orders[bars, symbols] = signed
    for bar in range(len(panel)):
        open_and_mark(book, grid, bar)
        book.place(bar, orders[bar])
    where = np.lexsort((symbols, bars))
    assert np.array_equal(book.fills["time_index"], bars[where])
    is_at_close = np.isclose(book.fills["price"], rows["price"].to_numpy()[where], rtol=1e-12)
    assert is_at_close.any()
    for name, part in (
        ("commission", "commission"),
        ("spread", "half_spread"),
        ("slippage", "impact"),
    ):
        recorded = rows[f"{name}_cash"].to_numpy()[where]
        np.testing.assert_allclose(
            book.fill_parts[part][is_at_close], recorded[is_at_close], rtol=FEATURE_RTOL
        )


# --- fills --------------------------------------------------------------------------------------


def assert_fills(fills: ModelledFills, rows: pd.DataFrame) -> None:
    assert [str(status) for status in fills.statuses()] == rows["status"].tolist()
    np.testing.assert_allclose(fills.quantity, rows["fill_qty"], rtol=FEATURE_RTOL)
    np.testing.assert_allclose(fills.price, rows["fill_price"], rtol=FEATURE_RTOL)
    # What remains of some hundred units is a difference.
    np.testing.assert_allclose(fills.remaining, rows["remaining_qty"], rtol=FEATURE_RTOL, atol=1e-9)


def test_limit_fills() -> None:
    panel, orders = load_panel(), load_rows("limit_orders_in.csv")
    bars, symbols = (
        time_indices(panel, orders["timestamp"]),
        symbol_indices(panel, orders["symbol"]),
    )
    fills = limit_fills(
        (orders["side"] == "BUY").to_numpy(),
        orders["qty"].to_numpy(),
        orders["price"].to_numpy(),
        orders["limit_price"].to_numpy(dtype=float),
        (orders["order_type"] == "limit").to_numpy(),
        panel.low[bars, symbols],
        panel.high[bars, symbols],
    )
    assert_fills(fills, load_rows("limit_fills.csv"))


def test_partial_fills() -> None:
    panel, rows = load_panel(), load_rows("partial_fills.csv")
    assert panel.volume is not None
    model = load_json("fill_models.json")["partial"]
    volume = average_volume(panel.close, panel.volume, model["adv_window"], with_today=True)
    bars, symbols = time_indices(panel, rows["timestamp"]), symbol_indices(panel, rows["symbol"])
    limit = VolumeLimit(
        model["participation_cap"], model["min_fill_qty"], model["fallback_fill_ratio"]
    )
    fills = volume_fills(
        rows["qty"].to_numpy(), rows["price"].to_numpy(), volume[bars, symbols], limit
    )
    assert_fills(fills, rows)


@pytest.mark.parametrize(
    ("column", "is_open"), [("status_1d", is_at_close), ("status_5min", is_in_session)]
)
def test_sessions(column: str, is_open: Any) -> None:
    rows = load_rows("session_gate.csv")
    stamps = rows["timestamp"].astype("datetime64[ns, UTC]").astype("int64").to_numpy()
    ones = np.ones(len(rows))
    fills = session_fills(is_open(stamps), ones, ones)
    assert fills.statuses() == [FillStatus(text) for text in rows[column]]
