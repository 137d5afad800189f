"""The `assembled` vectors as panels and orders. BACKLANE_ASSEMBLED names another set."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from backlane.backtest.portfolio_result import Targets
from backlane.execution.cost_model import CostModel
from backlane.panel.panel import Panel
from backlane.portfolio.book_records import BOOK_ORDER_DTYPE
from backlane.sources.panel_files import read_panel
from tests.shared import SHARED

ASSEMBLED = Path(os.environ.get("BACKLANE_ASSEMBLED", SHARED / "reference" / "cycle" / "assembled"))

needs_assembled = pytest.mark.skipif(
    not ASSEMBLED.is_dir(), reason=f"the vectors of the trading cycle are not there: {ASSEMBLED}"
)


def load_json(name: str) -> Any:
    """Returns the content of a JSON file of the set."""
    return json.loads((ASSEMBLED / name).read_text())


def load_rows(name: str) -> pd.DataFrame:
    """Returns the rows of a CSV or Parquet file, `timestamp` in UTC where it has one."""
    path = ASSEMBLED / name
    rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if "timestamp" in rows:
        rows["timestamp"] = pd.to_datetime(rows["timestamp"], utc=True)
    return rows


@cache
def load_panel(name: str = "panel.parquet") -> Panel:
    """Returns a panel file of the set, read as a user's is."""
    return read_panel(ASSEMBLED / name)


@cache
def capital() -> float:
    """The capital of the runs of the set."""
    return float(load_json("_params.json")["config"]["capital"])


@cache
def costs() -> CostModel:
    """The costs of the runs with costs."""
    rates = load_json("_params.json")["cost_params"]
    return CostModel.linear(rates["commission_bps"], rates["spread_w_bps"], rates["impact_w_bps"])


def time_indices(panel: Panel, stamps: pd.Series) -> NDArray[np.int64]:
    """Returns the bars that stamps are those of."""
    ns = stamps.astype("datetime64[ns, UTC]").astype("int64").to_numpy()
    indices = np.searchsorted(panel.time_ns, ns)
    assert np.array_equal(panel.time_ns[indices], ns)
    return indices


def symbol_indices(panel: Panel, symbols: pd.Series) -> NDArray[np.int64]:
    """Returns the columns of instruments."""
    places = {name: at for at, name in enumerate(panel.symbols)}
    return np.array([places[name] for name in symbols])


def order_records(panel: Panel, rows: pd.DataFrame) -> NDArray[np.void]:
    """Returns rows of timestamp, symbol, side, qty and price as records, sorted by time."""
    orders = np.zeros(len(rows), BOOK_ORDER_DTYPE)
    orders["time_index"] = time_indices(panel, rows["timestamp"])
    orders["symbol"] = symbol_indices(panel, rows["symbol"])
    orders["quantity"] = np.where(rows["side"] == "BUY", rows["qty"], -rows["qty"])
    orders["price"] = rows["price"]
    return orders[np.argsort(orders["time_index"], kind="stable")]


def targets_of(weights: NDArray[np.float64]) -> Targets:
    """Returns targets whose direction and score are those of the weights."""
    return Targets(np.sign(np.nan_to_num(weights)).astype(np.int8), weights.copy(), weights)


def weight_grid(
    panel: Panel, rows: pd.DataFrame, *, every_bar: bool, column: str = "target_weight"
) -> NDArray[np.float64]:
    """Returns weights (times, symbols) of rows; what a decided bar does not list is 0.

    With `every_bar` each bar is decided, else those alone that the rows name.
    """
    weights = np.full((len(panel), len(panel.symbols)), 0.0 if every_bar else np.nan)
    bars, symbols = time_indices(panel, rows["timestamp"]), symbol_indices(panel, rows["symbol"])
    weights[bars] = 0.0
    np.add.at(weights, (bars, symbols), rows[column].to_numpy())
    return weights


def crossing_costs(
    rows: pd.DataFrame, rate: float, time_ns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What upstream has paid so far for buying and selling the same instrument at once."""
    per_bar = np.zeros(len(time_ns))
    panel = load_panel()
    for (stamp, _), group in rows.groupby(["timestamp", "symbol"]):
        if len(group) > 1:
            gross = group["target_weight"].abs().sum() - abs(group["target_weight"].sum())
            index = time_indices(panel, pd.Series([stamp]))[0]
            per_bar[index] += gross * capital() * rate
    return np.cumsum(per_bar)
