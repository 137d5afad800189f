"""Result directories as the audits read them, and their requests, made again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from backlane.audit.recorded import BARS, DECISIONS, EQUITY, FEATURES, TRADES, RecordedResult, Table
from backlane.backtest.request import BacktestRequest, parse_request
from backlane.backtest.result import BacktestRun
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.inference.model_name import ModelName
from backlane.report.document import ResultDocument
from backlane.report.tables import read_json, read_table, typed_table
from backlane.sources.results import (
    bars_table,
    decisions_table,
    equity_table,
    features_table,
    request_document,
    result_document,
    trades_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILES = {
    BARS: "bars.parquet",
    FEATURES: "features.parquet",
    DECISIONS: "decisions.parquet",
    TRADES: "trades.csv",
    EQUITY: "equity.csv",
}
_OPTIONAL = (BARS,)  # results of earlier versions lack them
_MAKERS = {
    BARS: bars_table,
    FEATURES: features_table,
    DECISIONS: decisions_table,
    TRADES: trades_table,
    EQUITY: equity_table,
}


def read_recorded(directory: Path) -> RecordedResult:
    """Reads a result directory; raises ResultNotFoundError and InvalidRequestError."""
    document = read_json(directory, "result.json")
    ResultDocument.parse(document, source=str(directory / "result.json"))
    tables = {
        table: _columns(read_table(directory, file))
        for table, file in _FILES.items()
        if table not in _OPTIONAL or (directory / file).is_file()
    }
    return RecordedResult(document, read_json(directory, "request.json"), tables)


def recorded_run(run: BacktestRun) -> RecordedResult:
    """Returns what the directory of a run would say, without writing it."""
    tables = {
        table: _columns(typed_table(make(run), _FILES[table])) for table, make in _MAKERS.items()
    }
    return RecordedResult(result_document(run), request_document(run), tables)


def request_again(
    recorded: RecordedResult, model_path: Path | None, data: "Sequence[str]"
) -> BacktestRequest:
    """Returns the request of a result, with the model and the files where they are now.

    It names the very version that ran, and pins no digest: whoever runs it again compares them.
    """
    document: dict[str, Any] = dict(recorded.request)
    for pin in ("model_digest", "dataset_digests"):
        document.pop(pin, None)
    model = document.get("model")
    if model_path is not None:
        document["model"] = {"path": str(model_path.expanduser().absolute())}
    elif isinstance(model, dict) and "name" in model:
        name = ModelName.parse(str(recorded.document["model"]["name"]), field="model")
        document["model"] = {"name": name.model, "version": name.version}
    files = dict((document.get("data") or {}).get("files") or {})
    for text in data:
        label, equals, file = text.partition("=")
        if not (label and equals and file):
            message = f"{text!r} does not read TIMEFRAME=FILE, as in 1h=EURUSD.csv."
            raise InvalidRequestError(message, violations=(FieldViolation("--data", message),))
        files[label] = str(Path(file).expanduser().absolute())
    if files:
        document["data"] = {"files": files}
    return parse_request(document)


def _columns(table: pa.Table) -> Table:
    """Returns arrays: times as int64 nanoseconds, texts as str, numbers as they are."""
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_timestamp(column.type):
            columns[name] = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        elif pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            columns[name] = column.to_numpy(zero_copy_only=False)
        else:
            columns[name] = np.array(column.to_pylist(), dtype=np.str_)
    return columns
