"""The result directory of a portfolio run: all of it, or nothing.

    result.json  metrics, counts, configuration and digests; the same bytes for the same inputs
    equity.csv   one line for each time: equity and cash at the close
    signals.csv  one line for each instrument and time about which something was decided
    targets.csv  one line for each target that is not zero: its weight and its units
    orders.csv   one line for each order, and what became of it
    fills.csv    one line for each fill, with its costs
    costs.csv    one line for each day and instrument with fills: what they cost
    trades.csv   one line for each trade from flat to flat; what is open at the end is marked

Times are ISO 8601, UTC. Quantities are positive, the side says which way.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from backlane.backtest.portfolio_metrics import periods_per_year, portfolio_metrics
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_trade_metrics import trade_ends
from backlane.execution.target_orders import BookOrderOutcome, OrderSide
from backlane.sources.portfolio_costs import (
    COSTS_FILE,
    costs_document,
    costs_table,
    order_columns,
)
from backlane.sources.portfolio_document import regression_document, trades_document
from backlane.sources.results import file_digest, iso_time, iso_times

PORTFOLIO_RESULT_FORMAT = "backlane.portfolio_result.v1"
PORTFOLIO_RESULT_FILES = (
    "result.json",
    "equity.csv",
    "signals.csv",
    "targets.csv",
    "orders.csv",
    "fills.csv",
    "trades.csv",
    COSTS_FILE,
)
_ALWAYS_COUNTED = (BookOrderOutcome.NO_PRICE, BookOrderOutcome.END_OF_DATA)
_NOT_COUNTED = (BookOrderOutcome.PENDING, BookOrderOutcome.FILLED)
_DIRECTIONS = np.array(["SHORT", "FLAT", "LONG"], dtype=object)
_SIDES = np.array([str(OrderSide.SELL), str(OrderSide.BUY)], dtype=object)


def write_portfolio_result(
    run: PortfolioRun,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    directory: Path,
    *,
    with_trades: bool = False,
) -> None:
    """Writes the result directory; `inputs` are the files that were read, by role.

    With `with_trades` result.json lists the trades, too.

    An earlier portfolio result in the same place is replaced; any other folder is refused with
    FileExistsError, so that no one loses files by a typing error.
    """
    if directory.exists() and not _may_replace(directory):
        raise FileExistsError(
            f"{directory} exists and is no portfolio result: choose another --out."
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        for name, table in portfolio_tables(run).items():
            write_table(scratch / name, table)
        document = portfolio_document(run, config, inputs)
        if with_trades:
            document["trades"] = trades_document(run)
        (scratch / "result.json").write_text(
            json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
        for path in (*scratch.iterdir(), scratch):
            _sync(path)
        if directory.exists():
            shutil.rmtree(directory)
        scratch.rename(directory)
        _sync(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def portfolio_document(
    run: PortfolioRun, config: Mapping[str, Any], inputs: Mapping[str, Path]
) -> dict[str, Any]:
    """Returns the content of result.json; nothing in it depends on when or where it was made."""
    panel, fills, trades = run.panel, run.fills, run.trades
    notional = float(np.sum(np.abs(fills["quantity"]) * fills["price"]))
    periods = periods_per_year(panel.time_ns)
    metrics = portfolio_metrics(run.equity, periods, notional)
    closed = trades[trades["is_open"] == 0]
    outcomes = run.orders["outcome"]
    return {
        "format": PORTFOLIO_RESULT_FORMAT,
        "config": dict(config),
        "inputs": {role: file_digest(path) for role, path in inputs.items()},
        "symbols": list(panel.symbols),
        "bar_count": len(panel),
        "first_time": iso_time(int(panel.time_ns[0])) if len(panel) else None,
        "last_time": iso_time(int(panel.time_ns[-1])) if len(panel) else None,
        "initial_cash": run.initial_cash,
        "final_equity": run.final_equity,
        "total_cost": run.total_cost,
        "costs": costs_document(run),
        "traded_notional": notional,
        "periods_per_year": periods,
        "metrics": dict(metrics),
        **regression_document(run, metrics),
        "counts": {
            "orders": len(run.orders),
            **{
                f"orders_{outcome.name.lower()}": int(np.sum(outcomes == outcome))
                for outcome in BookOrderOutcome
                if outcome not in _NOT_COUNTED
                and (outcome in _ALWAYS_COUNTED or (outcomes == outcome).any())
            },
            "fills": len(fills),
            "trades": len(closed),
            "open_trades": len(trades) - len(closed),
            "winning_trades": int(np.sum(closed["net_pnl"] > 0)),
            "losing_trades": int(np.sum(closed["net_pnl"] < 0)),
        },
        "held_without_a_bar": list(run.stale_symbols()),
        "held_delisted": list(run.delisted_symbols()),
        **({} if run.cycles is None else {"cycles": run.cycles.document()}),
    }


def portfolio_tables(run: PortfolioRun) -> dict[str, pa.Table]:
    """Returns the tables by their files' names."""
    return {
        "equity.csv": pa.table(
            {"time": iso_times(run.panel.time_ns), "equity": run.equity, "cash": run.cash}
        ),
        "signals.csv": _signals(run),
        "targets.csv": _targets(run),
        "orders.csv": _orders(run),
        "fills.csv": _fills(run),
        "trades.csv": _trades(run),
        COSTS_FILE: costs_table(run),
    }


def _cells(run: PortfolioRun, chosen: NDArray[np.bool_]) -> tuple[Any, Any, dict[str, Any]]:
    """Returns the rows and columns of the cells, and what names them in a table."""
    rows, columns = np.nonzero(chosen)
    return rows, columns, {"time": _times(run, rows), "symbol": _symbols(run, columns)}


def _signals(run: PortfolioRun) -> pa.Table:
    if run.targets is None:
        return pa.table({name: [] for name in ("time", "symbol", "direction", "score")})
    targets = run.targets
    rows, columns, named = _cells(run, ~np.isnan(targets.weights))
    named["direction"] = pa.array(_DIRECTIONS[targets.direction[rows, columns] + 1], pa.string())
    named["score"] = _numbers(targets.score[rows, columns])
    return pa.table(named)


def _targets(run: PortfolioRun) -> pa.Table:
    if run.targets is None:
        return pa.table({name: [] for name in ("time", "symbol", "weight", "quantity")})
    weights = run.targets.weights
    rows, columns, named = _cells(run, ~np.isnan(weights) & (weights != 0.0))
    named["weight"] = weights[rows, columns]
    base = np.maximum(run.base[rows], 0.0)
    named["quantity"] = _numbers(named["weight"] * base / run.panel.close[rows, columns])
    return pa.table(named)


def _orders(run: PortfolioRun) -> pa.Table:
    orders = run.orders
    names = {outcome.value: outcome.name.lower() for outcome in BookOrderOutcome}
    return pa.table(
        {
            "order": np.arange(1, len(orders) + 1),
            "time": _times(run, orders["time_index"]),
            "symbol": _symbols(run, orders["symbol"]),
            "side": _side(orders["quantity"]),
            "quantity": np.abs(orders["quantity"]),
            "price": _numbers(orders["price"]),
            "outcome": pa.array([names[each] for each in orders["outcome"].tolist()], pa.string()),
            **order_columns(run),
        }
    )


def _fills(run: PortfolioRun) -> pa.Table:
    fills = run.fills
    commission, half_spread, impact = run.cost_parts()
    return pa.table(
        {
            "order": fills["order"] + 1,
            "time": _times(run, fills["time_index"]),
            "symbol": _symbols(run, fills["symbol"]),
            "side": _side(fills["quantity"]),
            "quantity": np.abs(fills["quantity"]),
            "price": np.ascontiguousarray(fills["price"]),
            "commission": commission,
            "half_spread": half_spread,
            "impact": impact,
            "cost": np.ascontiguousarray(fills["cost"]),
            "cash_after": np.ascontiguousarray(fills["cash_after"]),
        }
    )


def _trades(run: PortfolioRun) -> pa.Table:
    trades = run.trades
    sides = np.where(trades["side"] > 0, "LONG", "SHORT")
    named: dict[str, Any] = {
        "symbol": _symbols(run, trades["symbol"]),
        "side": pa.array(sides.tolist(), pa.string()),
        "entry_time": _times(run, trades["entry_index"]),
        "exit_time": _times(run, trades["exit_index"]),
        "is_open": pa.array(trades["is_open"] != 0),
    }
    for name in ("quantity", "entry_price", "exit_price", "gross_pnl", "cost", "net_pnl"):
        named[name] = np.ascontiguousarray(trades[name])
    named["reason"] = pa.array(trade_ends(run), pa.string())
    return pa.table(named)


def _times(run: PortfolioRun, indices: NDArray[np.int64]) -> pa.Array:
    return iso_times(run.panel.time_ns[indices])


def _symbols(run: PortfolioRun, indices: NDArray[np.int64]) -> pa.Array:
    names: Sequence[str] = run.panel.symbols
    return pa.array([names[each] for each in indices.tolist()], pa.string())


def _side(signed: NDArray[np.float64]) -> pa.Array:
    return pa.array(_SIDES[(signed > 0).astype(np.int64)], pa.string())


def _numbers(values: NDArray[np.float64]) -> pa.Array:
    """Returns numbers whose NaN become empty cells."""
    return pa.array(np.ascontiguousarray(values), pa.float64(), from_pandas=True)


def _may_replace(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or ("result.json" in names and names <= set(PORTFOLIO_RESULT_FILES))


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as CSV; texts are quoted only where a symbol asks for it."""
    # Arrow's `needed` quotes every text; only a symbol can hold what has to be quoted.
    needs_quotes = "symbol" in table.column_names and any(
        set(name) & set(',"\r\n') for name in pc.unique(table["symbol"]).to_pylist()
    )
    options = pyarrow.csv.WriteOptions(
        include_header=False, quoting_style="needed" if needs_quotes else "none"
    )
    with path.open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())
        pyarrow.csv.write_csv(table, file, write_options=options)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
