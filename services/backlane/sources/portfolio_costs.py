"""What a portfolio's orders came to and what its fills cost, as tables (SPEC B5).

costs.csv has one line for each day and instrument with fills: their notional, what they cost by
component in money and in basis points of it, and their gross and net flow of money.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backlane.backtest.portfolio_result import PortfolioRun
from backlane.execution.cost_report import cost_report
from backlane.execution.order_prices import OrderKind
from backlane.execution.target_orders import BookOrderOutcome, order_status
from backlane.sources.results import iso_times

COSTS_FILE = "costs.csv"
_KINDS = np.array([kind.name.lower() for kind in OrderKind], dtype=object)


def order_columns(run: PortfolioRun) -> dict[str, Any]:
    """Returns what became of each order: status, units filled, kind, prices, and when it ended.

    A plain book fills a market order whole, or lets it expire at the bar at which it would have.
    """
    orders, terms = run.orders, run.terms
    outcomes = orders["outcome"]
    if len(terms):
        filled = np.abs(terms["filled_quantity"])
        kind, limit, stop = terms["kind"], terms["limit_price"], terms["stop_price"]
    else:
        filled = np.where(outcomes == BookOrderOutcome.FILLED, np.abs(orders["quantity"]), 0.0)
        kind = np.zeros(len(orders), np.int64)
        limit = stop = np.full(len(orders), np.nan)
    has_filled = filled > 0.0
    statuses = [
        str(order_status(BookOrderOutcome(outcome), has_filled=done))
        for outcome, done in zip(outcomes.tolist(), has_filled.tolist(), strict=True)
    ]
    return {
        "status": pa.array(statuses, pa.string()),
        "filled": filled,
        "kind": pa.array(_KINDS[kind], pa.string()),
        "limit_price": _numbers(limit),
        "stop_price": _numbers(stop),
    }


def costs_table(run: PortfolioRun) -> pa.Table:
    """Returns costs.csv, by day, then instrument.

    10 units bought at 20 for 0.5: notional 200, gross flow -200, net flow -200.5, 25 bps.
    """
    fills, (commission, half_spread, impact) = run.fills, run.cost_parts()
    notional = np.abs(fills["quantity"]) * fills["price"]
    time_ns = run.panel.time_ns[fills["time_index"]]
    report = cost_report(
        time_ns, fills["symbol"], notional, commission, half_spread, impact,
        gross=-fills["quantity"] * fills["price"],
    )  # fmt: skip
    symbols = run.panel.symbols
    return pa.table(
        {
            "time": iso_times(report.day_ns),
            "symbol": pa.array([symbols[each] for each in report.symbol.tolist()], pa.string()),
            "fills": report.fill_count,
            "notional": report.notional,
            "commission": report.commission,
            "half_spread": report.half_spread,
            "impact": report.impact,
            "cost": report.total,
            "cost_bps": _numbers(report.cost_bps),
            "gross_flow": report.gross,
            "net_flow": report.gross - report.total,
        }
    )


def costs_document(run: PortfolioRun) -> Mapping[str, float]:
    """Returns what the run cost by component, money, and what it came to before all of it.

    gross_final_equity is that of the same fills without their costs, fees and interest.
    """
    parts = [float(np.sum(part)) for part in run.cost_parts()]
    borrow = float(np.sum(run.trades["cost"])) - run.total_cost if len(run.fill_parts) else 0.0
    carried = borrow + run.interest
    return {
        "commission": parts[0],
        "half_spread": parts[1],
        "impact": parts[2],
        "borrow": borrow,
        "interest": run.interest,
        "gross_final_equity": run.final_equity + run.total_cost + carried,
    }


def _numbers(values: NDArray[np.float64]) -> pa.Array:
    """Returns numbers whose NaN become empty cells."""
    return pa.array(np.ascontiguousarray(values), pa.float64(), from_pandas=True)
