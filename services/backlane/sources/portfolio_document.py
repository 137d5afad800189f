"""What result.json says besides the figures of the account: docs/portfolio-result.md."""

from collections.abc import Mapping
from typing import Any

from backlane.backtest.portfolio_metrics import periods_per_year
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_trade_metrics import (
    REGRESSION_KEYS,
    trade_ends,
    trade_metrics,
    undefined_reasons,
)
from backlane.sources.results import iso_time

TRADES_LISTED_MAX = 100_000
"""Trades that result.json lists; all of them are in trades.csv."""


def regression_document(run: PortfolioRun, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """Returns `regression_keys`, and `undefined_metrics`: why each metric that is null is so."""
    known = {**metrics, **trade_metrics(run.trades)}
    closed = int((run.trades["is_open"] == 0).sum())
    reasons = undefined_reasons(known, len(run.equity), periods_per_year(run.panel.time_ns))
    return {
        "regression_keys": {
            name: closed if name == "total_trades" else known.get(name) for name in REGRESSION_KEYS
        },
        "undefined_metrics": reasons,
    }


def trades_document(run: PortfolioRun) -> list[dict[str, Any]]:
    """Returns `trades`: the first TRADES_LISTED_MAX, each with its entry, its exit and why."""
    times, symbols = run.panel.time_ns, run.panel.symbols
    return [
        {
            "symbol": symbols[int(trade["symbol"])],
            "side": "LONG" if trade["side"] > 0 else "SHORT",
            "entry_time": iso_time(int(times[trade["entry_index"]])),
            "entry_price": float(trade["entry_price"]),
            "exit_time": None if trade["is_open"] else iso_time(int(times[trade["exit_index"]])),
            "exit_price": None if trade["is_open"] else float(trade["exit_price"]),
            "reason": str(end),
            "quantity": float(trade["quantity"]),
            "gross_pnl": float(trade["gross_pnl"]),
            "cost": float(trade["cost"]),
            "net_pnl": float(trade["net_pnl"]),
        }
        for trade, end in zip(
            run.trades[:TRADES_LISTED_MAX], trade_ends(run)[:TRADES_LISTED_MAX], strict=True
        )
    ]
