"""What the trades of a portfolio say, why a metric has no value, and why each trade ended.

A trade lasts from flat to flat; one that is still open at the end counts in no metric here.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_result import PortfolioRun
from backlane.execution.order_prices import OrderKind

REGRESSION_KEYS = (
    "total_trades",
    "win_rate",
    "profit_factor",
    "total_return",
    "max_drawdown",
    "sharpe_ratio",
)
"""What `backlane gate` compares of a portfolio unless it is told otherwise."""


class TradeEnd(StrEnum):
    """Why a trade ended, or that it did not."""

    DECISION = "decision"
    REVERSAL = "reversal"  # the same order opened the other side
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TRAILING_STOP = "trailing_stop"
    DELISTING = "delisting"
    OPEN = "open"  # valued at its last close


_BY_KIND = {
    OrderKind.STOP_LOSS: TradeEnd.STOP_LOSS,
    OrderKind.TAKE_PROFIT: TradeEnd.TAKE_PROFIT,
    OrderKind.TRAILING_STOP: TradeEnd.TRAILING_STOP,
    OrderKind.DELISTING: TradeEnd.DELISTING,
}


def trade_metrics(trades: NDArray[np.void]) -> dict[str, float | None]:
    """Returns win_rate and profit_factor of closed trades, BOOK_TRADE_DTYPE.

    - win_rate = trades with net_pnl > 0 / closed trades, a fraction
    - profit_factor = sum of net_pnl > 0 / -sum of net_pnl < 0

    Net results 30, -10, -5: win_rate 1/3, profit_factor 2. None where it divides by nothing.
    """
    net = trades["net_pnl"][trades["is_open"] == 0]
    won, lost = float(net[net > 0].sum()), float(-net[net < 0].sum())
    return {
        "win_rate": float(np.mean(net > 0)) if len(net) else None,
        "profit_factor": won / lost if lost > 0 else None,
    }


def undefined_reasons(
    metrics: Mapping[str, float | None], point_count: int, periods: float
) -> dict[str, str]:
    """Returns why each metric without a value has none; `periods` is how many points a year has."""
    return {
        name: _reason(name, metrics, point_count, periods)
        for name, value in metrics.items()
        if value is None
    }


def _reason(
    name: str, metrics: Mapping[str, float | None], point_count: int, periods: float
) -> str:
    if point_count < 2 and name not in ("win_rate", "profit_factor"):
        return "there are fewer than two points of equity"
    has_few_points = point_count < periods
    match name:
        case "win_rate":
            return "no trade was closed"
        case "profit_factor":
            no_trade = metrics.get("win_rate") is None
            return "no trade was closed" if no_trade else "no closed trade lost money"
        case "annualized_return" | "calmar_ratio" if has_few_points:
            return f"there are {point_count} points of equity, and a year has {periods:.0f}"
        case "calmar_ratio" if metrics.get("max_drawdown") == 0:
            return "there is no drawdown"
        case "annualized_return" | "calmar_ratio":
            return "the equity was lost"
        case "sharpe_ratio":
            return "the returns are all equal"
        case "sortino_ratio":
            return "fewer than two returns are losses, or these are all equal"
        case "turnover":
            return "the mean equity is not above 0"
        case _:
            return "the equity is not above 0"


def trade_ends(run: PortfolioRun) -> NDArray[np.object_]:
    """Returns why each of `run.trades` ended, values of TradeEnd, shape (trades,).

    The fill that ended it says so: the last one of its instrument, at the bar of its exit and on
    the other side than it. A trade of the other side that begins with that fill is a reversal.
    """
    fills, trades = run.fills, run.trades
    kinds = run.fill_parts["kind"] if len(run.fill_parts) else np.zeros(len(fills), np.int64)
    bars = len(run.panel)

    def place(symbol: NDArray[np.int64], bar: NDArray[np.int64], side: Any) -> NDArray[np.int64]:
        """One number for an instrument, a bar and a side."""
        placed: NDArray[np.int64] = (symbol * bars + bar) * 2 + (side > 0)
        return placed

    filled = place(fills["symbol"], fills["time_index"], fills["quantity"])
    order = np.argsort(filled, kind="stable")  # of equal ones the last stays the last
    left = place(trades["symbol"], trades["exit_index"], -trades["side"])
    found = np.searchsorted(filled[order], left, side="right") - 1
    kind = np.full(len(trades), int(OrderKind.MARKET))
    if len(fills):
        closing = order[np.maximum(found, 0)]
        kind = np.where(filled[closing] == left, kinds[closing], kind)
    entered = place(trades["symbol"], trades["entry_index"], trades["side"])
    ends = np.full(len(trades), TradeEnd.DECISION.value, dtype=object)
    ends[np.isin(left, entered)] = TradeEnd.REVERSAL.value
    for each, end in _BY_KIND.items():
        ends[kind == int(each)] = end.value
    ends[trades["is_open"] != 0] = TradeEnd.OPEN.value
    return ends
