"""Data files that must not become bars, and odd ones that may: one case each, as data.

Tests run every case in process and through the command line; scripts/generate_error_docs.py runs
them, too, and writes what each is told into docs/errors.md.
"""

import gzip
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from backlane.errors import BacklaneError, DataRefusedError, InvalidRequestError
from backlane.market.finding import FindingCode as Code
from backlane.market.finding import QualityReport
from backlane.market.timeframe import Timeframe
from backlane.sources.files import inspect_bars, read_bars

NOW_NS = 1_800_000_000 * 10**9
"""2027-01-15T08:00:00Z: what counts as now for stamps of the future."""
TIMEFRAME = "1h"
ATHENS = "Europe/Athens"
HEADER = "timestamp,open,high,low,close,volume"
A, B, C, D = ROWS = (
    "2024-01-02T00:00:00Z,1.10,1.12,1.09,1.11,100",
    "2024-01-02T01:00:00Z,1.11,1.13,1.10,1.12,110",
    "2024-01-02T02:00:00Z,1.12,1.14,1.11,1.13,120",
    "2024-01-02T03:00:00Z,1.13,1.15,1.12,1.14,130",
)
_MIB = 2**20
_NOBODY = 65_534
_Write = Callable[[Path], Path]


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """One case. `done` is what is wrong with it, for people; `says` are words of the refusal.

    `write` puts the file into a folder and returns its path; `code` is the finding, None where the
    path itself is refused. `timezone` is what stamps without a zone are read in. A case that
    `needs_user` cannot happen to root, who may read everything.
    """

    name: str
    done: str
    write: _Write
    code: Code | None
    says: str
    timezone: str = "UTC"
    needs_user: bool = False

    @property
    def error(self) -> type[BacklaneError]:
        """The class of what refuses it."""
        return InvalidRequestError if self.code is None else DataRefusedError


@dataclass(frozen=True, slots=True)
class OddFile:
    """A file that looks broken and is read; `codes` are the warnings and remarks that it gets."""

    name: str
    done: str
    write: _Write
    codes: frozenset[Code]


def refusal(case: BrokenFile, folder: Path) -> BacklaneError:
    """Writes the case into `folder`, reads it, and returns what the reader is told.

    Raises AssertionError when it is accepted.
    """
    path = case.write(folder)
    with _as_somebody(folder) if case.needs_user else nullcontext():
        try:
            read_bars(
                path, "TEST", Timeframe.parse(TIMEFRAME), timezone=case.timezone, now_ns=NOW_NS
            )
        except BacklaneError as error:
            return error
    raise AssertionError(f"the file {case.name} is accepted")


@contextmanager
def _as_somebody(folder: Path) -> Iterator[None]:
    """Root may read every file: for a moment this process is a user who may not.

    That one cannot even reach `folder` from the root of the file system, nor what Python reads
    when it is first used; so it stands in the folder, and a sound file is read before.
    """
    if os.geteuid() != 0:
        yield
        return
    sound = _raw(_TEXT, "sound.csv")(folder)
    read_bars(sound, "TEST", Timeframe.parse(TIMEFRAME))
    before = Path.cwd()
    folder.chmod(0o755)
    os.chdir(folder)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.chdir(before)


def report_on(case: OddFile, folder: Path) -> QualityReport:
    """Writes the case into `folder` and returns what the check of its bars reports."""
    return inspect_bars(case.write(folder), "GBPUSD", Timeframe.parse(TIMEFRAME), now_ns=NOW_NS)[1]


# --- how a case is written ---------------------------------------------------------------------


def csv_text(*rows: str, header: str = HEADER) -> str:
    """Returns the text of a CSV file."""
    return "\n".join([header, *rows]) + "\n"


def with_values(row: str, *values: str) -> str:
    """Returns a row of the same time with other values."""
    return ",".join([row.partition(",")[0], *values])


def _raw(content: bytes, file_name: str = "bars.csv") -> _Write:
    def write(folder: Path) -> Path:
        path = folder / file_name
        path.write_bytes(content)
        return path

    return write


def _csv(*rows: str, header: str = HEADER) -> _Write:
    return _raw(csv_text(*rows, header=header).encode())


def _second(*values: str) -> _Write:
    """Four sound rows, the second of them with these values in place of its own."""
    return _csv(A, with_values(B, *values), C, D)


def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


_TEXT = csv_text(*ROWS).encode()
_PACKED = _gzipped(_TEXT)


def _parquet(**changes: Any) -> _Write:
    columns: dict[str, Any] = {
        "timestamp": pa.array([1704153600 * 10**9, 1704157200 * 10**9], pa.timestamp("ns", "UTC")),
        **{name: [1.5, 1.5] for name in ("open", "high", "low", "close")},
        "volume": [1.0, 2.0],
    }
    columns |= changes
    present = {name: values for name, values in columns.items() if values is not None}

    def write(folder: Path) -> Path:
        path = folder / "bars.parquet"
        pyarrow.parquet.write_table(pa.table(present), path)
        return path

    return write


def _cut_parquet(folder: Path) -> Path:
    path = _parquet()(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _doubled_parquet(folder: Path) -> Path:
    path = folder / "bars.parquet"
    names = ["timestamp", "open", "high", "low", "close", "close", "volume"]
    arrays = [pa.array(["2024-01-02T00:00:00Z"]), *[pa.array([1.5])] * 6]
    pyarrow.parquet.write_table(pa.Table.from_arrays(arrays, names), path)
    return path


def _text_bomb(folder: Path) -> Path:
    """A text of 1 MiB that stands once in the file, and 200,000 times in its column: 200 GB."""
    path = folder / "bars.parquet"
    indices = pa.array([0] * 200_000, pa.int32())
    stamps = pa.DictionaryArray.from_arrays(indices, pa.array(["1" * _MIB]))
    prices: Mapping[str, Any] = {
        name: [1.0] * 200_000 for name in ("open", "high", "low", "close", "volume")
    }
    pyarrow.parquet.write_table(pa.table({"timestamp": stamps, **prices}), path, store_schema=False)
    return path


def _gzip_bomb(folder: Path) -> Path:
    # A gzip file may have parts, one after the other: the same packed zeros twenty times.
    return _raw(_PACKED + 20 * _gzipped(bytes(4 * _MIB)), "bars.csv.gz")(folder)


def _huge_line(folder: Path) -> Path:
    return _raw(f"{HEADER}\n{A}\n{B[:-3]}{'1' * 3 * _MIB}\n{C}\n".encode())(folder)


def _folder(folder: Path) -> Path:
    (folder / "bars.csv").mkdir()
    return folder / "bars.csv"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "bars.csv")
    return folder / "bars.csv"


def _link_loop(folder: Path) -> Path:
    (folder / "bars.csv").symlink_to("bars.csv")
    return folder / "bars.csv"


def _locked(folder: Path) -> Path:
    path = _raw(_TEXT)(folder)
    path.chmod(0)
    return Path(path.name) if os.geteuid() == 0 else path


def _epochs(*stamps: int) -> _Write:
    return _csv(*(f"{stamp},1,1,1,1,1" for stamp in stamps))


def _local(*clocks: str) -> _Write:
    return _csv(*(f"{clock},1,1,1,1,1" for clock in clocks))


# --- the cases ---------------------------------------------------------------------------------

_UNREADABLE = Code.UNREADABLE_FILE
_NO_FILE = (
    BrokenFile("no_file", "there is no such file", lambda folder: folder / "bars.csv", None,
               "There is no file"),
    BrokenFile("folder", "a folder in place of a file", _folder, None, "is a folder"),
    BrokenFile("pipe", "a pipe that nobody writes to", _pipe, None, "no plain file"),
    BrokenFile("link_loop", "a link to itself", _link_loop, None, "cannot be opened"),
    BrokenFile("locked", "a file that the user may not read", _locked, _UNREADABLE,
               "cannot be read: Permission denied", needs_user=True),
)  # fmt: skip

_PACKING = (
    BrokenFile("truncated_gzip", "the end of a gzip file is not there",
               _raw(_PACKED[:-20], "bars.csv.gz"), Code.TRUNCATED_FILE, "breaks off"),
    BrokenFile("damaged_gzip", "the checksum of a gzip file is wrong",
               _raw(_PACKED[:-8] + bytes(8), "bars.csv.gz"), _UNREADABLE, "gzip file is damaged"),
    BrokenFile("empty_gzip", "a gzip file of nothing",
               _raw(_gzipped(b""), "bars.csv.gz"), Code.EMPTY, "gzip file holds nothing"),
    BrokenFile("no_gzip", "a .csv.gz that is no gzip file",
               _raw(b"quota exceeded, try again tomorrow\n", "bars.csv.gz"), _UNREADABLE,
               "name ends in .gz, but the content is no gzip file"),
    BrokenFile("gzip_bomb", "80 MiB of zeros in a gzip file of 80 kB",
               _gzip_bomb, _UNREADABLE, "unpacks to more than 250 times"),
    BrokenFile("gzip_in_gzip", "packed with gzip twice",
               _raw(_gzipped(_PACKED), "bars.csv.gz"), _UNREADABLE, "with gzip twice"),
    BrokenFile("zip_archive", "a zip archive",
               _raw(b"PK\x03\x04" + bytes(60), "bars.zip"), _UNREADABLE, "a zip archive"),
    BrokenFile("cut_parquet", "the end of a Parquet file is not there",
               _cut_parquet, _UNREADABLE, "Parquet file is damaged or cut off"),
    BrokenFile("no_parquet", "a .parquet that is no Parquet file",
               _raw(b"\x00\x01\x02\x03" * 64, "bars.parquet"), _UNREADABLE,
               "name ends in .parquet, but the content is no Parquet file"),
    BrokenFile("parquet_text_bomb", "one long text in every row of a Parquet file of 1 MiB",
               _text_bomb, _UNREADABLE, "a text of 1,048,576 bytes"),
)  # fmt: skip

_FORM = (
    BrokenFile("empty", "a file of no bytes", _raw(b""), Code.EMPTY, "The file is empty"),
    BrokenFile("header_alone", "a header and no rows", _csv(), Code.EMPTY, "There are no bars"),
    BrokenFile("blank_first_line", "a blank line above the header",
               _raw(b"\n" + _TEXT), _UNREADABLE, "first line is blank"),
    BrokenFile("no_header", "rows without a header",
               _csv(*ROWS[1:], header=A), Code.MISSING_COLUMN, "put a header row above"),
    BrokenFile("web_page", "the page of an error in place of the file",
               _raw(b"<!DOCTYPE html>\n<p>Not found</p>\n"), _UNREADABLE, "a web page"),
    BrokenFile("json", "the answer of a web API",
               _raw(b'[{"t": 1704153600, "o": 1.1}]'), _UNREADABLE, "is JSON"),
    BrokenFile("nul_bytes", "zero bytes between the values",
               _raw(_TEXT.replace(b"1.13", b"1.\0\0")), _UNREADABLE, "it holds zero bytes"),
    BrokenFile("no_utf8", "a header in Latin-1",
               _raw(_TEXT.replace(b"open", "öffnen".encode("latin-1"))), _UNREADABLE,
               "its byte 11 is no text in UTF-8"),
    BrokenFile("wrong_delimiter", "values between circumflexes",
               _raw(_TEXT.replace(b",", b"^")), Code.MISSING_COLUMN, "no column for time, open"),
    BrokenFile("missing_column", "no close",
               _csv(*ROWS, header="timestamp,open,high,low,last,volume"), Code.MISSING_COLUMN,
               "no column for close; the file has: 'timestamp', 'open'"),
    BrokenFile("column_twice", "two columns called close",
               _csv(*ROWS, header="timestamp,open,high,close,close,volume"),
               Code.AMBIGUOUS_COLUMN, "2 columns could be the close"),
    BrokenFile("parquet_column_twice", "two columns called close in a Parquet file",
               _doubled_parquet, Code.AMBIGUOUS_COLUMN, "2 columns could be the close"),
    BrokenFile("short_row", "a row of three values",
               _csv(A, "2024-01-02T01:00:00Z,1.11,1.13", C), Code.BROKEN_ROW,
               "3 values instead of 6"),
    BrokenFile("decimal_comma", "decimal commas between commas",
               _csv(A, B.replace("1.12", "1,12"), C), Code.BROKEN_ROW, "7 values instead of 6"),
    BrokenFile("open_quote", "a quotation mark that is never closed",
               _csv(A, B.replace("1.11", '"1.11'), C), Code.BROKEN_ROW, "2 values instead of 6"),
    BrokenFile("huge_line", "a line of 3 MiB", _huge_line, _UNREADABLE,
               "a line of more than 1,048,576 bytes"),
)  # fmt: skip

_NUMBERS = (
    BrokenFile("text_in_a_price", "`n.a.` for a high", _second("1.11", "n.a.", "1.10", "1.12", "1"),
               Code.NOT_A_NUMBER, "row 2: high 'n.a.'"),
    BrokenFile("thousands_separator", "`1,111.5` for an open",
               _second('"1,111.5"', "1.13", "1.10", "1.12", "1"), Code.NOT_A_NUMBER,
               "row 2: open '1,111.5'"),
    BrokenFile("text_in_the_volume", "`12K` for a volume",
               _second("1.11", "1.13", "1.10", "1.12", "12K"), Code.NOT_A_NUMBER, "volume '12K'"),
    BrokenFile("parquet_lists", "a list for a price in a Parquet file",
               _parquet(open=[[1.5], [1.5]]), Code.NOT_A_NUMBER, "list<element: double>"),
    BrokenFile("parquet_nested", "all prices nested in one column of a Parquet file",
               _parquet(open=None, high=None, low=None, close=None,
                        bar=[{"open": 1.5, "close": 1.5}] * 2),
               Code.MISSING_COLUMN, "no column for open, high, low, close"),
    BrokenFile("parquet_flags", "true and false for a price in a Parquet file",
               _parquet(close=[True, False]), Code.NOT_A_NUMBER, "bool, which is no number"),
    BrokenFile("nan_price", "a close that is NaN", _second("1.11", "1.13", "1.10", "NaN", "1"),
               Code.PRICE_NOT_FINITE, "close nan"),
    BrokenFile("empty_price", "a close that is empty", _second("1.11", "1.13", "1.10", "", "1"),
               Code.PRICE_NOT_FINITE, "close nan"),
    BrokenFile("infinite_price", "an infinite high", _second("1.11", "inf", "1.10", "1.12", "1"),
               Code.PRICE_NOT_FINITE, "high inf"),
    BrokenFile("zero_price", "a bar of zeros", _second("0", "0", "0", "0", "1"),
               Code.PRICE_NOT_POSITIVE, "open 0.0"),
    BrokenFile("negative_price", "a negative low", _second("1.11", "1.13", "-1.10", "1.12", "1"),
               Code.PRICE_NOT_POSITIVE, "low -1.1"),
    BrokenFile("high_below_low", "high and low in each other's place",
               _second("1.11", "1.10", "1.13", "1.12", "1"), Code.HIGH_BELOW_LOW,
               "high 1.1, low 1.13"),
    BrokenFile("close_above_high", "a close above the high",
               _second("1.11", "1.13", "1.10", "1.14", "1"), Code.OPEN_CLOSE_OUTSIDE_RANGE,
               "close 1.14"),
    BrokenFile("open_below_low", "an open below the low",
               _second("1.05", "1.13", "1.10", "1.12", "1"), Code.OPEN_CLOSE_OUTSIDE_RANGE,
               "open 1.05"),
    BrokenFile("empty_volume", "a volume that is empty",
               _second("1.11", "1.13", "1.10", "1.12", ""), Code.VOLUME_NOT_FINITE, "volume nan"),
    BrokenFile("negative_volume", "a volume below zero",
               _second("1.11", "1.13", "1.10", "1.12", "-1"), Code.NEGATIVE_VOLUME, "volume -1.0"),
)  # fmt: skip

_TIMES = (
    BrokenFile("unsorted", "two rows in each other's place", _csv(A, C, B, D), Code.DISORDER,
               "row 3, 2024-01-02T01:00:00Z comes after 2024-01-02T02:00:00Z"),
    BrokenFile("newest_first", "the newest bar at the top", _csv(D, C, B, A), Code.DISORDER,
               "newest bar first"),
    BrokenFile("duplicated", "a row stands twice", _csv(A, B, B, C), Code.DUPLICATE,
               "with its values"),
    BrokenFile("conflicting", "two rows of one time, with two closes",
               _csv(A, B, with_values(B, "1.11", "1.13", "1.10", "1.11", "1"), C), Code.DUPLICATE,
               "1 of them with other values"),
    BrokenFile("repeated_hour", "the hour of October that clocks repeat, without its zone",
               _local("2024-10-27 02:00", "2024-10-27 03:00", "2024-10-27 03:00",
                      "2024-10-27 04:00"),
               Code.AMBIGUOUS_LOCAL_TIME, "happen twice", timezone=ATHENS),
    BrokenFile("skipped_hour", "the hour of March that clocks skip",
               _local("2024-03-31 02:00", "2024-03-31 03:00", "2024-03-31 04:00"),
               Code.NONEXISTENT_LOCAL_TIME, "never happen", timezone=ATHENS),
    BrokenFile("half_without_zone", "stamps with and without a zone",
               _csv(A, B, C.replace("Z", ""), D), Code.MIXED_ZONES, "some do not"),
    BrokenFile("mixed_zones", "stamps of London, Athens and New York",
               _csv(A, B.replace("Z", "+02:00"), C.replace("Z", "-05:00")), Code.MIXED_ZONES,
               "different time zones"),
    BrokenFile("other_timeframe", "bars of half an hour, read as hours",
               _csv(A, B.replace("01:00", "00:30"), C.replace("02:00", "01:00")),
               Code.WRONG_TIMEFRAME, "most common step is 30m"),
    BrokenFile("empty_stamp", "a row without a time", _csv(A, B[20:], C), Code.NOT_A_TIME,
               "row 2: empty"),
    BrokenFile("clock_alone", "times of day without a day", _csv(A[11:], B[11:]), Code.NOT_A_TIME,
               "cannot be read as times"),
    BrokenFile("no_such_day", "30 February", _csv(A, B.replace("01-02", "02-30")), Code.NOT_A_TIME,
               "row 2: '2024-02-30T01:00:00Z'"),
    BrokenFile("month_or_day", "dates such as 01/02/2024",
               _csv(*(row.replace("2024-01-02T", "01/02/2024 ") for row in ROWS)),
               Code.NOT_A_TIME, "whether the day or the month comes first"),
    BrokenFile("year_9999", "a bar of the year 9999", _csv(A, B.replace("2024", "9999")),
               Code.NOT_A_TIME, "outside the years 1678 to 2261"),
    BrokenFile("year_1", "a bar of the year 1", _csv(A.replace("2024", "0001"), B),
               Code.NOT_A_TIME, "outside the years 1678 to 2261"),
    BrokenFile("mixed_epochs", "epoch stamps in seconds, then in milliseconds",
               _epochs(1704153600, 1704157200, 1704160800000, 1704164400000), Code.NOT_A_TIME,
               "change their unit"),
    BrokenFile("endless_epoch", "an epoch stamp of 31 digits", _epochs(1704153600, 10**30),
               Code.NOT_A_TIME, "so many digits"),
    BrokenFile("text_among_epochs", "`yesterday` among epoch stamps",
               _csv("1704153600,1,1,1,1,1", "yesterday,1,1,1,1,1"), Code.NOT_A_TIME,
               "row 2: 'yesterday'"),
    BrokenFile("parquet_times_in_lists", "a list for a time in a Parquet file",
               _parquet(timestamp=[[1], [2]]), Code.NOT_A_TIME, "holds something else"),
    BrokenFile("parquet_year_9999", "a bar of the year 9999 in a Parquet file",
               _parquet(timestamp=pa.array([1704153600, 253370764800], pa.timestamp("s", "UTC"))),
               Code.NOT_A_TIME, "outside the years 1678 to 2261"),
)  # fmt: skip

BROKEN_FILES = (*_NO_FILE, *_PACKING, *_FORM, *_NUMBERS, *_TIMES)
"""Every file that is refused, by kind."""

_NAIVE = tuple(row.replace("T", " ").replace("Z", "") for row in ROWS)

ODD_FILES = (
    OddFile("byte_order_mark", "a byte order mark before the header",
            _raw(b"\xef\xbb\xbf" + _TEXT), frozenset()),
    OddFile("windows_lines", "lines that end in CR LF",
            _raw(_TEXT.replace(b"\n", b"\r\n")), frozenset()),
    OddFile("no_last_newline", "a last line without its end", _raw(_TEXT[:-1]), frozenset()),
    OddFile("utf16", "UTF-16, as spreadsheets write it",
            _raw(_TEXT.decode().encode("utf-16")), frozenset()),
    OddFile("semicolons", "semicolons and decimal commas",
            _raw(_TEXT.replace(b",", b";").replace(b".", b",")), frozenset()),
    OddFile("gzip_by_another_name", "a gzip file called .csv", _raw(_PACKED), frozenset()),
    OddFile("naive_stamps", "stamps without a zone", _csv(*_NAIVE), frozenset({Code.NAIVE_STAMPS})),
    OddFile("future_stamps", "a bar that opens after now",
            _csv("2027-01-15T08:00:00Z,1,1,1,1,1", "2027-01-15T09:00:00Z,1,1,1,1,1"),
            frozenset({Code.FUTURE_STAMP})),
    OddFile("prices_in_points", "prices in points: 127801 for 1.27801",
            _csv("2024-01-02T00:00:00Z,127801,127830,127790,127815,9",
                 "2024-01-02T01:00:00Z,127815,127840,127800,127820,8"),
            frozenset({Code.PRICES_IN_POINTS})),
    OddFile("zero_volume", "a bar without volume", _second("1.11", "1.13", "1.10", "1.12", "0"),
            frozenset({Code.ZERO_VOLUME})),
)  # fmt: skip
"""Files that are read, and what is said about them."""
