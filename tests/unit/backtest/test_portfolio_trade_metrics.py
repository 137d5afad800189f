"""Trades of a portfolio: their metrics by hand, why they ended, and what result.json says of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from backlane.backtest.portfolio_metrics import portfolio_metrics
from backlane.backtest.portfolio_result import PortfolioRun, Targets
from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.backtest.portfolio_simulator import simulate_portfolio
from backlane.backtest.portfolio_trade_metrics import (
    REGRESSION_KEYS,
    trade_ends,
    trade_metrics,
    undefined_reasons,
)
from backlane.portfolio.book_records import BOOK_TRADE_DTYPE
from backlane.sources.panel_files import read_panel
from backlane.sources.portfolio_document import regression_document, trades_document
from backlane.sources.portfolio_results import write_portfolio_result
from tests.unit.signals.panels import daily_panel

EXAMPLE_PANEL = Path(__file__).parents[3] / "examples" / "portfolio" / "panel.csv"
CLOSE = [[100.0, 50.0], [110.0, 50.0], [100.0, 40.0], [120.0, 45.0], [130.0, 45.0], [130.0, 50.0]]
WEIGHTS = [[0.5, 0.0], [-0.5, 0.5], [-0.5, 0.5], [0.0, 0.0], [0.5, 0.0], [0.5, 0.0]]


def run_of(weights: list[list[float]]) -> PortfolioRun:
    values = np.array(weights)
    direction = np.sign(np.nan_to_num(values)).astype(np.int8)
    targets = Targets(direction, values, values)
    return simulate_portfolio(daily_panel(CLOSE), targets, initial_cash=1000.0)


def trades_of(*net: float, is_open: int = 0) -> np.ndarray:
    trades = np.zeros(len(net), BOOK_TRADE_DTYPE)
    trades["net_pnl"], trades["is_open"] = net, is_open
    return trades


@pytest.mark.parametrize(
    ("net", "win_rate", "profit_factor"),
    [
        ((30.0, -10.0, -5.0), 1 / 3, 2.0),
        ((30.0, 10.0), 1.0, None),
        ((-30.0, 0.0), 0.0, 0.0),
        ((0.0,), 0.0, None),
        ((), None, None),
    ],
)
def test_metrics_of_trades(net, win_rate, profit_factor):
    expected = {"win_rate": win_rate, "profit_factor": profit_factor}
    assert trade_metrics(trades_of(*net)) == expected


def test_an_open_trade_counts_in_none():
    expected = {"win_rate": None, "profit_factor": None}
    assert trade_metrics(trades_of(5.0, -5.0, is_open=1)) == expected


def test_every_trade_says_why_it_ended():
    run = run_of(WEIGHTS)
    shown = [
        (run.panel.symbols[int(trade["symbol"])], int(trade["side"]), str(end))
        for trade, end in zip(run.trades, trade_ends(run), strict=True)
    ]
    assert shown == [
        ("S0", 1, "reversal"),  # long at bar 1, short from bar 2 on
        ("S0", -1, "decision"),  # flat from bar 4 on
        ("S1", 1, "decision"),
        ("S0", 1, "open"),
    ]


@pytest.mark.slow
def test_a_bracket_that_closed_a_trade_is_its_reason():
    """Every stop loses and every target gains, before costs: no fill is taken for another."""
    config = {
        "strategy": {
            "name": "trend_baseline",
            "parameters": {"fast": 5, "slow": 20, "volume_filter": "none"},
        },
        "data": {"panel": "panel.csv"},
        "execution": {"bracket": {"stop_loss": 0.02, "take_profit": 0.03}},
    }
    run = run_portfolio(parse_portfolio_config(config), read_panel(EXAMPLE_PANEL), {})
    ends, gross = trade_ends(run), run.trades["gross_pnl"]
    assert (ends == "stop_loss").sum() > 5 < (ends == "take_profit").sum()
    assert (gross[ends == "stop_loss"] < 0).all()
    assert (gross[ends == "take_profit"] > 0).all()


def test_a_run_without_trades_has_no_ends():
    assert len(trade_ends(run_of([[0.0, 0.0]] * 6))) == 0


@pytest.mark.parametrize(
    ("equity", "expected"),
    [
        (
            [100.0, 110.0, 99.0],
            {
                "annualized_return": "there are 3 points of equity, and a year has 252",
                "calmar_ratio": "there are 3 points of equity, and a year has 252",
                "sortino_ratio": "fewer than two returns are losses, or these are all equal",
            },
        ),
        (
            [100.0, 100.0, 100.0],
            {
                "annualized_return": "there are 3 points of equity, and a year has 252",
                "calmar_ratio": "there are 3 points of equity, and a year has 252",
                "sharpe_ratio": "the returns are all equal",
                "sortino_ratio": "fewer than two returns are losses, or these are all equal",
            },
        ),
    ],
)
def test_what_is_undefined_says_why(equity, expected):
    metrics = portfolio_metrics(np.array(equity), 252.0)
    assert undefined_reasons(metrics, len(equity), 252.0) == expected


@pytest.mark.parametrize(
    ("equity", "periods", "name", "reason"),
    [
        ([100.0], 1.0, "volatility", "there are fewer than two points of equity"),
        ([100.0, 110.0, 120.0], 2.0, "calmar_ratio", "there is no drawdown"),
        ([100.0, 50.0, -10.0], 2.0, "annualized_return", "the equity was lost"),
        ([100.0, 50.0, -10.0], 2.0, "calmar_ratio", "the equity was lost"),
        ([-1.0, 0.5, -1.0], 2.0, "turnover", "the mean equity is not above 0"),
        ([-1.0, 0.5, -1.0], 2.0, "total_return", "the equity is not above 0"),
    ],
)
def test_each_reason(equity, periods, name, reason):
    metrics = portfolio_metrics(np.array(equity), periods)
    assert metrics[name] is None
    assert undefined_reasons(metrics, len(equity), periods)[name] == reason


def test_result_json_has_the_keys_of_the_gate_and_no_null_without_a_reason():
    run = run_of(WEIGHTS)
    metrics = portfolio_metrics(run.equity, 252.0)
    document = regression_document(run, metrics)
    keys = document["regression_keys"]
    assert tuple(keys) == REGRESSION_KEYS
    assert keys["total_trades"] == 3
    nulls = {name for name, value in {**metrics, **keys}.items() if value is None}
    assert set(document["undefined_metrics"]) == nulls


def test_the_list_of_trades_is_there_when_it_is_asked_for(tmp_path):
    run = run_of(WEIGHTS)
    for with_trades in (False, True):
        write_portfolio_result(run, {}, {}, tmp_path / "out", with_trades=with_trades)
        document = json.loads((tmp_path / "out" / "result.json").read_text())
        assert ("trades" in document) == with_trades
    assert document["trades"] == trades_document(run)
    first, *_, last = document["trades"]
    # Decided at the close of 100 with half of 1000: 5 units, bought at the open of the next bar.
    assert first == {
        "symbol": "S0", "side": "LONG", "reason": "reversal",
        "entry_time": "1970-01-03T00:00:00Z", "entry_price": 110.0,
        "exit_time": "1970-01-04T00:00:00Z", "exit_price": 100.0,
        "quantity": 5.0, "gross_pnl": -50.0, "cost": 0.0, "net_pnl": -50.0,
    }  # fmt: skip
    assert (last["exit_time"], last["exit_price"], last["reason"]) == (None, None, "open")
