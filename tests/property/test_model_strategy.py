"""The strategy `model` on one instrument is the backtest of one instrument."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.backtest.engine import run_backtest
from backlane.backtest.portfolio_drive import PortfolioDrive
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run, run_portfolio
from backlane.backtest.request import parse_request
from backlane.backtest.result import BacktestRun
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import Registry
from backlane.execution.order import ExitReason
from backlane.market.bars import BarSeries
from backlane.panel.panel import Panel
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.model_strategies import bundle_predictors, with_models
from tests.builders import random_bars

MODELS = Path(__file__).parents[2] / "models"
BUNDLE = str(MODELS / "rsi_bb" / "1")
ROUNDING = 1e-9
"""Both add the same amounts in another order: the engine moves collateral, the book proceeds."""


@cache
def registry() -> Registry:
    return with_models(BUILT_IN, bundle_predictors(MODELS, MODELS))


def panel_of(*several: BarSeries, names: tuple[str, ...] = ("TEST",)) -> Panel:
    """Returns bars as a panel, which is stamped with their closes."""
    known_ns = np.unique(np.concatenate([each.close_time_ns for each in several]))
    grids = {
        name: np.full((len(known_ns), len(several)), np.nan)
        for name in ("open", "high", "low", "close", "volume")
    }
    for column, series in enumerate(several):
        rows = np.searchsorted(known_ns, series.close_time_ns)
        for name, grid in grids.items():
            grid[rows, column] = getattr(series, name)
    return Panel(names, known_ns, known_ns, **grids)


def single(bars: BarSeries, case: dict[str, Any]) -> BacktestRun:
    request = parse_request(
        {
            "model": {"path": BUNDLE},
            "symbol": "TEST",
            "commission_rate": case["commission"],
            "slippage_rate": case["slippage"],
            "sizing": {"fraction": case["fraction"]},
            "lot_size": case["lot"],
            "decisions": case["decisions"],
            "switches": {
                "fill": case["fill"],
                "shorts": case["shorts"],
                "forced_close_in_equity": False,
            },
        }
    )
    predictor = load_predictor(read_bundle(Path(BUNDLE)))
    return run_backtest(request, predictor, {"1h": bars}, dataset_digests={"1h": "sha256:0"})


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    execution: dict[str, Any] = {"lot_size": case["lot"]}
    if case["fill"] == "next_open":
        execution["sized_at"] = "open"
    return {
        "strategy": {
            "name": "model",
            "parameters": {
                "model": {"path": BUNDLE},
                "fraction": case["fraction"] / (1.0 + case["commission"]),
                "decisions": case["decisions"],
                "shorts": case["shorts"],
            },
        },
        "data": {"panel": "panel.csv"},
        "initial_cash": 100_000,
        "fill": case["fill"],
        "execution": execution,
        "costs": {
            "commission_bps": case["commission"] * 1e4,
            "half_spread_bps": case["slippage"] * 1e4,
        },
    }


def portfolio(panel: Panel, case: dict[str, Any]) -> PortfolioRun:
    config = parse_portfolio_config(config_of(case), registry())
    return run_portfolio(config, panel, {}, registry())


def cases() -> st.SearchStrategy[dict[str, Any]]:
    # With both, the engine charges commission on the price after slippage: the product of the two
    # rates, which docs/portfolio.md states. So one of them is 0 here.
    costs = st.sampled_from([(0.001, 0.0), (0.0, 0.0005), (0.0, 0.0)])
    return st.builds(
        lambda cost, **rest: {"commission": cost[0], "slippage": cost[1], **rest},
        cost=costs,
        fraction=st.sampled_from([0.25, 0.9]),
        lot=st.sampled_from([1.0, 100.0, 0.5]),
        fill=st.sampled_from(["next_open", "this_close"]),
        shorts=st.booleans(),
        decisions=st.fixed_dictionaries(
            {
                "confidence_threshold": st.sampled_from([0.0, 0.4, 0.5]),
                "position_awareness": st.booleans(),
                "allow_short_from_flat": st.booleans(),
                "filters": st.fixed_dictionaries(
                    {"min_signal_separation": st.sampled_from([0.0, 4.0, 30.0])}
                ),
            }
        ),
    )


def assert_equal(one: BacktestRun, book: PortfolioRun, case: dict[str, Any]) -> None:
    first = len(book.panel) - len(one.equity)
    assert (book.equity[:first] == 100_000.0).all()
    np.testing.assert_allclose(book.equity[first:], one.equity, rtol=ROUNDING)
    is_forced = len(one.trades) > 0 and one.trades["exit_reason"][-1] == ExitReason.END_OF_DATA
    fills = one.fills[:-1] if is_forced else one.fills
    np.testing.assert_array_equal(book.fills["time_index"] - first, fills["bar_index"])
    np.testing.assert_array_equal(book.fills["quantity"], fills["side"] * fills["quantity"])
    np.testing.assert_array_equal(book.fills["price"], fills["reference_price"])
    paid = fills["commission"] + np.abs(fills["price"] - fills["reference_price"]) * fills["quantity"]
    np.testing.assert_allclose(book.fills["cost"], paid, rtol=ROUNDING)
    assert len(book.trades) == len(one.trades)
    assert book.trades["is_open"].tolist() == [0] * (len(one.trades) - is_forced) + [1] * is_forced
    closed, ended = book.trades[book.trades["is_open"] == 0], one.trades[: len(one.trades) - is_forced]
    for name in ("entry_index", "exit_index"):
        np.testing.assert_array_equal(closed[name] - first, ended[name])
    np.testing.assert_array_equal(closed["side"], ended["side"])
    np.testing.assert_array_equal(closed["quantity"], ended["quantity"])
    if case["slippage"] == 0.0:
        np.testing.assert_allclose(closed["gross_pnl"], ended["gross_pnl"], rtol=ROUNDING, atol=1e-6)
    np.testing.assert_allclose(closed["net_pnl"], ended["net_pnl"], rtol=ROUNDING, atol=1e-6)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(case=cases(), seed=st.integers(0, 10_000))
def test_one_instrument_is_the_backtest_of_one_instrument(case: dict[str, Any], seed: int) -> None:
    bars = random_bars(seed, 300)
    book = portfolio(panel_of(bars), case)
    assert_equal(single(bars, case), book, case)
