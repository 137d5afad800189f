"""The folder of an end of day: orders.csv, positions.csv and result.json, all of them or none."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from backlane.backtest.end_of_day import orders_to_send
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.sources.portfolio_results import portfolio_tables, write_table
from backlane.sources.results import file_digest, iso_time

END_OF_DAY_FORMAT = "backlane.end_of_day.v1"
END_OF_DAY_FILES = ("orders.csv", "positions.csv", "result.json")


def end_of_day_document(
    run: PortfolioRun, config: Mapping[str, Any], inputs: Mapping[str, Path]
) -> dict[str, Any]:
    """Returns the content of result.json; nothing in it depends on when or where it was made."""
    return {
        "format": END_OF_DAY_FORMAT,
        "config": dict(config),
        "inputs": {role: file_digest(path) for role, path in inputs.items()},
        "bar_time": iso_time(int(run.panel.time_ns[-1])),
        "equity": run.final_equity,
        "cash": float(run.cash[-1]),
        "orders": _orders(run).to_pylist(),
        "positions": _positions(run).to_pylist(),
    }


def write_end_of_day(
    run: PortfolioRun, config: Mapping[str, Any], inputs: Mapping[str, Path], directory: Path
) -> None:
    """Writes the folder; an earlier one is replaced, any other refused with FileExistsError."""
    if directory.exists() and not _may_replace(directory):
        raise FileExistsError(f"{directory} exists and is no end of day: choose another --out.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        write_table(scratch / "orders.csv", _orders(run))
        write_table(scratch / "positions.csv", _positions(run))
        document = end_of_day_document(run, config, inputs)
        content = json.dumps(document, indent=2, allow_nan=False) + "\n"
        (scratch / "result.json").write_text(content, encoding="utf-8")
        if directory.exists():
            shutil.rmtree(directory)
        scratch.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _orders(run: PortfolioRun) -> pa.Table:
    """Returns the orders to send, as orders.csv of a run has them, without what became of them."""
    table = portfolio_tables(run)["orders.csv"].filter(pa.array(orders_to_send(run)))
    kept = [name for name in table.column_names if name not in {"outcome", "status"}]
    return table.select(kept)


def _positions(run: PortfolioRun) -> pa.Table:
    held = np.flatnonzero(run.quantity)
    quantity, price = run.quantity[held], run.last_close[held]
    return pa.table(
        {
            "symbol": pa.array([run.panel.symbols[each] for each in held.tolist()], pa.string()),
            "quantity": quantity,
            "price": price,
            "value": quantity * price,
        }
    )


def _may_replace(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or names == set(END_OF_DAY_FILES)
