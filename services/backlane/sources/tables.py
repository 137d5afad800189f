"""Opens a vendor's file: CSV in any delimiter and encoding, gzipped or not, or Parquet.

Produces the raw columns of the bars as Arrow arrays; what their values mean is for `stamps` and
`numbers` to say. Every way in which a file can be broken ends in UnusableFileError or a finding.
"""

import csv
import gzip
import io
import re
import stat
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from backlane.errors import FieldViolation, InvalidRequestError, LimitExceededError
from backlane.market.finding import Finding, FindingCode
from backlane.sources.columns import ColumnChoice, choose_columns
from backlane.sources.foreign_files import foreign_kind, promised_kind
from backlane.sources.unusable import UnusableFileError

MAX_FILE_BYTES = 8 * 2**30
MAX_TEXT_BYTES = 4 * 2**30
MAX_BARS = 50_000_000
# Text of bars packs 3 to 20 times; what packs better is made to fill the memory of its reader.
MAX_UNPACK_RATIO = 250
FREE_UNPACK_BYTES = 64 * 2**20
# No price, volume or stamp is longer; in Parquet a few bytes can say the same long text for ever.
MAX_VALUE_BYTES = 256
# Arrow parses block by block and a line must lie in two of them; bars have lines of 100 bytes.
MAX_LINE_BYTES = 2**20
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
    when there is no such plain file, LimitExceededError when it is larger than MAX_FILE_BYTES
    (packed), MAX_TEXT_BYTES (unpacked) or MAX_BARS, and UnusableFileError when it holds no bars.
    """
    packed_bytes = _check_file(path)
    if packed_bytes == 0:
        raise UnusableFileError(FindingCode.EMPTY, "The file is empty.")
    try:
        with path.open("rb") as file:
            start = file.read(_PEEK_BYTES)
        return _read_kind(path, packed_bytes, start, columns)
    except OSError as error:
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE, f"The file cannot be read: {error.strerror or error}."
        ) from error
    except UnusableFileError as unusable:
        raise _against_its_name(path, start, unusable) from unusable


def _read_kind(path: Path, packed_bytes: int, start: bytes, columns: Mapping[str, str]) -> RawBars:
    if start.startswith(b"PAR1"):
        return _read_parquet(path, columns)
    if start.startswith(b"\x1f\x8b"):
        text = _unpack(path, packed_bytes)
        return _read_csv(pa.BufferReader(text), text[:_PEEK_BYTES], columns)
    with path.open("rb") as file:
        return _read_csv(file, start, columns)


def _against_its_name(path: Path, start: bytes, unusable: UnusableFileError) -> UnusableFileError:
    """Says that a file is not what its name promises, where that is why it is no CSV."""
    kind = promised_kind(path.name, start)
    told = (FindingCode.MISSING_COLUMN, FindingCode.UNREADABLE_FILE)
    if kind is None or unusable.finding.code not in told:
        return unusable
    return UnusableFileError(
        FindingCode.UNREADABLE_FILE,
        f"The name ends in {path.suffix}, but the content is no {kind}, and no CSV with the "
        "columns of bars either: fetch it again.",
    )


def _check_file(path: Path) -> int:
    """Returns the size in bytes of what must be a plain file, and not a pipe that never ends."""
    name = repr(str(path))
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        problem = f"There is no file {name}."
    except (OSError, ValueError) as error:
        problem = f"{name} cannot be opened: {getattr(error, 'strerror', None) or error}."
    else:
        if stat.S_ISREG(status.st_mode):
            _check_limit("MAX_FILE_BYTES", status.st_size, MAX_FILE_BYTES)
            return status.st_size
        is_folder = stat.S_ISDIR(status.st_mode)
        problem = f"{name} is {'a folder: name a file in it' if is_folder else 'no plain file'}."
    raise InvalidRequestError(
        problem, metadata={"path": str(path)}, violations=(FieldViolation("path", problem),)
    )


def _check_limit(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise LimitExceededError(
            f"The file holds {value} where at most {limit} is read ({name}): split it by years.",
            metadata={"limit": name, "value": str(value), "maximum": str(limit)},
        )


def _unpack(path: Path, packed_bytes: int) -> bytes:
    """Returns the text of a gzip file, whole or not at all."""
    text = bytearray()
    try:
        with gzip.open(path, "rb") as packed:
            while chunk := packed.read(_CHUNK_BYTES):
                text += chunk
                _check_limit("MAX_TEXT_BYTES", len(text), MAX_TEXT_BYTES)
                _check_ratio(packed_bytes, len(text))
    except EOFError as error:
        raise UnusableFileError(
            FindingCode.TRUNCATED_FILE,
            "The gzip file breaks off before its end: fetch it again.",
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE,
            "The gzip file is damaged (its checksum or its blocks are wrong): fetch it again.",
        ) from error
    if not text:
        raise UnusableFileError(FindingCode.EMPTY, "The gzip file holds nothing.")
    return bytes(text)


def _check_ratio(packed_bytes: int, unpacked_bytes: int) -> None:
    if unpacked_bytes > max(FREE_UNPACK_BYTES, MAX_UNPACK_RATIO * packed_bytes):
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE,
            f"The gzip file unpacks to more than {MAX_UNPACK_RATIO} times its size: no bars pack "
            "so well, and it was not unpacked to its end.",
        )


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
    if kind := foreign_kind(start):
        raise UnusableFileError(FindingCode.UNREADABLE_FILE, f"The file is {kind}.")
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
    cause = str(error).partition("\n")[0]
    if isinstance(error, UnicodeDecodeError):
        cause = f"its byte {error.start + 1} is no text in UTF-8"
    elif "UTF8" in cause:
        cause = "it is no text in UTF-8"
    elif "straddl" in cause:
        cause = f"it has a line of more than {MAX_LINE_BYTES:,} bytes"
    return UnusableFileError(
        FindingCode.UNREADABLE_FILE,
        f"The file is neither CSV nor Parquet, or is damaged: {cause}.",
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
            column_names=names,
            skip_rows=1,
            encoding=layout.encoding.removesuffix("-sig"),
            block_size=MAX_LINE_BYTES,
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
            chosen = [names[at] for at in choice.positions]
            texts = [name for name in chosen if _is_text(file.schema_arrow.field(name).type)]
        with pa.parquet.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read(columns=chosen)
    except MemoryError:  # Arrow's own is both: that the machine is full is no damage of the file
        raise
    except (pa.ArrowException, OSError) as error:
        raise UnusableFileError(
            FindingCode.UNREADABLE_FILE, "The Parquet file is damaged or cut off: fetch it again."
        ) from error
    return _raw_bars([_written_out(name, table.column(name)) for name in chosen], choice, [])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _written_out(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns a column of texts as such; in the file each text may stand once for all its rows."""
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return column
    for chunk in column.chunks:
        longest_bytes = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
        if longest_bytes > MAX_VALUE_BYTES:
            raise UnusableFileError(
                FindingCode.UNREADABLE_FILE,
                f"The column {name!r} holds a text of {longest_bytes:,} bytes; no price and no "
                f"time has more than {MAX_VALUE_BYTES}.",
            )
    return column.cast(pa.string())


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
