"""The result directory: what a run leaves behind, the same from the command line and the services.

    result.json       metrics, funnel, config, digests, versions
    request.json      the request, to be run again with --request
    trades.csv        one line for each closed trade
    equity.csv        one line for each marked bar
    bars.parquet      one row for each simulated bar: the prices
    decisions.parquet one row for each simulated bar
    features.parquet  one row for each simulated bar

Times are ISO 8601, UTC, at the open of the bar. Numbers are written so that they read back to the
same bits.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backlane.backtest.funnel import explain_no_trades
from backlane.backtest.result import BacktestRun
from backlane.decisions.decision import Decision, DecisionReason
from backlane.execution.order import ExitReason
from backlane.portfolio.position import PositionSide

RESULT_FORMAT = "backlane.result.v1"
RESULT_FILES = (
    "result.json",
    "request.json",
    "trades.csv",
    "equity.csv",
    "bars.parquet",
    "decisions.parquet",
    "features.parquet",
)


def write_result(run: BacktestRun, directory: Path) -> None:
    """Writes the result directory: all of it, or nothing.

    An earlier result in the same place is replaced; any other folder is refused with
    FileExistsError, so that no one loses files by a typing error.
    """
    if directory.exists() and not _may_replace(directory):
        raise FileExistsError(
            f"{directory} exists and is no result directory: choose another --out."
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _write_json(scratch / "result.json", result_document(run))
        _write_json(scratch / "request.json", request_document(run))
        _write_csv(scratch / "trades.csv", trades_table(run))
        _write_csv(scratch / "equity.csv", equity_table(run))
        pq.write_table(bars_table(run), scratch / "bars.parquet", compression="zstd")
        pq.write_table(decisions_table(run), scratch / "decisions.parquet", compression="zstd")
        pq.write_table(features_table(run), scratch / "features.parquet", compression="zstd")
        for path in scratch.iterdir():
            _sync(path)
        if directory.exists():
            shutil.rmtree(directory)
        scratch.rename(directory)
        _sync(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def result_document(run: BacktestRun) -> dict[str, Any]:
    """Returns the content of result.json."""
    undefined = {m.id: m.undefined_reason for m in run.metrics if m.value is None}
    provenance = run.provenance
    return {
        "format": RESULT_FORMAT,
        "result_digest": provenance.result_digest,
        "order_digest": provenance.order_digest,
        "config_digest": provenance.config_digest,
        "model": {"name": run.model.name, "digest": provenance.model_digest},
        "datasets": dict(provenance.dataset_digests),
        "metrics": {m.id: _plain(m.id, m.value) for m in run.metrics},
        "undefined_metrics": undefined,
        "annualization": {m.id: m.annualization for m in run.metrics if m.annualization},
        "sample_counts": {m.id: m.sample_count for m in run.metrics},
        "funnel": [
            {
                "stage": stage.name,
                "entered": stage.entered_count,
                "passed": stage.passed_count,
                "dropped": dict(stage.drops),
            }
            for stage in run.funnel
        ],
        "no_trades_because": explain_no_trades(run.funnel),
        "first_bar": iso_time(int(run.bars.open_time_ns[0])),
        "last_bar": iso_time(int(run.bars.open_time_ns[-1])),
        "bar_count": len(run.bars),
        "final_cash": run.final_cash,
        "config": dict(run.config),
        "versions": dict(provenance.versions),
    }


def request_document(run: BacktestRun) -> dict[str, Any]:
    """Returns the content of request.json: what --request reads."""
    return run.request.model_dump(mode="json", exclude_defaults=True)


def trades_table(run: BacktestRun) -> pa.Table:
    """Returns one row for each closed trade."""
    trades = run.trades
    sides = [PositionSide(int(side)).name for side in trades["side"]]
    reasons = [ExitReason(int(reason)).name for reason in trades["exit_reason"]]
    columns: dict[str, Any] = {
        "entry_time": iso_times(trades["entry_time_ns"]),
        "exit_time": iso_times(trades["exit_time_ns"]),
        "side": pa.array(sides, pa.string()),
    }
    for name in ("quantity", "entry_price", "exit_price", "gross_pnl", "net_pnl"):
        columns[name] = np.ascontiguousarray(trades[name])
    for name in ("commission", "slippage"):
        columns[name] = np.ascontiguousarray(trades[name])
    columns["exit_reason"] = pa.array(reasons, pa.string())
    for name in ("mae", "mfe", "financing"):
        columns[name] = np.ascontiguousarray(trades[name])
    return pa.table(columns)


def equity_table(run: BacktestRun) -> pa.Table:
    """Returns one row for each bar at whose close the account was marked."""
    marked = ~np.isnan(run.equity)
    return pa.table(
        {
            "time": iso_times(run.bars.open_time_ns[marked]),
            "equity": run.equity[marked],
            "cash": run.cash[marked],
            "position": run.position[marked],
        }
    )


def bars_table(run: BacktestRun) -> pa.Table:
    """Returns one row for each simulated bar: its prices and volume."""
    bars = run.bars
    columns: dict[str, Any] = {"time": _timestamps(bars.open_time_ns)}
    for name in ("open", "high", "low", "close", "volume"):
        columns[name] = np.ascontiguousarray(getattr(bars, name))
    return pa.table(columns)


def decisions_table(run: BacktestRun) -> pa.Table:
    """Returns one row for each simulated bar: scores, confidence, decisions and the reason."""
    columns: dict[str, Any] = {"time": _timestamps(run.bars.open_time_ns)}
    for index, name in enumerate(run.scores.names):
        columns[name] = np.ascontiguousarray(run.scores.values[:, index])
    columns["confidence"] = run.scores.confidence
    columns["raw_decision"] = _names(run.scores.raw_decision, {d.value: d.name for d in Decision})
    columns["decision"] = _names(run.decision, {d.value: d.name for d in Decision})
    columns["reason"] = _names(run.reason, {r.value: r.name for r in DecisionReason})
    return pa.table(columns)


def features_table(run: BacktestRun) -> pa.Table:
    """Returns one row for each simulated bar: the time, then every feature."""
    columns: dict[str, Any] = {"time": _timestamps(run.bars.open_time_ns)}
    for index, name in enumerate(run.features.names):
        columns[name] = np.ascontiguousarray(run.features.values[:, index])
    return pa.table(columns)


def file_digest(path: Path) -> str:
    """Returns sha256:<hex> of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def iso_time(time_ns: int) -> str:
    """Returns 2023-01-01T22:00:00Z; fractions of a second are kept where there are any."""
    whole = str(np.datetime64(time_ns // 10**9, "s"))
    fraction = time_ns % 10**9
    return f"{whole}.{fraction:09d}Z" if fraction else f"{whole}Z"


def iso_times(times_ns: NDArray[np.int64]) -> pa.Array:
    """Returns the texts of many times; see iso_time."""
    if np.any(times_ns % 10**9):
        return pa.array([iso_time(int(time_ns)) for time_ns in times_ns], pa.string())
    texts = np.datetime_as_string((times_ns // 10**9).astype("datetime64[s]"))
    return pa.array(np.char.add(texts, "Z") if len(texts) else [], pa.string())


def _timestamps(times_ns: NDArray[np.int64]) -> pa.Array:
    return pa.array(times_ns, pa.int64()).cast(pa.timestamp("ns", "UTC"))


def _names(codes: NDArray[np.int8], names: Mapping[int, str]) -> pa.Array:
    """Returns texts as a dictionary: a byte for each bar in place of a word."""
    lookup = np.zeros(256, dtype=np.int32)
    for position, code in enumerate(names):
        lookup[code & 0xFF] = position
    indices = pa.array(lookup[codes.view(np.uint8)])
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(names.values())))


def _plain(metric_id: str, value: float | None) -> float | int | None:
    is_count = metric_id in ("total_trades", "winning_trades", "losing_trades")
    return int(value) if is_count and value is not None else value


def _may_replace(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or ("result.json" in names and names <= set(RESULT_FILES))


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def _write_csv(path: Path, table: pa.Table) -> None:
    # Arrow quotes the header whatever the quoting style says; these names need no quotes.
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())
        pyarrow.csv.write_csv(table, file, write_options=options)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
