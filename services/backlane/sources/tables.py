"""Opens a vendor's file: CSV in any delimiter and encoding, gzipped or not, or Parquet.

Produces the raw columns of the bars as Arrow arrays; what their values mean is for `stamps` and
`numbers` to say. Every way in which a file can be broken ends in UnusableFileError or a finding.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from backlane.errors import FieldViolation, InvalidRequestError, LimitExceededError
from backlane.market.finding import Finding, FindingCode
from backlane.sources.columns import ColumnChoice, choose_columns
from backlane.sources.unusable import UnusableFileError

MAX_FILE_BYTES = 8 * 2**30
MAX_TEXT_BYTES = 4 * 2**30
MAX_BARS = 50_000_000
_PEEK_BYTES = 64 * 1024
_CHUNK_BYTES = 4 * 2**20
_DELIMITERS = (",", ";", "\t", "|")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, slots=True)
class RawBars:
    """The columns of a file that make its bars, still in the file's own types.

    `time` holds one array, or the days and the times of day. `volume` is None when the user said
    that there is none. `findings` is what reading them brought up.
    """

    time: tuple[pa.ChunkedArray, ...]
    prices: tuple[pa.ChunkedArray, ...]
    volume: pa.ChunkedArray | None
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.prices[0])


def read_raw_bars(path: Path, columns: Mapping[str, str]) -> RawBars:
    """Reads the columns of a bar from a CSV, gzipped CSV or Parquet file.

    What the file is, is told from its first bytes, not from its name. Raises InvalidRequestError
    when there is no such file, LimitExceededError when it is larger than MAX_FILE_BYTES (packed),
    MAX_TEXT_BYTES (unpacked) or MAX_BARS, and UnusableFileError when it holds no bars.
    """
    _check_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(_PEEK_BYTES)
        if not start:
            raise UnusableFileError(FindingCode.EMPTY, "The file is empty.")
        if start.startswith(b"PAR1"):
            return _read_parquet(path, columns)
        if start.startswith(b"\x1f\x8b"):
            text = _unpack(path)
            return _read_csv(pa.BufferReader(text), text[:_PEEK_BYTES], columns)
        with path.open("rb") as file:
            return _read_csv(file, start, columns)
    except OSError as error:
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE, f"The file cannot be read: {error}."
        ) from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        message = f"There is no file {str(path)!r}."
        raise InvalidRequestError(
            message, metadata={"path": str(path)}, violations=(FieldViolation("path", message),)
        )
    _check_limit("MAX_FILE_BYTES", path.stat().st_size, MAX_FILE_BYTES)


def _check_limit(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise LimitExceededError(
            f"The file holds {value} where at most {limit} is read ({name}): split it by years.",
            metadata={"limit": name, "value": str(value), "maximum": str(limit)},
        )


def _unpack(path: Path) -> bytes:
    """Returns the text of a gzip file, whole or not at all."""
    text = bytearray()
    try:
        with gzip.open(path, "rb") as packed:
            while chunk := packed.read(_CHUNK_BYTES):
                text += chunk
                _check_limit("MAX_TEXT_BYTES", len(text), MAX_TEXT_BYTES)
    except EOFError as error:
        raise UnusableFileError(
            FindingCode.TRUNCATED_FILE,
            f"The gzip file breaks off after {len(text)} unpacked bytes: fetch it again.",
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE, f"The gzip file is damaged ({error}): fetch it again."
        ) from error
    if not text:
        raise UnusableFileError(FindingCode.EMPTY, "The gzip file holds nothing.")
    return bytes(text)


# --- CSV ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a CSV file is written."""

    encoding: str
    delimiter: str
    decimal_point: str
    names: tuple[str, ...]


def _read_csv(
    source: io.BufferedReader | pa.BufferReader, start: bytes, columns: Mapping[str, str]
) -> RawBars:
    layout = _detect_layout(start)
    choice = choose_columns(layout.names, columns)
    try:
        return _parse_csv(source, layout, choice, pa.float64())
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error).lower():
            raise _unreadable(error) from error
    # Text stands where a number should: read again as text, to count such rows and show the first.
    source.seek(0)
    try:
        return _parse_csv(source, layout, choice, pa.string())
    except pa.ArrowInvalid as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> UnusableFileError:
    return UnusableFileError(
        FindingCode.UNREADABLE_FILE,
        f"The file is neither CSV nor Parquet, or is damaged: {str(error).splitlines()[0]}.",
    )


def _parse_csv(
    source: io.BufferedReader | pa.BufferReader,
    layout: _Layout,
    choice: ColumnChoice,
    number_type: pa.DataType,
) -> RawBars:
    broken: list[str] = []
    broken_count = 0

    def note_broken_row(row: pa.csv.InvalidRow) -> str:
        nonlocal broken_count
        broken_count += 1
        if not broken:
            broken.append(f"{row.actual_columns} values instead of {row.expected_columns}: ")
            broken[0] += repr(row.text[:80])
        return "skip"

    names = [str(at) for at in range(len(layout.names))]
    types = {
        names[at]: pa.string() if at in choice.time else number_type for at in choice.positions
    }
    table = pa.csv.read_csv(
        source,
        read_options=pa.csv.ReadOptions(
            column_names=names, skip_rows=1, encoding=layout.encoding.removesuffix("-sig")
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=layout.delimiter, invalid_row_handler=note_broken_row
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=list(types), column_types=types, decimal_point=layout.decimal_point
        ),
    )
    findings = []
    if broken:
        message = "Rows have more or fewer values than the header has names."
        findings.append(Finding(FindingCode.BROKEN_ROW, broken_count, broken[0], message))
    return _raw_bars([table.column(str(at)) for at in choice.positions], choice, findings)


def _detect_layout(start: bytes) -> _Layout:
    encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in start:
        raise _unreadable(ValueError("it holds zero bytes"))
    try:
        # The peek may end inside a character; that one is beyond the first lines.
        text = start.decode(encoding, errors="ignore" if len(start) == _PEEK_BYTES else "strict")
    except UnicodeDecodeError as error:
        raise _unreadable(error) from error
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE, "The first line is blank: it must name the columns."
        )
    delimiter = max(_DELIMITERS, key=lines[0].count)
    names = _cells(lines[0], delimiter)
    first_row = _cells(lines[1], delimiter) if len(lines) > 1 else []
    comma = delimiter != "," and any(_DECIMAL_COMMA.fullmatch(cell) for cell in first_row)
    return _Layout(encoding, delimiter, "," if comma else ".", tuple(names))


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise _unreadable(error) from error


# --- Parquet -----------------------------------------------------------------------------------


def _read_parquet(path: Path, columns: Mapping[str, str]) -> RawBars:
    try:
        with pa.parquet.ParquetFile(path) as file:
            _check_limit("MAX_BARS", file.metadata.num_rows, MAX_BARS)
            names = file.schema_arrow.names
            choice = choose_columns(names, columns)
            table = file.read(columns=[names[at] for at in choice.positions])
    except (pa.ArrowException, OSError) as error:
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE,
            f"The Parquet file is damaged or cut off: {str(error).splitlines()[0]}.",
        ) from error
    return _raw_bars([table.column(names[at]) for at in choice.positions], choice, [])


def _raw_bars(
    chosen: Sequence[pa.ChunkedArray], choice: ColumnChoice, findings: Sequence[Finding]
) -> RawBars:
    _check_limit("MAX_BARS", len(chosen[0]), MAX_BARS)
    time_count = len(choice.time)
    return RawBars(
        tuple(chosen[:time_count]),
        tuple(chosen[time_count : time_count + 4]),
        None if choice.volume is None else chosen[-1],
        (*findings, *_volume_findings(choice, len(chosen[0]))),
    )


def _volume_findings(choice: ColumnChoice, bar_count: int) -> list[Finding]:
    if choice.volume is None:
        message = "The file is read without a volume, as asked; every bar has volume 0."
        return [Finding(FindingCode.NO_VOLUME, bar_count, "", message)]
    if choice.volume_counts_ticks:
        message = "The volume is the number of price changes (ticks), not of units traded."
        return [Finding(FindingCode.TICK_VOLUME, bar_count, "", message)]
    return []
