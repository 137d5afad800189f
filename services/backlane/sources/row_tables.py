"""Reads a CSV or Parquet file of rows about many instruments, every column as it stands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.market.finding import FindingCode
from backlane.sources.numbers import float64_column
from backlane.sources.stamps import utc_times
from backlane.sources.unusable import UnusableFileError

MAX_ROWS = 50_000_000
MAX_TABLE_BYTES = 8 * 2**30
TIME_NAMES = ("timestamp", "time", "datetime", "date")
SYMBOL_NAMES = ("symbol", "ticker", "instrument")
_PARQUET_MARK = b"PAR1"


class RowTable:
    """The columns of a file by name; names are looked up without regard to case."""

    def __init__(self, table: pa.Table) -> None:
        """Takes a table; two columns of one name raise UnusableFileError."""
        names = [name.strip().lower() for name in table.column_names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UnusableFileError(
                FindingCode.AMBIGUOUS_COLUMN, f"There are two columns {twice[0]}: leave one."
            )
        self._columns = {name: table.column(at) for at, name in enumerate(names)}

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in lower case, in the order of the file."""
        return tuple(self._columns)

    def find(self, names: Sequence[str]) -> str | None:
        """Returns the first of the names that the file has."""
        return next((name for name in names if name in self._columns), None)

    def need(self, names: Sequence[str]) -> str:
        """Returns the first of the names that the file has; raises UnusableFileError for none."""
        found = self.find(names)
        if found is None:
            held = ", ".join(self.names)
            raise UnusableFileError(
                FindingCode.MISSING_COLUMN,
                f"There is no column {' or '.join(names)}; the columns are {held}.",
            )
        return found

    def times(self, name: str) -> NDArray[np.int64]:
        """Returns a column of stamps as UTC nanoseconds; those without a zone are in UTC."""
        times, _ = utc_times((self._columns[name],), "UTC")
        return times

    def is_empty(self, name: str) -> NDArray[np.bool_]:
        """Says which rows of a column hold nothing."""
        column = self._columns[name]
        empty = pc.is_null(column)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            empty = pc.or_kleene(empty, pc.equal(pc.utf8_trim_whitespace(column), ""))
        return np.asarray(empty).astype(bool)

    def texts(self, name: str) -> NDArray[np.object_]:
        """Returns a column as texts; an empty one raises UnusableFileError."""
        if self.is_empty(name).any():
            row = int(self.is_empty(name).argmax()) + 1
            raise UnusableFileError(
                FindingCode.MISSING_COLUMN, f"Row {row} has no {name}.", first_example=f"row {row}"
            )
        texts = self._columns[name].cast(pa.string())
        return np.array(texts.to_pylist(), dtype=object)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Returns a column as float64, empty values as NaN; text raises UnusableFileError."""
        values, finding = float64_column(name, self._columns[name])
        if finding is not None:
            raise UnusableFileError(
                finding.code,
                finding.message,
                count=finding.count,
                first_example=finding.first_example,
            )
        return values

    def is_numeric(self, name: str) -> bool:
        """Whether a column holds numbers, or texts that all are numbers."""
        column = self._columns[name]
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return True
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        return is_text and float64_column(name, column)[1] is None


def read_rows(path: Path, field: str) -> RowTable:
    """Returns the columns of a CSV or Parquet file; which of both, its first bytes say.

    Raises InvalidRequestError, naming `field`, when there is no such plain file or it is over
    MAX_TABLE_BYTES, and UnusableFileError when it is neither CSV nor Parquet or has no rows.
    """
    _check_file(path, field)
    with path.open("rb") as file:
        start = file.read(len(_PARQUET_MARK))
    try:
        table = pq.read_table(path) if start == _PARQUET_MARK else _read_csv(path)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        cause = str(error).partition("\n")[0]
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE,
            f"The file is neither CSV nor Parquet, or is damaged: {cause}.",
        ) from error
    if table.num_rows == 0:
        raise UnusableFileError(FindingCode.EMPTY, "The file has no rows.")
    if table.num_rows > MAX_ROWS:
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE, f"The file has more than {MAX_ROWS:,} rows (MAX_ROWS)."
        )
    return RowTable(table)


def _read_csv(path: Path) -> pa.Table:
    with pa.csv.open_csv(path) as reader:
        names = reader.schema.names
    # Text keeps the digits: numbers and stamps are then read as in every other file.
    return pa.csv.read_csv(
        path, convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    )


def _check_file(path: Path, field: str) -> None:
    problem = ""
    try:
        if not path.is_file():
            problem = "is no file" if path.exists() else "does not exist"
        elif path.stat().st_size == 0:
            problem = "is empty"
        elif path.stat().st_size > MAX_TABLE_BYTES:
            problem = f"is larger than {MAX_TABLE_BYTES:,} bytes (MAX_TABLE_BYTES): split it"
    except (OSError, ValueError) as error:
        problem = f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if problem:
        message = f"{str(path)!r} {problem}: name a CSV or Parquet file."
        raise InvalidRequestError(
            message, metadata={"path": str(path)}, violations=(FieldViolation(field, message),)
        )
