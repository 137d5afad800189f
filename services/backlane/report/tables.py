"""The tables of a result directory, read with the types that they were written with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from backlane.audit.stamp import AuditStamp, parse_stamp
from backlane.errors import FieldViolation, InvalidRequestError, ResultNotFoundError

JSON_BYTES_MAX = 16 * 1024 * 1024
"""Size of result.json and request.json; real ones have some KiB."""

TIME = pa.timestamp("ns", "UTC")
COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "trades.csv": {
        "entry_time": TIME,
        "exit_time": TIME,
        "side": pa.string(),
        "quantity": pa.float64(),
        "entry_price": pa.float64(),
        "exit_price": pa.float64(),
        "gross_pnl": pa.float64(),
        "net_pnl": pa.float64(),
        "commission": pa.float64(),
        "slippage": pa.float64(),
        "exit_reason": pa.string(),
        "mae": pa.float64(),
        "mfe": pa.float64(),
    },
    "equity.csv": {
        "time": TIME,
        "equity": pa.float64(),
        "cash": pa.float64(),
        "position": pa.float64(),
    },
    "bars.parquet": {
        "time": TIME,
        "open": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "close": pa.float64(),
        "volume": pa.float64(),
    },
    "decisions.parquet": {"time": TIME},
    "features.parquet": {"time": TIME},
}
"""The columns that each file must have; further ones are read as they are."""
Columns = Mapping[str, Mapping[str, pa.DataType]]


def read_table(directory: Path, name: str, columns: Columns = COLUMNS) -> pa.Table:
    """Returns a table of the result directory; `columns` says what its files must have.

    Raises ResultNotFoundError when the file is not there, InvalidRequestError when it is damaged.
    """
    path = directory / name
    if not path.is_file():
        raise _missing(path)
    try:
        if path.suffix == ".csv":
            options = pyarrow.csv.ConvertOptions(column_types=dict(columns[name]))
            table = _widened(pyarrow.csv.read_csv(path, convert_options=options))
        else:
            table = pq.read_table(path)
        return typed_table(table, name, columns)
    except (pa.ArrowException, UnicodeDecodeError, KeyError) as error:
        raise _damaged(path, str(error).partition("\n")[0].strip("'\"")) from error


def typed_table(table: pa.Table, name: str, columns: Columns = COLUMNS) -> pa.Table:
    """Returns the table with the types of `columns`; KeyError when it lacks one of them."""
    for column, kind in columns[name].items():
        if column not in table.column_names:
            raise KeyError(f"it has no column {column}")
        index = table.column_names.index(column)
        if table.schema.types[index] != kind:
            table = table.set_column(index, column, table.column(column).cast(kind))
    return table


def _widened(table: pa.Table) -> pa.Table:
    """Integers become float64: CSV writes 0.0 as 0, so it cannot tell them apart."""
    for index, kind in enumerate(table.schema.types):
        if pa.types.is_integer(kind):
            name = table.column_names[index]
            table = table.set_column(index, name, table.column(index).cast(pa.float64()))
    return table


def read_json(directory: Path, name: str) -> dict[str, Any]:
    """Returns a document of the result directory; errors are those of `read_table`."""
    path = directory / name
    if not path.is_file():
        raise _missing(path)
    if path.stat().st_size > JSON_BYTES_MAX:
        raise _damaged(path, f"it has more than {JSON_BYTES_MAX:,} bytes (JSON_BYTES_MAX)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no object")
    return content


def read_stamp(path: Path) -> AuditStamp:
    """Returns the stamp that `backlane audit` wrote; errors are those of `read_table`."""
    content = read_json(path.parent, path.name)
    try:
        return parse_stamp(content)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _missing(path: Path) -> ResultNotFoundError:
    return ResultNotFoundError(
        f"There is no {path}. Give what `backlane backtest run --out` wrote.",
        metadata={"file": str(path)},
    )


def _damaged(path: Path, why: str) -> InvalidRequestError:
    message = f"{path} cannot be read: {why}. Make it again, or download it again."
    return InvalidRequestError(
        message,
        metadata={"file": str(path)},
        violations=(FieldViolation(path.name, message),),
    )
